"""What is wrong with a binary's flags, in one line that names what may have been meant."""

import re
import sys
from collections.abc import Callable

from absl import app, flags

from mdl.names import meant


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a binary's main function; exits with code 1 and one line where its flags are wrong."""
    app.run(main, flags_parser=_parse)


def told(error: flags.Error) -> str:
    """What an error of the flags' library says, with the names or values that are nearest."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"--{error.flagname}: no such flag{meant(error.flagname, _own())}"
    text = " ".join(str(error).split())
    listed = re.fullmatch(r"flag (--[\w.]+)=(.*): value should be one of <(.*)>", text)
    if listed:
        name, value, values = listed.groups()
        return f"{name}={value}: no such value{meant(value, values.split('|'))}"
    missing = re.fullmatch(r"flag --(\w+)=None: .*", text)
    if missing:
        return f"--{missing[1]} is wanted: {flags.FLAGS[missing[1]].help.splitlines()[0]}"
    return re.sub("^flag (?=--)", "", text)


def _own() -> list[str]:
    """The flags of binaries; those of libraries are possible too, and nobody means them."""
    by_module = flags.FLAGS.flags_by_module_dict()
    ours = lambda module: module == sys.argv[0] or module.startswith(("experiments.", "mdl."))
    return sorted(one.name for module, own in by_module.items() if ours(module) for one in own)


def _parse(arguments: list[str]) -> list[str]:
    if any(re.match("--?help", text) for text in arguments):
        return app.parse_flags_with_usage(arguments)
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        print(f"error: {told(error)}", file=sys.stderr)
        sys.exit(1)
