"""The machine's size: the constant that the definition of task complexity leaves open.

    python -m mdl.machine.size

It counts the files of `mdl` that the machine imports, as they are and compressed together, and what the script process
runs. Libraries are free, as in the definition's machine.
"""

import lzma
import pathlib
import subprocess
import sys

import mdl

_LIST = """
import sys
import mdl.machine.running, mdl.machine.worker
for name in sorted(n for n in sys.modules if n.partition(".")[0] == "mdl"):
    if sys.modules[name].__file__:
        print(sys.modules[name].__file__)
"""
_BESIDE = ("decoder.py", "machine/script_process.py", "checkpoints/template_process.py")  # run, not imported


def files() -> list[pathlib.Path]:
    """The machine's source files, found in a process of its own that has imported nothing else."""
    root = pathlib.Path(mdl.__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", _LIST], capture_output=True, text=True, check=True, cwd=root.parent
    ).stdout.split("\n")
    return sorted({pathlib.Path(path) for path in found if path} | {root / name for name in _BESIDE})


def main() -> None:
    """Prints a line a file, and the sums."""
    root, contents = pathlib.Path(mdl.__file__).parent.parent, {path: path.read_bytes() for path in files()}
    for path, content in contents.items():
        print(f"{len(content):8,}  {path.relative_to(root)}")
    together = lzma.compress(b"".join(contents.values()), preset=9 | lzma.PRESET_EXTREME)
    total = sum(map(len, contents.values()))
    print(f"{len(contents)} files, {total:,} bytes, {len(together):,} bytes compressed (xz)")
    script = root / "mdl" / "decoder.py"
    print(f"the script that calls it, {script.relative_to(root)}: {script.stat().st_size} bytes")


if __name__ == "__main__":
    main()
