"""What every task binary does: measure the searches of a config, then report."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments import overrides, phases, usage
from experiments.configs.base import GIVEN
from mdl import (
    directories,
    distributed,
    encoding,
    measurement,
    plan,
    probing,
    progress,
    results,
    resuming,
    scalars,
    sharding,
    startup,
    tasks,
)
from mdl.checkpoints import checkpoint as checkpoint_files
from mdl.checkpoints import hub
from mdl.codes import settings as settings_code
from mdl.files import told
from mdl.machine.programs import MODELLESS
from mdl.methods import METHODS
from mdl.methods.parametric import adapter
from mdl.methods.prompts import prompt
from mdl.names import meant
from mdl.tasks import harness
from mdl.verification import Setup
from mdl.workdir import Workdir

_CHECKPOINT = ("source", "stage", "seed", "dtype")  # fields of a config's checkpoint


def define_flags(default: str) -> None:
    """Defines the flags of a binary; --config has this default."""
    flags.DEFINE_string("workdir", None, "Where results, programs and pictures go; a second run resumes there.")
    flags.mark_flag_as_required("workdir")
    flags.DEFINE_bool(
        "allow_scripts",
        None,
        "Run programs that are Python scripts, which need no model; by default as the config says.",
    )
    flags.DEFINE_enum(
        "phase", "all", phases.PHASES, "What of a run is done: a job of its own each, in this order, or all of it."
    )
    flags.DEFINE_bool(
        "beside", None, "Verify programs beside the encoder, rather than after it; by default on a CPU only."
    )
    flags.DEFINE_bool("scalars", False, "Keep losses and progress in WORKDIR/scalars.jsonl.")
    flags.DEFINE_string(
        "share", "", "The part of one of several workers, such as 2/3, which share --workdir; see experiments.sweep."
    )
    flags.DEFINE_string(
        "distributed",
        "",
        "This is one of several processes: auto (TPU pods, Slurm, Kubernetes), or HOST:PORT,PROCESSES,PROCESS.",
    )
    config_flags.DEFINE_config_file("config", default, "A config file, and after a colon its size.", lock_config=True)


def main(name: str) -> None:
    """A whole binary, which measures what its config, or the one that a flag names, says.

    Args:
        name: of the binary and of its config.
    """
    file = str(overrides.CONFIGS / f"{name}.py")
    default = f"{file}:tiny"
    sys.argv[1:] = overrides.resolved(sys.argv[1:], file)
    with overrides.in_one_line(default):
        define_flags(default)

    def parse(arguments: list[str]) -> list[str]:
        if usage.asked(arguments):
            print(usage.screen(name, arguments, default))
            sys.exit(0)
        with overrides.in_one_line(default):
            overrides.check_named(arguments)
            return flags.FLAGS(arguments)

    app.run(lambda _: run(), flags_parser=parse)


def run() -> None:
    """Measures and reports; exits with code 1 and one line on wrong input."""
    try:
        given = config_flags.get_override_values(flags.FLAGS["config"])
        asked = flags.FLAGS
        share = plan.Share.parse(asked.share) if asked.share else None
        place = distributed.Place.parse(asked.distributed)
        how = {"share": share, "place": place, "keeps_scalars": asked.scalars}
        measure(asked.config, asked.workdir, asked.allow_scripts, given, asked.phase, asked.beside, **how)
    except (ValueError, OSError, distributed.Missing) as error:
        text = told(error) if isinstance(error, OSError) else error
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def measure(
    config: ConfigDict,
    workdir: str,
    allow_scripts: bool | None = None,
    given: Mapping[str, Any] | None = None,
    phase: str = "all",
    beside: bool | None = None,
    share: plan.Share | None = None,
    place: distributed.Place | None = None,
    keeps_scalars: bool = False,
) -> None:
    """Runs all searches of a config on all its checkpoints, and its scripts on none, and writes the report.

    Args:
        config: of `experiments.configs.base.config`.
        workdir: where to.
        allow_scripts: run scripts; as the config says where None.
        given: fields of the config that flags set.
        phase: of `phases.PHASES`: all of it, or one part.
        beside: verify programs beside the encoder; where None, on a CPU only. Else the whole run's encoding phase is a
            process of its own, and this one never takes hold of a device.
        share: the part of one of several workers, which writes no report; all of it where None.
        place: among the processes that compute together, which must all run this; process 0 writes. Each phase is then
            a process of its own on every host, and programs are verified in the second one itself.
        keeps_scalars: see `mdl.scalars`.
    """
    started = time.monotonic()
    phases.end_with_caller()
    allowed = config.get("allow_scripts", False) if allow_scripts is None else allow_scripts
    _check_named(config)
    _check_used(config, given or {}, allowed)
    _tell_of_the_example(config, given or {})
    if place is not None and phase == "all":
        phases.elsewhere("encode", place.first)
        phases.elsewhere("verify", place.first)
        return
    if phase != "report":
        distributed.start(place)
    if distributed.count() > 1:
        resuming.listener = progress.Passing()
    startup.start(config.threads)
    layout = sharding.Layout.parse(config.mesh) if config.get("mesh", "") else None
    if layout is not None:
        os.environ[sharding.VARIABLE] = str(layout)
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
    if phase in ("all", "encode"):
        _look_through(setups)
    scripts = [search for search in searches if search.method in MODELLESS]
    if scripts and allowed:
        setups.insert(0, dataclasses.replace(setups[0], source="", stage=results.NO_MODEL, seed=0))
    elif scripts:
        logging.info("%d searches for scripts are left out: they are not allowed", len(scripts))
        searches = [search for search in searches if search.method not in MODELLESS]
    verify, shared = config.get("verify", "all"), {}
    measurement.check_choices(verify, config.choose_on)
    if share is not None and phase != "report":
        divided = plan.lines(setups, searches, share.workers, verify)
        plan.write(pathlib.Path(workdir), divided)
        shared = {"run": share.run, "only": plan.taken(divided, share.worker)}
    shared["budget"] = config.get("budget", 0.0)
    if "save" in config:
        shared["saving"] = encoding.Saving(**_plain(config.save))
    if phase == "report":
        _publish(Workdir(workdir).load(), config.choose_on)
        return
    accelerated = phase != "encode" and place is None and phases.accelerated()
    apart = phase == "all" and (accelerated if beside is None else not beside)
    if apart:
        phases.elsewhere("encode")
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.together())
        where = stack.enter_context(directories.directory(workdir))
        measured = measurement.Measurement(where, allow_scripts=allowed, **shared)
        measured.load(setups)
        record, how = measured.record, (verify, config.choose_on)
        stack.enter_context(record.hold())
        if keeps_scalars:
            scalars.keep(record.path)
            stack.callback(scalars.keep, None)
        if apart or phase == "verify":
            measured.verify(setups, 1 if accelerated else config.verifiers)  # one process at a time has the device
        else:
            sharding.start()
            if phase == "encode":
                measured.encode(setups, searches, *how)
            else:
                measured.measure(setups, searches, config.verifiers, *how)
            probed = [setup for setup in setups if setup.stage != results.NO_MODEL]
            _probe(probed[share.worker - 1 :: share.workers] if share else probed, probe, record)
        whole = phase == "all" or (distributed.count() > 1 and phase == "verify" and distributed.writes())
        if whole and share is None:
            _publish(record, config.choose_on)
        logging.info("%d points in %s, %.0f s", len(record.points()), record.results_path, time.monotonic() - started)


def _look_through(setups: Sequence[Setup]) -> None:
    """Raises ValueError where a checkpoint is not there or its files are cut: before anything is measured."""
    for setup in setups:
        found = checkpoint_files.find(setup.source, setup.stage, setup.seed)
        if setup.stage != "random":
            found.stored_dtype()  # looks through the files of weights


def _publish(record: Workdir, choose_on: str) -> None:
    from experiments.published import publish  # here: it loads what draws, and a phase that only computes draws nothing

    publish(record, choose_on)


def _check_named(config: ConfigDict) -> None:
    """Raises ValueError where a checkpoint or a search of a config has a field that there is none of, or lacks one."""
    if "name" not in config.task:
        raise ValueError(f"the config's task has no name{meant('', tasks.TASKS)}")
    searched = {field.name for field in dataclasses.fields(measurement.Search)}
    for what, own, known, needed in (
        ("checkpoint", config.checkpoints, _CHECKPOINT, _CHECKPOINT[:3]),
        ("search", config.searches, sorted(searched), ("method",)),
    ):
        for number, one in enumerate(own, start=1):
            for name in one:
                if name not in known:
                    raise ValueError(f"{what} {number} of the config: no such field {name!r}{meant(name, known)}")
            for name in needed:
                if name not in one:
                    raise ValueError(f"{what} {number} of the config has no {name}; it needs {' and '.join(needed)}")


def _check_used(config: ConfigDict, given: Mapping[str, Any], allowed: bool) -> None:
    """Raises ValueError for a flag that says something which this config does not use."""
    own = [checkpoint for checkpoint in map(_plain, config.checkpoints) if not checkpoint["source"]]
    stages = {checkpoint["stage"] for checkpoint in own}
    what = "this config has checkpoints of its own and does not use it; take a size that does, such as smollm2_135m"
    if config.source and not stages - {"pretrained"}:
        raise ValueError(f"--config.source={config.source}: {what}, or leave it out")
    if config.get("pretrained", "") and "pretrained" not in stages:
        raise ValueError(f"--config.pretrained={config.pretrained}: {what}, or leave it out")
    if config.get("scripts", "") and not allowed:
        raise ValueError(f"--config.scripts={config.scripts}: scripts are not allowed here; add --allow_scripts")
    if str(config.task.get("data", "")).startswith(harness.PREFIX):
        unused = [n for n in given if n.startswith("task.") and n.removeprefix("task.") not in harness.USED]
        if unused:
            raise ValueError(f"--config.{unused[0]}: a task of lm_eval says this itself; leave it out")
    probed = [name for name in given if name.startswith("probe.")]
    if probed and not config.probe.get("examples"):
        raise ValueError(
            f"--config.{probed[0]}: nothing is probed here; add --config.probe.examples=N, or leave it out"
        )


def _tell_of_the_example(config: ConfigDict, given: Mapping[str, Any]) -> None:
    """Warns where rows of one's own are read as the shipped example's are."""
    data = str(given.get("task.data", ""))
    if config.task.name == "custom" and data and not data.startswith(harness.PREFIX):
        left = {name: config.task[name] for name in ("template", "completion") if f"task.{name}" not in given}
        if left:
            told = ", ".join(f"--config.task.{name}={value!r}" for name, value in left.items())
            logging.warning("rows of %s are read as the config reads its own: %s", data, told)


def _searches(config: ConfigDict) -> list[dict]:
    """The config's searches, and those that flags name: scripts, adapters, and prompts, as they are and in a chat.

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
    if named("adapters"):
        trained = ("pretrained", "midtrained", "posttrained")
        searches.append({"method": "adapter", "stages": trained, "search": {"directories": named("adapters")}})
    for search in searches:
        if config.get("max_tokens", 0) and _cuts(search["method"]):
            search["search"] = {"max_tokens": config.max_tokens} | search["search"]
        if search["method"] == "prompt":  # a file that was edited makes another search, which is not done yet
            _, points = measurement.Search(**search).parsed()
            search["search"]["digests"] = prompt.digests(points.files)
        if search["method"] == "adapter":
            _, points = measurement.Search(**search).parsed()
            search["search"]["digests"] = adapter.digests(points.directories)
    return searches


