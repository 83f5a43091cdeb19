"""What pages say with a number that nobody measured: constants of the code, held against it, and settings."""

import functools
import importlib
import re

CONSTANTS = {  # words of a page -> places in the code, and what is to be there
    "0.5 % + 64 bits": {"mdl.analysis.frontier:ESTIMATE_SHARE": 0.005, "mdl.analysis.frontier:ESTIMATE_BITS": 64},
    "integer probabilities of 20 bits": {"mdl.codes.arithmetic:PRECISION": 20},
    "No symbol can cost more than 20 bits": {"mdl.codes.arithmetic:PRECISION": 20},
    "24-bit integer probabilities": {"mdl.codes.coder:_PRECISION": 24},
    "1,024 bytes of implied zeros": {"mdl.codes.limits:IMPLIED_BYTES": 1024},
    "1,024, and one more for each bit that was read; epochs 1,000": {
        "mdl.codes.limits:FREE_EXAMPLES": 1024,
        "mdl.codes.limits:EXAMPLES_A_BIT": 1,
        "mdl.codes.limits:EPOCHS": 1000,
    },
    "memory of 1 GiB, or 32 times the checkpoint's weights": {
        "mdl.codes.limits:_LEAST_MEMORY": 1 << 30,
        "mdl.codes.limits:_WEIGHTS": 32,
    },
    "2^20 of them; 2^20 steps by seed among 65,536 members each": {
        "mdl.methods.parametric.numbers:MOST_NUMBERS": 1 << 20,
        "mdl.methods.parametric.seeds:_MOST_STEPS": 1 << 20,
        "mdl.methods.parametric.seeds:_MOST_MEMBERS": 65_536,
    },
    "2,048 characters, 32 operations, functions of 2,048 pairs of values, inputs of 48 symbols": {
        "mdl.methods.data.rasp_language:MOST_SOURCE": 2048,
        "mdl.methods.data.rasp_language:_MOST_OPERATIONS": 32,
        "mdl.methods.data.rasp_language:_MOST_PAIRS": 2048,
        "mdl.methods.data.rasp_language:_MOST_SYMBOLS": 48,
    },
    "16,384 steps of 256 inputs": {
        "mdl.methods.data.rasp:_MOST_STEPS": 16_384,
        "mdl.methods.data.rasp:_MOST_BATCH": 256,
    },
    "| 1 MiB, types checked": {"mdl.machine.programs:_MOST_SIDECAR": 1 << 20},
    "every 30 seconds": {"mdl.watching:_PLAIN": 30.0},
    "10 s of processor time, 1 GiB of memory and 16 million characters": {
        "mdl.checkpoints.chat_template:SECONDS": 10,
        "mdl.checkpoints.chat_template:MEMORY": 1 << 30,
        "mdl.checkpoints.chat_template:MOST_TEXT": 1 << 24,
    },
    "60 s of processor time for all prompts and 1 GiB": {
        "mdl.machine.scripts:SECONDS": 60,
        "mdl.machine.scripts:MEMORY": 1 << 30,
    },
    "1 GiB of a file, 10 million rows, 4096 fields": {
        "mdl.tasks.tables:MOST_BYTES": 1 << 30,
        "mdl.tasks.tables:MOST_ROWS": 10_000_000,
        "mdl.tasks.tables:MOST_COLUMNS": 4096,
    },
    "silent for 90 s": {"mdl.heartbeats:_MISSED_AFTER": 90.0},
    "cold starts may take 1,800 s": {"mdl.distributed:_COLD_START": 1800},
    "1 GiB by default": {"mdl.packing:_ACTIVATIONS": 1 << 30},
    "more than 2 % of the answers": {"mdl.methods.examples:_MOST_LOST": 0.02},
    "over 2 % of the answers": {"mdl.methods.examples:_MOST_LOST": 0.02},
    "above 2 % the run": {"mdl.results:LOUD": 0.02},
    "25 % and `dev_size` 15 % of the distinct prompts": {
        "mdl.tasks.custom:custom.__defaults__.9": 0.25,
        "mdl.tasks.custom:custom.__defaults__.8": 0.15,
    },
    "0.1 %, 0.2 % … 50 % and all of the data": {
        "mdl.codelengths:_VOITA_TITOV.0": 0.001,
        "mdl.codelengths:_VOITA_TITOV.1": 0.002,
        "mdl.codelengths:_VOITA_TITOV.-2": 0.5,
    },
}
SETTINGS = {  # a pattern -> why it is no measurement
    r"95 %(?= (?:bootstrap )?interval)": "the level of every interval",
    r"\d+(?:(?:,| to| …| and) \d+)*(?:(?:,| and) \d+)? bits a number": "the width of numbers, a setting of a method",
    r"32-bit integers": "a type",
    r"4-bit weights": "the checkpoint's file",
    r"[\d,]+ test (?:sentences|questions|prompts|examples)": "how many examples are scored",
    r"30 bits or fewer": "what tests/test_headers.py asks",
    r"logits \(1e-4\), gradients \(1e-3\)": "what tests/checkpoints/test_families.py asks",
    r"logits agree to 1e-4": "what tests/checkpoints/test_peft.py asks",
    r"to 1e-3 (?:bits a token on every line|of it)": "what tests/checkpoints/test_gguf_real.py asks",
    r"difference below 1e-5": "what tests/test_codelengths.py asks",
    r"agree to 1e-4 of them": "what `benchmarks.recipe.record.parity` asks",
    r"may keep 4 GiB": "a setting of the plans' mesh",
    r"computed four times": "by so many chips",
    r"libtpu 0\.0\.\d\d|0\.0\.52": "a version",
    r"1 − 0\.999\^t": "an equation",
    r"jax(?:lib)? 0\.1\d(?:\.\d)?": "a version",
    r"Qwen3-0\.6B": "a name",
}


def allowed() -> list[re.Pattern]:
    """Patterns of what may stand in a page; a space in them is any white space."""
    spaced = lambda pattern: re.compile(pattern.replace(r"\ ", " ").replace(" ", r"\s+"))
    return [*(spaced(re.escape(words)) for words in CONSTANTS), *map(spaced, SETTINGS)]


def value(place: str) -> object:
    """What is at a place in the code: a module, a colon, and names or keys with points between them."""
    module, names = place.split(":")

    def step(found, name):
        if isinstance(found, dict):
            return found[name]
        return found[int(name)] if isinstance(found, (tuple, list)) else getattr(found, name)

    return functools.reduce(step, names.split("."), importlib.import_module(module))
