"""Prequential codelengths against the public package preqtorch (0.2.0, MIT), on an MLP classifier.

    pip install preqtorch==0.2.0 --no-deps --target=DIR
    python -m benchmarks.preqtorch_parity --preqtorch=DIR [--result=benchmarks/results/preqtorch_parity.json]

Both get the same arrays, initial weights, order and optimiser (Adam), and train on the sum of a batch's nats, which is
what preqtorch trains on. Its `MIREncoder` is `codelengths.online`:

- with `use_ema=False, use_beta=False, n_replay_samples=0` as it stands;
- with replay, once both draw the same examples: through its `Replay` interface it gets ours, with replacement; its own
  `ReplayBuffer` draws without replacement, by Python's `random`;
- with `use_ema=True`, its default: a batch is scored by a running mean of the weights. Here that is a learner's affair:
  one whose `bits` uses such a mean;
- `use_beta=True`, its default, learns a temperature. It is not compared.

Its `BlockEncoder` is `codelengths.blockwise` without `seed` and `uniform`: the first block under the initial weights,
the others under weights trained from these again. Its patience, which counts batches whose own loss was no new minimum,
is set beyond reach: we have none.

Adam's second decay rate is 1 − 2^−10 for both, and once the usual 0.999. That has no exact float32, in which optax, not
PyTorch, takes 1 − β2^t: the first step sizes differ by 6e-6, and so much the codelengths.

preqtorch adds float32 sums of batches, ours are float64. Seconds are of whole codes after one that was not counted, the
two alternating, medians, PyTorch and XLA on one thread each.
"""

import importlib.metadata
import json
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import optax
from absl import app, flags

from benchmarks.classifier import Classifier, initial, problem
from mdl import codelengths, recording, startup
from mdl.files import write_then_rename

_PREQTORCH = flags.DEFINE_string("preqtorch", None, "Folder that preqtorch was installed into.", required=True)
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed runs of each.", lower_bound=1)
_RESULT = flags.DEFINE_string("result", None, "JSON file to write.")

_EXAMPLES, _FEATURES, _HIDDEN, _CLASSES = 2048, 32, 64, 10
_BATCH, _RATE, _SEED, _EPOCHS, _MEAN = 32, 3e-3, 0, 3, 0.1
_DECAY, _USUAL_DECAY = 1 - 2**-10, 0.999