def _cuts(method: str) -> bool:
    """Whether a method's search has a limit to training examples."""
    kind = getattr(METHODS.get(method), "Search", None)
    return kind is not None and any(field.name == "max_tokens" for field in dataclasses.fields(kind))


def _checkpoints(config: ConfigDict) -> list[dict]:
    """The config's checkpoints with their sources; a pre-trained one that was not given is left out.

    A source of several revisions, `owner/name@r1,r2`, is a checkpoint each; at random they are one.
    """
    found = []
    for checkpoint in map(_plain, config.checkpoints):
        pretrained = checkpoint["stage"] == "pretrained"
        source = checkpoint["source"] or (config.get("pretrained", "") if pretrained else config.source)
        if checkpoint["stage"] == GIVEN:
            checkpoint["stage"] = config.stage
        if not source and not pretrained:
            raise ValueError("this config needs a checkpoint: --config.source=DIRECTORY or FILE.gguf")
        revisions = hub.revisions(source) if source else []
        for one in revisions[:1] if checkpoint["stage"] == "random" else revisions:
            found.append({**checkpoint, "source": one})
    return found


def _probe(setups: Sequence[Setup], settings: probing.Settings | None, workdir: Workdir) -> None:
    """Codelengths of labels given inputs on every checkpoint, if they are wanted."""
    if settings is None:
        return
    record, points = probing.Record(workdir.path, workdir.other_paths), workdir.points()
    for setup in setups:
        source, task = checkpoint_files.find(setup.source, setup.stage, setup.seed), setup.load_task()
        # Weights are not read again where everything that the points were measured on is probed.
        measured = {
            point.fingerprint for point in points if (point.checkpoint, point.stage) == (source.name, source.stage)
        }
        if not measured or not all(record.has(task, fingerprint, settings) for fingerprint in measured):
            record.measure(setup.load_checkpoint(), task, settings)


def _plain(config: ConfigDict) -> dict:
    """A ConfigDict as a dictionary of plain values."""
    return config.to_dict()
