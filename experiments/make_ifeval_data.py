"""Makes adaptation data for IFEval by rejection sampling: a checkpoint's responses that follow all instructions.

    python -m experiments.make_ifeval_data --checkpoint=NAME --output=ifeval_train.jsonl --prompts=2048
    python -m experiments.make_ifeval_data --checkpoint=stories260k-chat --output=tiny.jsonl --size=tiny --prompts=512

Prompts are our own requests with random instructions (`mdl.tasks.ifeval_requests`, or `mdl.tasks.instructions` for the
tiny size), asked in the checkpoint's chat format where it has one. Each line of the output has prompt, response,
instruction_id_list, kwargs and key. Beside it, `OUTPUT.json` says how it was made and how often each instruction was
followed. Killed half-way, the same command goes on where it was.
"""

import itertools
import json
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags, logging

from experiments import flagged
from mdl import startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.files import write_then_rename
from mdl.machine.answers import complete
from mdl.machine.generation import Sampling
from mdl.methods.method import Prompting, prompted
from mdl.tasks import ifeval_requests, instructions
from mdl.tasks.followed import Check, checker
from mdl.tasks.ifeval import FULL, TINY, Format

Row = dict[str, Any]

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "An embedded checkpoint's name, a directory, a .gguf file, or owner/name@revision on the hub.",
    required=True,
)
_OUTPUT = flags.DEFINE_string("output", None, "The JSONL file to write; must not exist.", required=True)
_SIZE = flags.DEFINE_enum("size", "full", ["tiny", "full"], "The size of the task that the data is for.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder with IFEval's prompts, to keep away from; full only.")
_PROMPTS = flags.DEFINE_integer("prompts", 2048, "Prompts drawn.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 4, "Responses sampled for each prompt.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Of sampling.")
_TOP_P = flags.DEFINE_float("top_p", 0.95, "Probability of the tokens drawn from.")
_MAX_NEW_TOKENS = flags.DEFINE_integer("max_new_tokens", None, "Of a response; 72 (tiny) or 500 (full) by default.")
_SEED = flags.DEFINE_integer("seed", 0, "Of prompts and responses.", lower_bound=0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Responses sampled together.", lower_bound=1)
_CHUNK = flags.DEFINE_integer("chunk", 32, "Prompts between two saves.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", None, "Of the processor; by default as many as there are cores.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the weights.")


def main(_) -> None:
    """One line and exit code 1 on wrong input, with nothing written."""
    startup.start(_THREADS.value)
    try:
        _run(pathlib.Path(_OUTPUT.value))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _run(output: pathlib.Path) -> None:
    if output.exists():
        raise ValueError(f"{output} exists; delete it to make it again, or give another --output")
    tiny, started = _SIZE.value == "tiny", time.monotonic()
    check: Check = instructions.check if tiny else checker()
    rows = list(itertools.islice(_tiny_prompts(_SEED.value) if tiny else _full_prompts(), _PROMPTS.value))
    checkpoint = checkpoints.load(_CHECKPOINT.value, dtype=_DTYPE.value)
    how = {
        "checkpoint": checkpoint.name,
        "fingerprint": checkpoint.fingerprint,
        **{f.name: f.value for f in (_SIZE, _PROMPTS, _SAMPLES, _TEMPERATURE, _TOP_P, _SEED, _DTYPE, _CHUNK)},
        "max_new_tokens": _MAX_NEW_TOKENS.value or (72 if tiny else 500),
    }
    progress = pathlib.Path(f"{output}.progress")
    done = _resume(progress, how)
    sample = _sampler(checkpoint, TINY if tiny else FULL, how["max_new_tokens"])
    sampled = 0
    with progress.open("a", encoding="utf-8") as file:
        # The draws of a response depend on its place in a chunk: whole chunks, so that a resume changes nothing.
        while len(done) < len(rows):
            chunk = rows[len(done) : len(done) + _CHUNK.value]
            answers = sample([row["prompt"] for row in chunk for _ in range(_SAMPLES.value)])
            sampled += len(answers)
            judged = [
                _judge(check, row, answers[i * _SAMPLES.value : (i + 1) * _SAMPLES.value])
                for i, row in enumerate(chunk)
            ]
            file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in judged))
            file.flush()
            os.fsync(file.fileno())
            done += judged
            kept, seconds = sum(len(entry["kept"]) for entry in done), time.monotonic() - started
            logging.info(
                "%d of %d prompts, %d responses kept, %.2f s a response",
                len(done), len(rows), kept, seconds / sampled,
            )  # fmt: skip
    lines = [{**row, "response": text} for row, entry in zip(rows, done, strict=True) for text in entry["kept"]]
    if not lines:
        raise ValueError(f"no response of {checkpoint.name} follows its instructions; try more --samples or --prompts")
    rates = _rates(rows, done)
    record = {**how, "lines": len(lines), "followed": rates, "device": startup.device()}
    write_then_rename(f"{output}.json", (json.dumps(record, indent=1) + "\n").encode())
    write_then_rename(output, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    progress.unlink()
    print(_table(rates))
    answered = sum(bool(entry["kept"]) for entry in done)
    print(f"{len(lines)} responses to {answered} of {len(rows)} prompts in {output}")


def _tiny_prompts(seed: int) -> Iterator[Row]:
    """Requests of the training split."""
    seen = set()
    for request in instructions.requests(seed):
        if instructions.owner(request, seed) == "train" and request.text not in seen:
            seen.add(request.text)
            yield request.row()


def _full_prompts() -> Iterator[Row]:
    from mdl.tasks.datasets import read

    published = [row["prompt"] for row in read("ifeval", "test", _DATA_DIR.value)]
    return ifeval_requests.prompts(_SEED.value, published)


def _sampler(checkpoint: Checkpoint, form: Format, max_new_tokens: int) -> Callable[[Sequence[str]], list[str | None]]:
    """Responses to prompts; None where one did not come to its end."""
    tokenizer = checkpoint.tokenizer
    chat = tokenizer.chat_template is not None
    adapted = prompted(checkpoint, "", Prompting(chat=chat))
    sampling = Sampling(temperature=_TEMPERATURE.value, top_p=_TOP_P.value, seed=_SEED.value)

    def sample(prompts: Sequence[str]) -> list[str | None]:
        texts = prompts if chat else [f"{form.prefix}{prompt}{form.separator}" for prompt in prompts]
        answers = complete(
            adapted,
            tokenizer,
            texts,
            max_new_tokens=max_new_tokens,
            stop=form.stop,
            batch_size=_BATCH_SIZE.value,
            sampling=sampling,
        )
        ended = [len(tokenizer.encode(answer)) < max_new_tokens - 1 for answer in answers]
        return [answer.strip() if end else None for answer, end in zip(answers, ended, strict=True)]

    return sample


def _judge(check: Check, row: Row, answers: Sequence[str | None]) -> Row:
    """What follows: how often each instruction, and the different responses that follow all."""
    asked = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))
    followed, kept = [0] * len(asked), []
    for answer in answers:
        verdicts = [answer is not None and check(answer, *each) for each in asked]
        followed = [count + verdict for count, verdict in zip(followed, verdicts, strict=True)]
        if all(verdicts) and answer not in kept:
            kept.append(answer)
    return {"key": row["key"], "followed": followed, "answers": len(answers), "kept": kept}


