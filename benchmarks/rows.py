r"""What coding more examples side by side costs in bits and saves in time: prequential programs by `rows`.

    python -m benchmarks.rows --checkpoint=DIR [--data_dir=gsm8k] [--rows=0,16,32,64] [--examples=64,256] \
        [--result=benchmarks/results/rows.json]

GSM8K, tiny or from `--data_dir`, without the examples that are longer than the context; LoRA or all weights. Each
program is encoded and decoded once with compiled functions at hand, and the model that it decodes to has to be the one
that was encoded.
"""

import dataclasses
import json
import pathlib
import time

from absl import app, flags

from mdl import startup, tasks
from mdl.checkpoints import load
from mdl.codes import Decoder, Encoder, text
from mdl.files import write_then_rename
from mdl.methods.data import prequential


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("checkpoint", "stories260k", "Name, directory or GGUF file.")
    flags.DEFINE_string("data_dir", "", "A folder with GSM8K's files; tiny GSM8K without.")
    flags.DEFINE_list("rows", ["0", "16", "32", "64"], "Values of the setting; 0 is as many as a batch, 8.")
    flags.DEFINE_list("examples", ["64", "256"], "Numbers of examples.")
    flags.DEFINE_enum("train", "lora", ["lora", "full"], "What is trained.")
    flags.DEFINE_float("learning_rate", 1e-3, "Of Adam.")
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other checkpoints stays.")


def fitting(checkpoint, task, wanted: int, longest: int = 0) -> tuple:
    """Training examples that the context, or so many tokens, hold whole: of the first 8 times as many as are wanted."""
    most = longest or text.max_tokens(checkpoint)
    size = lambda example: sum(map(len, checkpoint.tokenizer.encode_pair(example.prompt, example.completion)))
    return tuple(example for example in task.train[: 8 * wanted] if size(example) <= most)


def measure(checkpoint, task, settings: prequential.Settings, examples: tuple[int, ...]) -> list[dict]:
    """Bytes, and seconds of encoding and decoding, at each number of examples."""
    found, coder, started = [], Encoder(), time.monotonic()
    search = prequential.Search(examples=examples, epochs=(0,))
    for encoded in prequential.encode(coder, checkpoint, task, settings, search):
        digest = encoded.adapted.digest()
        now = time.monotonic()
        decoded = prequential.decode(Decoder(encoded.program.stream), checkpoint).digest()
        spent = time.monotonic() - now
        if decoded != digest:
            raise ValueError(f"rows={settings.rows}: decoded to another model")
        about = {"examples": encoded.examples, "bytes": len(encoded.program.data), "tokens": encoded.tokens}
        found.append({**about, "encode_s": round(now - started, 2), "decode_s": round(spent, 2)})
        started += time.monotonic() - now  # decoding is not encoding
    return found


def main(_) -> None:
    """Measures, prints and records."""
    told = flags.FLAGS
    startup.start(0)
    checkpoint = load(told.checkpoint, dtype="float32")
    how = {"size": "full", "data_dir": told.data_dir} if told.data_dir else {"size": "tiny"}
    task = tasks.load("gsm8k", **how)
    examples = tuple(map(int, told.examples))
    task = dataclasses.replace(task, train=fitting(checkpoint, task, max(examples)))
    rows = []
    for value in map(int, told.rows):
        settings = prequential.Settings(train=told.train, learning_rate=told.learning_rate, rows=value)
        measure(checkpoint, task, settings, examples)  # compiles
        for one in measure(checkpoint, task, settings, examples):
            rows.append({"rows": value, **one})
            print(json.dumps(rows[-1]), flush=True)
    if told.result:
        path = pathlib.Path(told.result)
        record = json.loads(path.read_text()) if path.exists() else {}
        name = f"{checkpoint.name} {told.train} {told.learning_rate:g}"
        record[name] = {
            "environment": startup.environment(),
            "data": "gsm8k" if told.data_dir else "tiny",
            "rows": rows,
        }
        write_then_rename(path, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    define_flags()
    app.run(main)
