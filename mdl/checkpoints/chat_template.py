"""Chat templates, rendered in a process of their own that has bounds in time, memory and length."""

import atexit
import datetime
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from mdl.json_files import text

TEMPLATE = text(1 << 18)  # what a template may be
SECONDS = 10  # of processor time, for one text
MEMORY = 1 << 30  # bytes of address space
MOST_TEXT = 1 << 24  # characters of one text
_CHILD = pathlib.Path(__file__).with_name("template_process.py")


class _Renderer:
    """The process, started when it is first needed and again after it was ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, request: Mapping[str, Any]) -> dict[str, str]:
        """The reply to a request; an error where the process was ended."""
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-B", str(_CHILD), str(SECONDS), str(MEMORY), str(MOST_TEXT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
                return json.loads(self._process.stdout.readline())
            except (OSError, ValueError):
                self.close()
                return {"error": f"it was stopped; it may take {SECONDS} s and {MEMORY >> 20:,} MiB"}
            except BaseException:
                self.close()  # its reply is not going to be read
                raise

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _forget(self) -> None:
        self._lock, self._process = threading.Lock(), None


_renderer = _Renderer()


def render(template: str, date: datetime.date, **values: Any) -> str:
    """The text that a template makes.

    Args:
        template: Jinja source, in the dialect of transformers.
        date: what a template that asks for today's date is told.
        **values: what it can name, as JSON: messages, special tokens, switches.

    Raises:
        ValueError: the template fails, is too long, or takes more time or memory or writes more than it may.
    """
    if not TEMPLATE.fits(template):
        raise ValueError(f"the chat template has {len(template):,} characters; it must be {TEMPLATE.words}")
    reply = _renderer.ask({"template": template, "values": values, "date": date.isoformat()})
    if "error" in reply:
        raise ValueError(f"the chat template fails on this conversation: {reply['error']}")
    return reply["text"]
