"""Runs a script program in a process of its own, with limits and without network, files or other processes."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from mdl.machine.answering import Input
from mdl.machine.programs import ProgramError, printable

SECONDS = 60  # of processor time, and twice that by the clock
MEMORY = 1 << 30  # bytes
_CHILD = pathlib.Path(__file__).with_name("script_process.py")


def run_script(source: str, inputs: Sequence[Input], *, seconds: int = SECONDS, memory: int = MEMORY) -> list[str]:
    """What a script answers.

    Args:
        source: Python; see `mdl.methods.script`.
        inputs: what it is asked.
        seconds: of processor time for all inputs together, and twice that by the clock.
        memory: bytes of address space.

    Returns:
        One text an input; "" where the script raised an exception.

    Raises:
        ProgramError: the script is no Python, took more than it may, or ended its process.
    """
    job = {"source": source, "inputs": [[each.prompt, list(each.options)] for each in inputs]}
    limits = [str(seconds), str(memory)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", str(_CHILD), *limits],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=2 * seconds,
            env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"the script was stopped after {2 * seconds} s; it may take {seconds} s") from None
    try:
        answers = json.loads(done.stdout)
        whole = isinstance(answers, list) and len(answers) == len(inputs) and all(isinstance(a, str) for a in answers)
    except ValueError:
        whole = False
    if not whole:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        why = printable(last[0], 200) if last else "it took more time or memory than it may"
        raise ProgramError(f"the script ended with code {done.returncode}: {why} (limits: {seconds} s, {memory} bytes)")
    return answers
