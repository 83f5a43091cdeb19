"""The process in which chat templates are rendered: `python -P template_process.py SECONDS BYTES CHARACTERS`.

A template comes with a checkpoint and is not trusted. Each line of standard input is a request, `{"template": …,
"values": {…}, "date": "2024-07-26"}`; each line of standard output is `{"text": …}` or `{"error": …}`. What takes more
processor time than it may is ended by the kernel, what takes more memory gets none, and what writes more is stopped.
"""

import datetime
import functools
import json
import resource
import signal
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant wrote, for training; in a text it is nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True), lineno=line)


def _refuse(message):
    raise jinja2.TemplateError(message)


def _json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.lru_cache(8)
def _compiled(source: str) -> jinja2.Template:
    """As transformers compiles it; the clock is not the machine's."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _json
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(source)


def _render(template: str, values: dict, date: str, most: int) -> dict[str, str]:
    clock = datetime.datetime.fromisoformat(date)
    pieces, length = [], 0
    try:
        for piece in _compiled(template).generate(strftime_now=clock.strftime, **values):
            length += len(piece)
            if length > most:
                return {"error": f"its text is longer than {most:,} characters"}
            pieces.append(piece)
        return {"text": "".join(pieces)}
    except MemoryError:
        return {"error": "it takes more memory than it may"}
    except Exception as error:  # noqa: BLE001 (a template can raise anything)
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def _main(seconds: str, memory: str, most: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of its input ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    except (OSError, ValueError):  # macOS has no such limit: there the time is the bound
        pass
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # its signal ends the process
        reply = _render(**json.loads(line), most=int(most))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
