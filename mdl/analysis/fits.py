"""Curves of performance against examples or bits, none of which is the truth: a power law, a logarithm, a logistic.

| name | performance at x | after |
|---|---|---|
| logarithm | level + slope ln x | 2308.01825 |
| power law | level + slope (x^λ − 1) / λ, λ < 0, which ends at level − slope / λ | 2410.03717 |
| logistic | low + (high − low) / (1 + exp(−rate (ln x − middle))) | Donoway et al., NeurIPS 2025 |

The power law is written as Box & Cox (1964) do, so that the logarithm is its limit λ → 0: a likelihood ratio between
the two tests against saturation. Errors are taken to be normal and independent with the standard error of each score;
scores on the same test examples are not independent, so intervals say little of a level that all share.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from mdl.analysis.complexity import interval_on_test
from mdl.analysis.draws import is_share
from mdl.analysis.frontier import by_stage
from mdl.analysis.intervals import LEVEL
from mdl.results import Result

FEWEST = 5  # distinct places: the logistic has four parameters
_Z = float(scipy.stats.norm.isf((1 - LEVEL) / 2))


@dataclasses.dataclass(frozen=True)
class Fit:
    """One curve through some points.

    Attributes:
        name: of the family.
        parameters: name -> (value, low, high), 95 % by the curvature at the optimum.
        aic: Akaike's criterion, chi² + 2 × parameters, up to a constant that all families share.
        chi2: squared deviations in standard errors; about the number of points less that of parameters if it fits.
        curve: x -> performance.
    """

    name: str
    parameters: dict[str, tuple[float, float, float]]
    aic: float
    chi2: float
    curve: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fits:
    """All families through the same points.

    Attributes:
        fits: those that converged, by increasing AIC.
        saturation: p of a logarithm, which never saturates, against a power law that does; None where one did not
            converge. Small: the curve bends.
        points: how many.
    """

    fits: tuple[Fit, ...]
    saturation: float | None
    points: int


def _logarithm(x, level, slope):
    return level + slope * np.log(x)


def _power_law(x, level, slope, exponent):
    return level + slope * np.expm1(exponent * np.log(x)) / exponent


def _logistic(x, low, rise, rate, middle):
    return low + rise * scipy.special.expit(rate * (np.log(x) - middle))


def fit(x: Sequence[float], y: Sequence[float], errors: Sequence[float]) -> Fits:
    """Fits all families by least squares in standard errors.

    Args:
        x: examples or bits, positive.
        y: performance.
        errors: standard error of each, positive.

    Raises:
        ValueError: fewer than `FEWEST` different x, or numbers that are not positive where they must be.
    """
    x, y, errors = (np.asarray(values, np.float64) for values in (x, y, errors))
    if len(set(x.tolist())) < FEWEST:
        raise ValueError(f"{len(set(x.tolist()))} different places; a fit needs {FEWEST}")
    if not ((x > 0).all() and (errors > 0).all()):
        raise ValueError("a fit in the logarithm needs positive places and positive errors")
    logs = np.log(x)
    slope, level = np.polyfit(logs, y, 1, w=1 / errors)
    span, middle = max(float(np.ptp(y)), 1e-3), float(np.mean(logs))
    families = {
        "logarithm": (_logarithm, ("level", "slope"), [(level, slope)], (-math.inf, math.inf)),
        "power law": (_power_law, ("level", "slope", "exponent"), None, None),
        "logistic": (
            _logistic,
            ("low", "rise", "rate", "middle"),
            [(float(y.min()), span, rate, at) for rate in (0.5, 2.0) for at in (middle, float(logs[np.argmax(y)]))],
            ((-math.inf, 0.0, 1e-3, -math.inf), (math.inf, math.inf, 100.0, math.inf)),
        ),
    }
    found = {}
    for name, (curve, names, starts, bounds) in families.items():
        one = _power_law_optimum(x, y, errors) if starts is None else _best(curve, starts, bounds, x, y, errors)
        if one is not None:
            values, chi2 = one
            variances = np.diag(_covariance(curve, values, x, errors))
            moved = _Z * np.sqrt(np.where(variances >= 0, variances, math.inf))  # below: the points say nothing of it
            parameters = {n: (v, v - m, v + m) for n, v, m in zip(names, values.tolist(), moved.tolist(), strict=True)}
            bound = lambda at, curve=curve, values=values: curve(np.asarray(at, np.float64), *values)
            found[name] = Fit(name, parameters, chi2 + 2 * len(names), chi2, bound)
    saturation = None
    if {"logarithm", "power law"} <= set(found):
        gained = max(found["logarithm"].chi2 - found["power law"].chi2, 0.0)
        # Half: the logarithm lies on the border of the power laws that saturate (Self & Liang 1987).
        saturation = float(scipy.stats.chi2.sf(gained, 1)) / 2
    return Fits(tuple(sorted(found.values(), key=lambda one: one.aic)), saturation, len(x))


def _best(curve, starts, bounds, x, y, errors) -> tuple[np.ndarray, float] | None:
    """The best optimum from several starts: values and chi²; None where none converged."""
    best = None
    for start in starts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a covariance, which is computed elsewhere
                values, _ = scipy.optimize.curve_fit(curve, x, y, p0=start, sigma=errors, bounds=bounds, maxfev=500)
        except (RuntimeError, ValueError):
            continue
        chi2 = float(np.sum(((y - curve(x, *values)) / errors) ** 2))
        if math.isfinite(chi2) and (best is None or chi2 < best[1] - 1e-9):
            best = values, chi2
    return best


def _power_law_optimum(x, y, errors) -> tuple[np.ndarray, float]:
    """The power law's optimum: for each exponent the rest is linear, so one number is searched, from -5 to 0."""

    def at(exponent: float) -> tuple[np.ndarray, float]:
        design = np.stack([np.ones_like(x), np.expm1(exponent * np.log(x)) / exponent], axis=1) / errors[:, None]
        linear = np.linalg.lstsq(design, y / errors, rcond=None)[0]
        return np.array([*linear, exponent]), float(np.sum((y / errors - design @ linear) ** 2))

    grid = -np.geomspace(1e-6, 5.0, 60)
    best = min(range(len(grid)), key=lambda k: at(grid[k])[1])
    around = (grid[min(best + 1, len(grid) - 1)], grid[max(best - 1, 0)])
    found = scipy.optimize.minimize_scalar(lambda e: at(e)[1], bounds=around, method="bounded").x
    return min(at(float(found)), at(grid[best]), key=lambda one: one[1])


