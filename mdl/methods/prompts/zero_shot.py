"""zero_shot: the task's prompt as it is, to the checkpoint as it is; or in the checkpoint's own chat format."""

import dataclasses

from mdl.codes import settings as settings_code
from mdl.methods.method import Encoded, Prompting, finish, prompted

Settings = Prompting


def _run(coder, checkpoint, settings):
    return prompted(checkpoint, "", settings_code.code(coder, Settings, settings))


def encode(coder, checkpoint, task, settings, search):
    """Yields the one program of these settings."""
    del task, search
    adapted = _run(coder, checkpoint, settings)
    yield Encoded(finish("zero_shot", coder, coder.bits), adapted, dataclasses.asdict(settings))


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None)