def _resume(progress: pathlib.Path, how: Mapping[str, Any]) -> list[Row]:
    """Reads what an earlier run did, and cuts off a chunk that it did not finish writing."""
    done: list[Row] = []
    if progress.exists():
        header, *lines = progress.read_text(encoding="utf-8").split("\n")[:-1] or [""]
        if header != json.dumps(how):
            raise ValueError(f"{progress} was begun with other settings, {header[:300]}; delete it, or give the same")
        done = [json.loads(line) for line in lines[: len(lines) // _CHUNK.value * _CHUNK.value]]
        logging.info("going on after %d prompts", len(done))
    content = [json.dumps(how), *(json.dumps(entry, ensure_ascii=False) for entry in done)]
    write_then_rename(progress, "".join(line + "\n" for line in content).encode())
    return done


def _rates(rows: Sequence[Row], done: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Instruction -> how many responses were asked for it, and how many followed it."""
    asked, followed = Counter(), Counter()
    for row, entry in zip(rows, done, strict=True):
        for name, count in zip(row["instruction_id_list"], entry["followed"], strict=True):
            asked[name] += entry["answers"]
            followed[name] += count
    return {name: {"asked": asked[name], "followed": followed[name]} for name in sorted(asked)}


def _table(rates: Mapping[str, Mapping[str, int]]) -> str:
    lines = [f"{'instruction':45} {'asked':>7} {'followed':>9}"]
    for name, rate in rates.items():
        lines.append(f"{name:45} {rate['asked']:7} {100 * rate['followed'] / rate['asked']:8.1f}%")
    return "\n".join(lines)


if __name__ == "__main__":
    flagged.run(main)