def _covariance(curve, values, x, errors) -> np.ndarray:
    """Of the parameters, by the curvature of chi² at the optimum (Gauss and Newton's)."""
    jacobian = scipy.optimize.approx_fprime(values, lambda v: curve(x, *v) / errors, 1e-7)
    return np.linalg.pinv(jacobian.T @ jacobian)


def of_methods(of_task: Iterable[Result], against: str) -> dict[str, Fits]:
    """Fits of every method of every group that has points enough; label and method -> fits.

    Args:
        of_task: points of one task.
        against: "examples" or "bits".
    """
    found = {}
    for label, group in by_stage(of_task).items():
        share = is_share(group)
        for method in sorted({r.method for r in group}):
            points = [r for r in group if r.method == method and _place(r, against) > 0]
            errors = [np.subtract(*interval_on_test(r, share)[::-1]) / (2 * _Z) for r in points]
            if len({_place(r, against) for r in points}) >= FEWEST and min(errors) > 0:
                places = [_place(r, against) for r in points]
                found[f"{label} {method}"] = fit(places, [r.performance for r in points], errors)
    return found


def _place(r: Result, against: str) -> float:
    return r.bits["total"] if against == "bits" else r.examples


def rows(of_task: Sequence[Result]) -> list[list[str]]:
    """Fits of one task as rows of text, a header first: each curve, its parameters, and how it compares."""
    table = [["performance of", "against", "curve", "parameters, 95 %", "AIC above the best", "saturates, p"]]
    for against in ("examples", "bits"):
        for name, fits in of_methods(of_task, against).items():
            for one in fits.fits:
                told = ", ".join(f"{n} {_with_ends(*ends)}" for n, ends in one.parameters.items())
                p = "not tested" if fits.saturation is None else f"{fits.saturation:.2g}"
                above = f"{one.aic - fits.fits[0].aic:.1f}"
                table.append([f"{name}, {fits.points} points", against, one.name, told, above, p])
    return table


def _with_ends(value: float, lo: float, hi: float) -> str:
    return f"{value:.3g} [{lo:.3g}, {hi:.3g}]" if math.isfinite(hi - lo) else f"{value:.3g} [not determined]"