class Theirs:
    """preqtorch on the same arrays."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, params: list[np.ndarray], decay: float):
        import preqtorch
        import torch

        torch.set_num_threads(1)
        self._torch, self._preqtorch = torch, preqtorch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first = torch.nn.Linear(params[0].shape[0], params[0].shape[1])
                self.second = torch.nn.Linear(params[2].shape[0], params[2].shape[1])

            def forward(self, batch):
                return self.second(torch.relu(self.first(batch[0])))

        def load(model):
            own = (model.first.weight, model.first.bias, model.second.weight, model.second.bias)
            with torch.no_grad():
                for tensor, array in zip(own, params, strict=True):
                    tensor.copy_(torch.tensor(array.T))
            return model

        self._model = preqtorch.ModelClass(Model, device="cpu", init_func=load)
        self._dataset = torch.utils.data.TensorDataset(torch.tensor(inputs), torch.tensor(labels))
        self._adam = lambda weights, lr: torch.optim.Adam(weights, lr=lr, betas=(0.9, decay))
        self._loss = lambda batch, output: torch.nn.functional.cross_entropy(output, batch[1], reduction="none")

    def _loader(self, start: int, end: int):
        rows = self._torch.utils.data.Subset(self._dataset, range(start, end))
        return self._torch.utils.data.DataLoader(rows, batch_size=_BATCH)

    def online(self, replay: int = 0, ema: bool = False) -> list[float]:
        """Bits of each batch."""
        loader = self._torch.utils.data.DataLoader(self._dataset, batch_size=_BATCH)
        found = self._preqtorch.MIREncoder(self._model, device="cpu", optimizer_fn=self._adam).encode(
            loader, "", loss_fn=self._loss, learning_rate=_RATE, seed=_SEED, alpha=_MEAN,
            use_beta=False, use_ema=ema, n_replay_samples=0, replay=self._replay(replay) if replay else None,
        )  # fmt: skip
        return [nats / math.log(2) for nats in found.history]

    def _replay(self, draws: int):
        """Their interface, our draws."""
        dataset, rng = self._dataset, np.random.Generator(np.random.Philox(_SEED))

        class Drawn(self._preqtorch.Replay):
            seen = 0

            def update(self, new_indices):
                self.seen, self.latest = self.seen + len(new_indices), len(new_indices)

            def sample(self):
                drawn = [rng.integers(self.seen, size=self.latest) for _ in range(draws)]
                return [(rows.tolist(), dataset[rows]) for rows in drawn]

        return Drawn(dataset)

    def blockwise(self, ends: tuple[int, ...]) -> list[float]:
        """Bits of each batch of each block."""
        blocks = [self._loader(start, end) for start, end in zip((0, *ends), ends, strict=False)]
        found = self._preqtorch.BlockEncoder(self._model, device="cpu", optimizer_fn=self._adam).encode(
            [self._loader(0, end) for end in ends], blocks, "blocks", _SEED, loss_fn=self._loss,
            learning_rate=_RATE, epochs=_EPOCHS, patience=10**9,
        )  # fmt: skip
        return [nats / math.log(2) for nats in found.history]


def compare(name: str, ours: Callable[[], codelengths.Table], theirs: Callable[[], list[float]]) -> dict:
    """Bits and seconds of both."""
    table, bits = ours(), theirs()
    seconds: dict[str, list[float]] = {"mdl": [], "preqtorch": []}
    for _ in range(_REPEATS.value):
        for which, run in (("mdl", ours), ("preqtorch", theirs)):
            started = time.perf_counter()
            run()
            seconds[which].append(time.perf_counter() - started)
    median = {which: statistics.median(runs) for which, runs in seconds.items()}
    report = {
        "bits": {"mdl": table.mdl, "preqtorch": sum(bits)},
        "relative_difference": abs(table.mdl - sum(bits)) / sum(bits),
        "seconds": {which: round(value, 3) for which, value in median.items()},
        "seconds_ratio": round(median["mdl"] / median["preqtorch"], 3),
    }
    if len(bits) == len(table.bits):
        report["largest_relative_difference_of_a_batch"] = float(np.max(np.abs(np.array(table.bits) / bits - 1)))
    print(name, report)
    return report


def main(_) -> None:
    """Compares, one code after the other."""
    sys.path.append(_PREQTORCH.value)
    startup.start(1)
    import torch

    inputs, labels = problem(_EXAMPLES, _FEATURES, _CLASSES, _SEED)
    params = initial(_FEATURES, _HIDDEN, _CLASSES, _SEED)
    data = codelengths.Data(_EXAMPLES, lambda rows: (inputs[rows], labels[rows]))
    theirs, usual_theirs = (Theirs(inputs, labels, params, decay) for decay in (_DECAY, _USUAL_DECAY))
    learner, usual = (Classifier(params, optax.adam(_RATE, b2=decay)) for decay in (_DECAY, _USUAL_DECAY))
    averaging = Classifier(params, optax.adam(_RATE, b2=_DECAY), mean=_MEAN)
    ends = codelengths.doublings(_BATCH, _EXAMPLES)
    online = lambda start, replay: codelengths.online(start.fresh(), data, batch=_BATCH, replay=replay, seed=_SEED)
    blockwise = lambda: codelengths.blockwise(learner, data, ends, batch=_BATCH, epochs=_EPOCHS)
    runs = {
        "online": compare("online", lambda: online(learner, 0), theirs.online),
        "online, usual decay": compare("usual decay", lambda: online(usual, 0), usual_theirs.online),
        "online, 2 replays": compare("replay", lambda: online(learner, 2), lambda: theirs.online(replay=2)),
        "online, mean of weights": compare("mean", lambda: online(averaging, 0), lambda: theirs.online(ema=True)),
        "blockwise": compare("blockwise", blockwise, lambda: theirs.blockwise(ends)),
    }
    report = {
        "problem": f"{_EXAMPLES} examples, {_FEATURES} features, {_CLASSES} classes; MLP of {_HIDDEN} hidden units",
        "schedule": f"batches of {_BATCH}, Adam {_RATE}; blocks end at {ends}, {_EPOCHS} epochs each",
        "second_decay": {"else": _DECAY, "usual": _USUAL_DECAY},
        "codes": runs,
        "repeats": _REPEATS.value,
        "device": startup.device(),
        "load_average": round(os.getloadavg()[0], 1),  # other work on the machine shows in the seconds
        "versions": {
            **{k: v for k, v in recording.library_versions().items() if k in ("jax", "jaxlib", "optax", "numpy")},
            "torch": torch.__version__,
            "preqtorch": importlib.metadata.version("preqtorch"),
        },
        "time": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if _RESULT.value:
        write_then_rename(pathlib.Path(_RESULT.value), text.encode())


if __name__ == "__main__":
    app.run(main)
