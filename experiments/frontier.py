"""What every task binary does: measure the searches of a config, then report."""

import dataclasses
import pathlib
import sys
import time

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mdl import measurement, probing, report, results, startup
from mdl.checkpoints import checkpoint as checkpoint_files
from mdl.codes import settings as settings_code
from mdl.machine.programs import MODELLESS
from mdl.methods import METHODS, prompt
from mdl.verification import Setup, VerificationError

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def define_flags(config: str) -> None:
    """Defines --workdir and --config, with this default."""
    flags.DEFINE_string("workdir", None, "Where results, programs and pictures go; a second run resumes there.")
    flags.mark_flag_as_required("workdir")
    flags.DEFINE_bool(
        "allow_scripts",
        None,
        "Run programs that are Python scripts, which need no model; by default as the config says.",
    )
    default = str(_ROOT / config)
    config_flags.DEFINE_config_file("config", default, "A config file, and after a colon its size.", lock_config=True)


def run() -> None:
    """Measures and reports; exits with code 1 and one line on wrong input."""
    try:
        config = flags.FLAGS.config
        measure(config, flags.FLAGS.workdir, flags.FLAGS.allow_scripts)
    except (ValueError, FileNotFoundError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def measure(config: ConfigDict, workdir: str, allow_scripts: bool | None = None) -> None:
    """Runs all searches of a config on all its checkpoints, and its scripts on none, and writes the report."""
    started = time.monotonic()
    startup.start(config.threads)
    searches = [measurement.Search(**one) for search in _searches(config) for one in measurement.grid(search)]
    probe = _plain(config.probe)
    probe["max_tokens"] = probe.get("max_tokens") or config.get("max_tokens", 0)
    probe = settings_code.parse(probing.Settings, probe) if probe.get("examples") else None
    checkpoints = _checkpoints(config)
    setups = [
        Setup(
            **checkpoint,
            task=_plain(config.task),
            dev=config.dev,
            test=config.test,
            batch_size=config.batch_size,
        )
        for checkpoint in checkpoints
    ]
    allowed = config.get("allow_scripts", False) if allow_scripts is None else allow_scripts
    scripts = [search for search in searches if search.method in MODELLESS]
    if scripts and allowed:
        setups.insert(0, dataclasses.replace(setups[0], source="", stage=results.NO_MODEL, seed=0))
    elif scripts:
        logging.info("%d searches for scripts are left out: they are not allowed", len(scripts))
        searches = [search for search in searches if search.method not in MODELLESS]
    record = measurement.Measurement(workdir, allow_scripts=allowed)
    record.measure(setups, searches, verifiers=config.verifiers)
    points = record.points()
    if not points:
        raise ValueError(f"{workdir}: no points: the config names no search that applies to its checkpoints")
    setups = [setup for setup in setups if setup.stage != results.NO_MODEL]
    codelengths = _probe(setups, probe, record.workdir, points) if probe else []
    report.write_csv(record.workdir / "frontier.csv", points, choose_on=config.choose_on)
    report.draw(record.workdir / "frontier.png", points, f"{points[0].task}", choose_on=config.choose_on)
    print(report.table(points, choose_on=config.choose_on))
    if codelengths:
        print(probing.table(codelengths))
    print(report.costs(points, record.searches()))
    logging.info("%d points in %s, %.0f s", len(points), record.results_path, time.monotonic() - started)


def _searches(config: ConfigDict) -> list[dict]:
    """The config's searches, and those that flags name: scripts, and prompts, as they are and in the chat template.

    The config's limit to training examples is that of every search that does not set its own.
    """
    searches = [_plain(search) for search in config.searches]
    named = lambda field: tuple(path.strip() for path in config.get(field, "").split(",") if path.strip())
    if named("scripts"):
        searches.append({"method": "script", "search": {"files": named("scripts"), "constant": False}})
    files = named("prompts")
    if files:
        searches.append({"method": "prompt", "search": {"files": files}})
        chat = {"method": "prompt", "settings": {"chat": True}, "stages": ("posttrained",)}
        searches.append({**chat, "search": {"files": files}})
    for search in searches:
        if config.get("max_tokens", 0) and _cuts(search["method"]):
            search["search"] = {"max_tokens": config.max_tokens} | search["search"]
        if search["method"] == "prompt":  # a file that was edited makes another search, which is not done yet
            _, points = measurement.Search(**search).parsed()
            search["search"]["digests"] = prompt.digests(points.files)
    return searches


def _cuts(method: str) -> bool:
    """Whether a method's search has a limit to training examples."""
    kind = getattr(METHODS.get(method), "Search", None)
    return kind is not None and any(field.name == "max_tokens" for field in dataclasses.fields(kind))


def _checkpoints(config: ConfigDict) -> list[dict]:
    """The config's checkpoints with their sources; a pre-trained one that was not given is left out."""
    found = []
    for checkpoint in map(_plain, config.checkpoints):
        pretrained = checkpoint["stage"] == "pretrained"
        source = checkpoint["source"] or (config.get("pretrained", "") if pretrained else config.source)
        if not source and not pretrained:
            raise ValueError("this config needs a checkpoint: --config.source=DIRECTORY or FILE.gguf")
        if source:
            found.append({**checkpoint, "source": source})
    return found


def _probe(
    setups: list[Setup], settings: probing.Settings, workdir: pathlib.Path, points: list[results.Result]
) -> list[probing.Codelength]:
    """Codelengths of labels given inputs on every checkpoint, with their tables and picture."""
    record = probing.Record(workdir)
    for setup in setups:
        source, task = checkpoint_files.find(setup.source, setup.stage, setup.seed), setup.load_task()
        # Weights are not read again where everything that the points were measured on is probed.
        measured = {
            point.fingerprint for point in points if (point.checkpoint, point.stage) == (source.name, source.stage)
        }
        if not measured or not all(record.has(task, fingerprint, settings) for fingerprint in measured):
            record.measure(setup.load_checkpoint(), task, settings)
    codelengths = record.read()
    probing.write_csv(workdir / "probing.csv", codelengths)
    report.draw_codelengths(workdir / "probing.png", codelengths)
    return codelengths


def _plain(config: ConfigDict) -> dict:
    """A ConfigDict as a dictionary of plain values."""
    return config.to_dict()
