"""The machine: program bytes, a checkpoint and prompts in, answers out. It knows no task.

What a program's length leaves open is this package and what it imports of `mdl`, a constant for all programs:
`python -m mdl.machine.size` prints it. `run` is all that the counted script calls, that verification calls in a
process of its own, and that a reader of a program needs.
"""


def run(*arguments, **options):
    """Decodes a program and writes its answers: `mdl.machine.running.run`; what is wrong ends it in one line."""
    from mdl.machine import running  # here, since methods import the file format from this package

    try:
        running.run(*arguments, **options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
