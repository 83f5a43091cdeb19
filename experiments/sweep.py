"""A task binary's work divided between workers, as jobs of `submitit`: processes here, or an array of a Slurm cluster.

    python -m experiments.sweep --workers=3 -- experiments.gsm8k --workdir=DIR --config=configs/gsm8k.py:methods
    python -m experiments.sweep --workers=8 --cluster=slurm --timeout_min=600 \
        --slurm=slurm_partition=gpu,gpus_per_node=1,cpus_per_task=8 -- experiments.gsm8k --workdir=DIR …

Behind `--` stands what would be run alone. Each worker runs it with `--share=i/n`, in a directory of its own under
`DIR/runs`; `DIR/plan.jsonl` says who does what, and `DIR/jobs` has the jobs' logs. Once all have ended, the report is
that of the one command. Given again it goes on where workers were stopped; a job that runs out of its time is queued
again by itself, and goes on as well. Without submitit, start the workers by hand: the same command with `--share=1/3`,
`--share=2/3` and `--share=3/3`, anywhere that sees DIR, and `--phase=report` at the end.
"""

import importlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

from absl import flags

from experiments import flagged, phases

_WORKERS = flags.DEFINE_integer("workers", 2, "Jobs that share the work.", lower_bound=1)
_CLUSTER = flags.DEFINE_enum("cluster", "local", ("local", "slurm"), "Where they run: processes here, or Slurm jobs.")
_TIMEOUT = flags.DEFINE_integer("timeout_min", 24 * 60, "Minutes that a job has before it is queued again.")
_GRACE = flags.DEFINE_integer("grace_s", 120, "Seconds before that in which it saves what it has done.", lower_bound=1)
_SLURM = flags.DEFINE_list("slurm", [], "NAME=VALUE of submitit's executor, such as slurm_partition=gpu.")


class Worker:
    """What a job does: a command, in a process that is told to stop when the job is.

    Args:
        command: the command line.
        folder: where it runs.
    """

    def __init__(self, command: Sequence[str], folder: str):
        self.command, self.folder = list(command), folder

    def __call__(self) -> int:
        """Runs the command; returns its exit code."""
        self._process = phases.start(self.command, cwd=self.folder)
        signal.signal(signal.SIGTERM, lambda *_: self._process.terminate())
        return phases.wait(self._process)

    def checkpoint(self):
        """submitit calls it before the time is over: the command saves what it has done, and is queued again."""
        from submitit.helpers import DelayedSubmission

        self._process.terminate()
        self._process.wait()
        return DelayedSubmission(Worker(self.command, self.folder))


def main(arguments: list[str]) -> None:
    """Submits, waits and reports; exits with code 1 and one line on wrong input."""
    try:
        sweep(arguments[1:])
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


def sweep(command: Sequence[str]) -> None:
    """Runs a command by several workers.

    Args:
        command: module and flags of a task binary.

    Raises:
        ValueError: it is none, or a worker failed.
    """
    command, workdir = _checked(command)
    executor = _executor(workdir / "jobs")
    number = _WORKERS.value
    workers = [Worker([*command, f"--share={i}/{number}"], os.getcwd()) for i in range(1, number + 1)]
    with executor.batch():  # one array
        jobs = [executor.submit(worker) for worker in workers]
    print(f"{number} workers: {', '.join(job.job_id for job in jobs)}; logs in {workdir / 'jobs'}", flush=True)
    try:
        failed = [i for i, job in enumerate(jobs, start=1) if _code(job)]
    except BaseException:
        _stop(jobs)
        raise
    reported = subprocess.run([*command, "--phase=report"]).returncode
    if failed:
        log = jobs[failed[0] - 1].paths.stderr
        raise ValueError(f"workers {', '.join(map(str, failed))} of {number} failed; see {log}, and give this again")
    sys.exit(reported)


def _checked(command: Sequence[str]) -> tuple[list[str], pathlib.Path]:
    """The command as it is started, and its --workdir."""
    found = [re.fullmatch(r"--?workdir=(.+)", text) for text in command]
    named = [match[1] for match in found if match]
    if not command or not re.fullmatch(r"[\w.]+", command[0]) or not named:
        raise ValueError("after --, a task binary with its flags is wanted: -- experiments.gsm8k --workdir=DIR …")
    if any(re.match(r"--?(share|phase)\b", text) for text in command):
        raise ValueError("--share and --phase are given to the workers by the sweep; leave them out")
    return [sys.executable, "-m", *command], pathlib.Path(named[-1])


def _executor(folder: pathlib.Path):
    """submitit's executor with what the flags say."""
    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise ValueError("submitit is not installed: pip install 'mdl-frontier[sweeps]', or use --share") from None
    given = dict(re.fullmatch(r"(\w+)=(.*)", text).groups() for text in _SLURM.value if re.fullmatch(r"\w+=.*", text))
    if len(given) < len(_SLURM.value):
        raise ValueError(f"--slurm={','.join(_SLURM.value)}: NAME=VALUE,NAME=VALUE is wanted")
    given = {name: int(value) if value.isdecimal() else value for name, value in given.items()}
    try:
        executor = submitit.AutoExecutor(folder, cluster=_CLUSTER.value, slurm_max_num_timeout=1000)
        executor.update_parameters(timeout_min=_TIMEOUT.value, slurm_signal_delay_s=_GRACE.value, **given)
    except (RuntimeError, NameError, TypeError) as error:  # no Slurm here, or a parameter that it does not have
        raise ValueError(str(error)) from None
    return executor


def _code(job) -> int:
    """Waits for a job; the exit code of its command, or 1 where it has none."""
    import submitit

    try:
        return job.result()
    except submitit.core.utils.UncompletedJobError:
        return 1


def _stop(jobs) -> None:
    """Jobs here are ended with this process, once they have saved what they did; a cluster's are not."""
    if _CLUSTER.value == "slurm":
        told = shlex.join(["scancel", *(job.job_id for job in jobs)])
        print(f"the jobs go on; {told} ends them", file=sys.stderr)
        return
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # which passes it on
    for job in jobs:
        _code(job)


if __name__ == "__main__":
    flagged.run(main)
