"""Each family recovers itself, and is preferred on its own data."""

import numpy as np
import pytest
from test_results import make_result

from mdl.analysis import fits

X = 2.0 ** np.arange(3, 16)
TRUE = {
    "logarithm": 0.1 + 0.05 * np.log(X),
    "power law": 0.1 + 0.2 * (X**-0.4 - 1) / -0.4,
    "logistic": 0.1 + 0.7 / (1 + np.exp(-1.2 * (np.log(X) - 6))),
}


def noisy(name, error=0.01, seed=0):
    return TRUE[name] + error * np.random.default_rng(seed).standard_normal(len(X)), np.full(len(X), error)


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("logarithm", {"level": 0.1, "slope": 0.05}),
        ("power law", {"level": 0.1, "slope": 0.2, "exponent": -0.4}),
        ("logistic", {"low": 0.1, "rise": 0.7, "rate": 1.2, "middle": 6}),
    ],
)
def test_a_family_recovers_itself_and_is_preferred_or_nearly(name, true):
    found = fits.fit(X, *noisy(name))
    own = next(one for one in found.fits if one.name == name)
    assert own.aic <= found.fits[0].aic + (4 if name == "logarithm" else 0)  # it is the limit of another
    assert found.points == 13
    assert {one.name for one in found.fits} == set(TRUE)
    for parameter, value in true.items():
        estimate, lo, hi = own.parameters[parameter]
        assert lo <= value <= hi and lo < estimate < hi
    assert own.curve([64.0]) == pytest.approx(np.interp(64.0, X, TRUE[name]), abs=0.02)
    assert [one.aic for one in found.fits] == sorted(one.aic for one in found.fits)
    assert own.chi2 == pytest.approx(len(X), abs=12)


def test_intervals_cover():
    hits = 0
    for seed in range(60):
        parameters = {one.name: one.parameters for one in fits.fit(X, *noisy("logarithm", seed=seed)).fits}
        _, lo, hi = parameters["logarithm"]["slope"]
        hits += lo <= 0.05 <= hi
    assert 51 <= hits <= 60  # 57 of 60 are expected


def test_saturation_is_found_where_it_is_and_not_where_it_is_not():
    assert fits.fit(X, *noisy("power law")).saturation < 1e-6
    p = [fits.fit(X, *noisy("logarithm", seed=seed)).saturation for seed in range(20)]
    assert np.mean(np.array(p) < 0.05) <= 0.2 and max(p) == pytest.approx(0.5, abs=1e-3)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="4 different places"):
        fits.fit(X[:4], TRUE["logarithm"][:4], np.ones(4))
    with pytest.raises(ValueError, match="positive"):
        fits.fit(X - 8, TRUE["logarithm"], np.ones(13))


def test_methods_with_points_enough_have_a_row_a_family():
    n = 1000
    points = [
        make_result(100.0 * x, round(y * n) / n, 0.5, key=str(x), n=n, examples=int(x), method="lora")
        for x, y in zip(X, TRUE["logistic"], strict=True)
    ]
    points += [make_result(10.0 * k, 0.5, key=f"icl{k}", method="icl", examples=k) for k in (1, 2)]
    rows = fits.rows(points)
    assert len(rows) == 1 + 2 * 3 and {row[0] for row in rows[1:]} == {"pretrained lora, 13 points"}
    assert {row[1] for row in rows[1:]} == {"examples", "bits"}
    assert rows[1][2] == "logistic" and rows[1][4] == "0.0" and "rise 0." in rows[1][3]


def test_what_the_points_say_nothing_of_is_told_so(monkeypatch):
    """A variance that comes out below nothing, as where a logistic does not rise, gives no interval."""
    points = [make_result(1000.0 * 2**k, 0.1 * k, method="lora", key=f"k{k}", n=100) for k in range(8)]
    monkeypatch.setattr(
        fits, "_covariance", lambda curve, values, x, errors: np.diag([1e-4, *-np.ones(len(values) - 1)])
    )
    (told,) = [row for row in fits.rows(points) if row[1:3] == ["bits", "logarithm"]]
    level, slope = told[3].split(", slope ")
    assert "nan" not in told[3] and level.startswith("level ") and slope.endswith(" [not determined]")
    assert "not determined" not in level
