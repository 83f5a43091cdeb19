"""Binaries: `python -m experiments.NAME`.

One that is stopped says so in one line, even while it still imports its libraries.
"""

import sys

from mdl.stopping import stop_in_one_line

if sys.argv[:1] == ["-m"]:  # Python looks for the binary that it was told to run; a mere import changes nothing
    stop_in_one_line()
