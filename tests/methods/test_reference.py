"""Bits against the paper's formulas, with numbers computed independently in PyTorch and NumPy.

What the paper counts is what a file of ours holds, less what the paper leaves out; each part of that is itemised here.
`MDL_WRITE_BITS=1 pytest -n 0 tests/methods/test_reference.py -k omits` writes the items to the record from which
docs/bits.md has its table; without the variable they are held against it.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdl import tasks, training
from mdl.checkpoints import checkpoint, huggingface
from mdl.checkpoints.adapters import add_adapters, split
from mdl.checkpoints.config import Lora
from mdl.codes import Decoder, Encoder, Meter, tensors, tokens
from mdl.codes import settings as settings_code
from mdl.methods import METHODS
from mdl.methods.data import combined, prequential
from mdl.methods.parametric import bayesian_lora, full, lm_head, lora
from mdl.methods.prompts import icl, urial
from mdl.training import tokenise

torch = pytest.importorskip("torch")

STORIES = checkpoint.load("stories260k")
TASK = tasks.load("gsm8k", size="tiny", seed=0)
CUT = 90  # some examples are longer: their prompts are cut
ROOM = STORIES.config.max_length - 1

# Bits of what `prequential` and `combined` code beside tokens and their ends.
GOES_ON, STOPS, BOUNDARY, NO_EPOCHS = -math.log2(63 / 64), 6.0, -math.log2(255 / 256), 1.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The embedded checkpoint as transformers reads it."""
    path = tmp_path_factory.mktemp("stories") / "exported"
    huggingface.save(path, STORIES.config, STORIES.params, STORIES.tokenizer)
    return path


@pytest.fixture
def model(directory):
    """The same checkpoint in PyTorch, to train on."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )


class Adapted(torch.nn.Module):
    """x W + (α / r) x A B, with A as given and B zero."""

    def __init__(self, linear, a, alpha):
        super().__init__()
        self.linear = linear
        self.a = torch.nn.Parameter(torch.tensor(np.asarray(a)))
        self.b = torch.nn.Parameter(torch.zeros(a.shape[1], linear.out_features))
        self.scale = alpha / a.shape[1]

    def forward(self, x):
        return self.linear(x) + self.scale * (x @ self.a @ self.b)


def projections(model):
    """Name -> the seven projections of each layer, which the paper adapts."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers.")
    }


def adapt(model, rank, alpha, seed):
    """Puts adapters, with the A that our seed gives, around every projection; returns what is trained."""
    _, params = add_adapters(STORIES.config, STORIES.params, Lora(rank, alpha), seed)
    model.requires_grad_(False)
    trained = []
    for name, linear in projections(model).items():
        node = params
        for key in name.split(".")[1:]:
            node = node[int(key) if key.isdecimal() else key]
        parent, _, own = name.rpartition(".")
        adapted = Adapted(linear, node["lora_a"], alpha)
        setattr(model.get_submodule(parent), own, adapted)
        trained += [adapted.a, adapted.b]
    return trained


@dataclasses.dataclass
class Nats:
    """−ln p of one sequence's targets under PyTorch, and which of them are what."""

    losses: "torch.Tensor"  # [targets]; without BOS the first token is no target
    boundary: int  # tokens of the prompt
    has_bos: bool
    has_end: bool

    def bits(self, first, last):
        return float(self.losses[first:last].double().sum()) / math.log(2)

    @property
    def end(self):
        return self.bits(len(self.losses) - self.has_end, None)

    @property
    def body(self):
        """All but the end; without BOS also without the first token."""
        return self.bits(0, len(self.losses) - self.has_end)

    @property
    def first(self):
        """The first token where no BOS stands before it: uniform over the vocabulary."""
        return 0.0 if self.has_bos else math.log2(STORIES.config.vocab_size)

    @property
    def total(self):
        return self.first + self.body + self.end


def read(model, ids, boundary=0, bos=1, eos=2, longest=ROOM) -> Nats:
    """One sequence, without padding."""
    ends = len(ids) < longest and eos is not None
    whole = torch.tensor([([] if bos is None else [bos]) + list(ids) + ([eos] if ends else [])])
    logits = model(whole[:, :-1]).logits[0].float()
    losses = torch.nn.functional.cross_entropy(logits, whole[0, 1:], reduction="none")
    return Nats(losses, boundary, bos is not None, ends)


def cut(number):
    return [tokenise(STORIES.tokenizer, e.prompt, e.completion, CUT) for e in TASK.train[:number]]


def prequential_in_torch(model, settings, number, bos=1):
    """[batches] of the sequences' `Nats`, each batch before the model is trained on it."""
    trained = list(model.parameters())
    if settings.train == "lora":
        trained = adapt(model, settings.rank, settings.alpha, settings.seed)
    kind, decay = {"adam": (torch.optim.Adam, 0), "adamw": (torch.optim.AdamW, 0.01)}[settings.optimiser]
    optimiser = kind(trained, lr=settings.learning_rate, weight_decay=decay)
    coded, sequences = [], cut(number)
    for start in range(0, number, settings.batch):
        optimiser.zero_grad()
        batch = [read(model, s.tokens, s.boundary, bos) for s in sequences[start : start + settings.batch]]
        loss, weight = 0.0, 0.0
        for row in batch:
            weights = torch.ones(len(row.losses))
            weights[: row.boundary - (bos is None)] = settings.prompt_weight / 100
            loss, weight = loss + (row.losses * weights).sum(), weight + weights.sum()
        (loss / weight).backward()
        optimiser.step()
        coded.append([dataclasses.replace(row, losses=row.losses.detach()) for row in batch])
    return coded


@functools.cache
def encoded(method, settings, search, coder=Encoder, bos=1):
    """All programs of a search; searches that several tests look at run once."""
    tokenizer = dataclasses.replace(STORIES.tokenizer, bos_id=bos)
    stories = dataclasses.replace(STORIES, tokenizer=tokenizer)
    return tuple(METHODS[method].encode(coder(), stories, TASK, settings, search))


# --- prequential


LEARNERS = {
    "lora": prequential.Settings(learning_rate=1e-2, batch=4, seed=3),
    "lora, adamw, prompts weigh": prequential.Settings(
        learning_rate=1e-2, batch=4, rank=2, prompt_weight=30, optimiser="adamw"
    ),
    "full": prequential.Settings(train="full", learning_rate=2e-3, batch=4, prompt_weight=10),
}


BATCHES = 4


@pytest.mark.parametrize("case", LEARNERS)
def test_prequential_codes_each_batch_at_what_torch_says_that_trains_alike(model, case):
    settings, batches = LEARNERS[case], BATCHES
    coded = prequential_in_torch(model, settings, 4 * batches)
    assert any(len(s.tokens) == CUT - 1 for s in cut(4 * batches))
    assert all(row.has_end for batch in coded for row in batch)
    theirs = np.array([sum(row.total for row in batch) for batch in coded])
    search = prequential.Search(tuple(range(4, 4 * batches + 1, 4)), (0,), max_tokens=CUT)
    for coder in (Encoder, Meter):
        payload = [e.program.payload_bits for e in encoded("prequential", settings, search, coder)]
        ours = np.diff(payload, prepend=STOPS + NO_EPOCHS) - GOES_ON - 4 * BOUNDARY
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # 3e-7 was measured
    ids = [s.tokens for s in cut(4 * BATCHES)]
    frozen = -tokens.log_likelihoods(STORIES.config, STORIES.params, ids, bos=1, eos=2, max_tokens=ROOM) / math.log(2)
    assert abs(frozen[4:].sum() / theirs[1:].sum() - 1) > 0.05  # training matters: a frozen model would not pass


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_optimisers_are_those_of_torch(name):
    """Adam, and AdamW with decay 0.01: too little to be seen in a few batches' bits."""
    generator = np.random.default_rng(0)
    start, slopes = generator.normal(size=50).astype(np.float32), generator.normal(size=(20, 50)).astype(np.float32)
    weights = torch.nn.Parameter(torch.tensor(start))
    kind, decay = {"adam": (torch.optim.Adam, 0), "adamw": (torch.optim.AdamW, 0.01)}[name]
    theirs = kind([weights], lr=1e-2, weight_decay=decay)
    ours, mine = training.optimiser(name), jnp.asarray(start)
    state = ours.init(mine)
    state.hyperparams["learning_rate"] = np.float32(1e-2)
    for slope in slopes:
        weights.grad = torch.tensor(slope)
        theirs.step()
        changes, state = ours.update(jnp.asarray(slope), state, mine)
        mine = mine + changes
    np.testing.assert_allclose(mine, weights.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bos", [1, None])
def test_the_first_batch_is_the_papers_bits_and_what_it_omits(model, bos):
    """Its bits are ⌈−Σ log2 p⌉ of a batch's tokens after the first: BOS, question and answer, no end."""
    settings = prequential.Settings(batch=4)
    (batch,) = prequential_in_torch(model, settings, 4, bos)
    paper = math.ceil(sum(row.body for row in batch))
    omitted = {
        "rounding up": sum(row.body for row in batch) - paper,
        "first tokens": sum(row.first for row in batch),
        "ends": sum(row.end for row in batch),
        "where prompts end": 4 * BOUNDARY,
        "a batch follows, none follows": GOES_ON + STOPS,
        "further epochs: none": NO_EPOCHS,
    }
    assert omitted["first tokens"] == (0 if bos else 4 * 9)
    assert omitted["ends"] > 10
    (each,) = encoded("prequential", settings, prequential.Search((4,), (0,), max_tokens=CUT), bos=bos)
    assert each.program.payload_bits == pytest.approx(paper + sum(omitted.values()), abs=0.02)


# --- icl, urial


@pytest.mark.parametrize("method, search", [("icl", icl.Search((1, 3))), ("urial", urial.Search((0, 2)))])
def test_prompts_cost_what_torch_says(model, method, search):
    flag = -math.log2(1023 / 1024)  # that the text is coded as tokens
    for coder in (Encoder, Meter):
        for each in encoded(method, METHODS[method].Settings(), search, coder):
            with torch.no_grad():
                row = read(model, STORIES.tokenizer.encode(each.adapted.before))
            assert each.program.payload_bits == pytest.approx(row.total + flag, rel=1e-5)
            assert row.end > 1


# --- lora, lm_head, full


FEW = {"examples": 8, "max_tokens": CUT, "learning_rate": 1e-2, "epochs": (1,), "widths": (16,)}


def flat_bits(payload, matrices):
    """A flat payload without the steps, 16 bits a tensor."""
    return payload - 16 * matrices


@pytest.mark.parametrize("rank", [1, 4])
def test_flat_lora_is_16_bits_a_trainable_number(model, rank):
    trained = adapt(model, rank, 8.0, 0)
    settings = lora.Settings(rank=rank, entropy=False)
    (each,) = encoded("lora", settings, lora.Search(**FEW))
    assert flat_bits(each.program.payload_bits, len(trained)) == pytest.approx(
        16 * sum(p.numel() for p in trained), rel=1e-9
    )


def test_flat_lm_head_and_full_are_16_bits_a_parameter_and_tied_ones_count_once(model):
    (head,) = encoded("lm_head", lm_head.Settings(entropy=False), lm_head.Search(**FEW))
    assert flat_bits(head.program.payload_bits, 1) == pytest.approx(16 * model.lm_head.weight.numel(), rel=1e-9)
    (whole,) = encoded("full", full.Settings(entropy=False), full.Search(**FEW))
    parameters = list(model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    numbers = sum(p.numel() for p in parameters)
    assert flat_bits(whole.program.payload_bits, len(parameters)) == pytest.approx(16 * numbers, rel=1e-9)


# --- bayesian_lora


def widths_in_file(program, rank):
    """Reads a bayesian_lora program: name of a projection -> its ranks, and the width of each of its matrices."""
    coder = Decoder(program.stream)
    settings = settings_code.code(coder, bayesian_lora.Settings, None)
    config, params = add_adapters(STORIES.config, STORIES.params, Lora(settings.rank, settings.alpha), settings.seed)
    known = {kind: tensors.Frequencies(fine=True) for kind in "abe"} if settings.entropy else {}
    out = {}
    for path, leaf in huggingface.flat(params):
        if path[-1] != "lora_a":
            continue
        inputs, outputs = leaf.shape[0], dict(huggingface.flat(params))[*path[:-1], "lora_b"].shape[1]
        kept = 1 + coder.uniform(rank, None) if settings.prune else rank
        widths = {}
        for kind, shape in {"a": (inputs, kept), "b": (kept, outputs), "e": (kept,)}.items():
            if kind == "e" and not settings.prune:
                continue
            widths[kind] = 2 ** (1 + coder.uniform(5, None))
            tensors.code(coder, None, shape, widths[kind], known.get(kind))
        out[".".join(map(str, ("model", *path[:-1])))] = kept, widths
    return out


def swapped_bits(model, found):
    """What it makes of r (out · w_A + in · w_B) that A has the inputs and B the outputs."""
    return sum(
        ranks * (module.in_features - module.out_features) * (widths["a"] - widths["b"])
        for name, module in projections(model).items()
        for ranks, widths in [found[name]]
    )


def reference_bits(model, found):
    """The paper's Σ r (out · w_A + in · w_B + w_E), from PyTorch's shapes."""
    return sum(
        ranks * (module.out_features * widths["a"] + module.in_features * widths["b"] + widths.get("e", 0))
        for name, module in projections(model).items()
        for ranks, widths in [found[name]]
    )


@pytest.mark.parametrize("gate_start, width", [(6.0, 32), (-3.0, 2)])
def test_flat_bits_of_equal_gates_are_the_papers(model, gate_start, width):
    search = bayesian_lora.Search(examples=8, max_tokens=CUT, epochs=(1,), gates_rate=0.1, gate_start=gate_start)
    (each,) = encoded("bayesian_lora", bayesian_lora.Settings(rank=3), search)
    found = widths_in_file(each.program, 3)
    assert {w for _, widths in found.values() for w in widths.values()} == {width}
    assert each.settings["flat_bits"] == reference_bits(model, found)
    by_layer = [int(bits) for bits in each.settings["layer_bits"].split()]
    assert sum(by_layer) == each.settings["flat_bits"] and len(set(by_layer)) == 1 and len(by_layer) > 1
    assert each.settings["mean_width"] == width


# The data decides: gates begin at their threshold, and penalties are next to nothing.
UNEQUAL = bayesian_lora.Search(
    examples=8,
    max_tokens=CUT,
    epochs=(4,),
    penalty=1e-12,
    rank_penalty=1e-6,
    gates_rate=0.1,
    gate_start=-0.93,
)


@pytest.mark.parametrize("prune", [False, True])
def test_flat_bits_of_unequal_gates_differ_from_the_papers_by_its_swapped_sizes(model, prune):
    """It multiplies A's width by the outputs, which are B's, and B's width by the inputs."""
    settings = bayesian_lora.Settings(rank=3, prune=prune, entropy=False)
    (each,) = encoded("bayesian_lora", settings, UNEQUAL)
    found = widths_in_file(each.program, 3)
    swapped = swapped_bits(model, found)
    assert swapped != 0
    assert each.settings["flat_bits"] == reference_bits(model, found) + swapped
    assert (len({ranks for ranks, _ in found.values()}) > 1) == prune
    each_matrix = 16 + math.log2(5)  # step and width
    overhead = 35 * ((3 if prune else 2) * each_matrix + (math.log2(3) if prune else 0))
    assert each.program.payload_bits == pytest.approx(each.settings["flat_bits"] + overhead, abs=1e-6)


def closed(logit):
    """The paper's rule: a gate is shut unless it is 0 with probability below 0.34."""
    zero = 1 / (1 + math.exp(logit - 2 / 3 * math.log(0.1 / 1.1)))
    return not zero < 0.34


def test_widths_and_ranks_follow_from_gates_as_in_the_paper():
    grid = [-6.0, -0.9355, -0.9351, 6.0]  # the threshold lies at −0.93531
    seen = set()
    for logits in itertools.product(grid, repeat=4):
        q4, q8, q16, q32 = (int(not closed(logit)) for logit in logits)
        wanted = 2 ** (1 + q4 + q4 * (q8 + q8 * (q16 + q16 * q32)))
        assert bayesian_lora.width(np.array(logits)) == wanted
        assert bayesian_lora.kept(np.array(logits)) == 1 + int(math.log2(wanted)) - 1
        seen.add(wanted)
    assert seen == {2, 4, 8, 16, 32}


RATIOS = (5, 17, 257, 65537)


def chain(x, step, gates):
    """Bayesian Bits' quantisers one after the other, NumPy float64."""
    x = np.clip(x, -1.5 * step * (1 - 1e-6), 1.5 * step * (1 - 1e-6))
    grids = step / np.cumprod((1, *RATIOS))
    value = grids[0] * np.rint(x / grids[0])
    for k in range(4):
        value = value + np.prod(gates[: k + 1]) * grids[k + 1] * np.rint((x - value) / grids[k + 1])
    return value


def ladder(x, step, gates, dtype):
    """Ours, with one step and one row of gates for all."""
    with jax.enable_x64(dtype == np.float64):
        args = (
            np.asarray(x, dtype),
            np.full(len(x), np.log(step), dtype),
            np.tile(np.asarray(gates, dtype), (len(x), 1)),
        )
        return np.asarray(bayesian_lora.ladder(*map(jnp.asarray, args)), np.float64)


HARD = {2: (0, 0, 0, 0), 4: (1, 0, 0, 0), 8: (1, 1, 0, 0), 16: (1, 1, 1, 0), 32: (1, 1, 1, 1)}


def tensor(size=4000):
    """Values within, at and far beyond the range of a step of 0.013."""
    x = np.random.default_rng(0).normal(0, 0.01, size)
    limit = 1.5 * 0.013
    return 0.013, np.concatenate([x, [0, limit, -limit, limit * (1 + 1e-7), 5 * limit, -5 * limit, 1e3, -1e3]])


@pytest.mark.parametrize("width", HARD)
def test_the_quantiser_at_hard_gates_rounds_to_the_grid_of_its_width(width):
    step, x = tensor()
    grid = step / math.prod(RATIOS[: int(math.log2(width)) - 1])
    limit = 1.5 * step * (1 - 1e-6)
    plain = grid * np.rint(np.clip(x, -limit, limit) / grid)  # odd ratios: the chain is one rounding
    exact = ladder(x, step, HARD[width], np.float64)
    np.testing.assert_allclose(exact, plain, atol=1e-9 * step)
    np.testing.assert_allclose(exact, chain(x, step, HARD[width]), atol=1e-9 * step)
    assert np.abs(exact).max() <= grid * tensors.levels(width) * (1 + 1e-12)
    ours = ladder(x, step, HARD[width], np.float32)
    assert np.abs(ours - plain).max() <= grid + 1e-6 * step  # in float32 a tie may fall to the other side
    assert np.mean(np.abs(ours - plain) > 1e-6 * step) < 0.01


@pytest.mark.parametrize("gates", [(0.3, 0.9, 0.5, 0.1), (1, 0.6, 1, 1), (0.05, 0, 1, 1)])
def test_the_quantiser_at_soft_gates_is_the_chain(gates):
    step, x = tensor()
    plain = chain(x, step, gates)
    np.testing.assert_allclose(ladder(x, step, gates, np.float64), plain, atol=1e-9 * step)
    assert np.mean(np.abs(ladder(x, step, gates, np.float32) - plain) > 1e-5 * step) < 0.01


@pytest.mark.parametrize("width", HARD)
def test_what_is_trained_at_hard_gates_is_what_is_decoded(width):
    """Where the step is a bfloat16 number: it is sent as one."""
    sent = tensors.bfloat16(0.013 / math.prod(RATIOS[: int(math.log2(width)) - 1]))
    step = sent * math.prod(RATIOS[: int(math.log2(width)) - 1])
    _, x = tensor()
    decoded = tensors.dequantise(sent, tensors.rounded(x, sent, width))
    quantised = ladder(x, step, HARD[width], np.float64)
    if width < 32:
        np.testing.assert_allclose(quantised, decoded, rtol=1e-6)
    else:
        np.testing.assert_allclose(quantised, decoded, atol=2e-6 * step)  # the range ends 1e-6 early


def test_the_quantisers_gradient_is_the_straight_through_one_of_torch():
    step, x = tensor(500)
    x = x[np.abs(np.abs(x) - 1.5 * step) > 1e-5 * step]  # not at the kink itself
    generator = np.random.default_rng(1)
    log_steps, gates = np.log(step) + generator.normal(0, 0.1, len(x)), generator.uniform(0, 1, (len(x), 4))
    weights = generator.normal(size=len(x))

    variables = [torch.tensor(v, requires_grad=True) for v in (x, log_steps, gates)]
    value, width, gate = variables
    rounded = lambda y: y + (torch.round(y) - y).detach()
    grid = torch.exp(width)
    limit = 1.5 * (1 - 1e-6) * grid
    value = torch.minimum(torch.maximum(value, -limit), limit)
    result, open_ = grid * rounded(value / grid), 1.0
    for k, ratio in enumerate(RATIOS):
        grid, open_ = grid / ratio, open_ * gate[:, k]
        result = result + open_ * grid * rounded((value - result) / grid)
    (result * torch.tensor(weights)).sum().backward()

    with jax.enable_x64(True):
        ours = jax.grad(lambda *v: (bayesian_lora.ladder(*v) * weights).sum(), argnums=(0, 1, 2))(
            *map(jnp.asarray, (x, log_steps, gates))
        )
    for got, variable in zip(ours, variables, strict=True):
        wanted = variable.grad.numpy()
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())


def test_gates_are_hard_concrete():
    logits = np.linspace(-5, 7, 25, dtype=np.float32)
    theirs = torch.sigmoid(torch.tensor(logits) - 2 / 3 * math.log(0.1 / 1.1)).numpy()
    np.testing.assert_allclose(bayesian_lora.probability_open(logits), theirs, rtol=1e-5)
    many = jnp.tile(logits, (20_000, 1))
    key = jax.random.key(0)
    sampled = np.asarray(bayesian_lora.sample_gates(many, key))
    np.testing.assert_allclose((sampled > 0).mean(axis=0), theirs, atol=0.015)
    noise = torch.tensor(np.asarray(jax.random.uniform(key, many.shape, minval=1e-6, maxval=1 - 1e-6)))
    soft = torch.sigmoid((torch.logit(noise) + torch.tensor(logits)) / (2 / 3))
    np.testing.assert_allclose(sampled, torch.clamp(1.2 * soft - 0.1, 0, 1).numpy(), atol=2e-5)


@pytest.mark.parametrize("prune", [False, True])
def test_the_penalty_is_the_papers(prune):
    """But for E's refinements, which the paper's also weighs by the mean probability of a rank."""
    rank, penalty, rank_penalty = 3, 0.7, 0.11
    config, params = add_adapters(STORIES.config, STORIES.params, Lora(rank, 8.0), 0)
    kinds = 3 if prune else 2
    generator = np.random.default_rng(0)
    widths = generator.normal(0, 2, (35 * kinds, 4)).astype(np.float32)
    ranks = generator.normal(0, 2, (35, rank - 1)).astype(np.float32)
    adapters, frozen = split(params)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(adapters)) + (35 * rank if prune else 0)
    trainable = {
        "weights": jnp.zeros(numbers),
        "log_steps": jnp.zeros(35 * kinds),
        "gates": {"widths": jnp.asarray(widths)} | ({"ranks": jnp.asarray(ranks)} if prune else {}),
    }
    fixed = {
        "params": frozen,
        "key": jax.random.key(0),
        "penalty": jnp.float32(penalty),
        "rank_penalty": jnp.float32(rank_penalty),
    }
    _, ours = bayesian_lora._prepare(config, prune)(trainable, fixed, np.uint32(0))

    chance = lambda logits: torch.sigmoid(torch.tensor(logits) - 2 / 3 * math.log(0.1 / 1.1)).double()
    open_ = chance(widths)
    chained = sum(open_[:, : k + 1].prod(dim=1) for k in range(4))  # [matrices]
    theirs = penalty * chained.sum()
    if prune:
        of_ranks = chance(ranks).mean(dim=1)  # [layers]
        paper = penalty * (chained.sum() - (chained[2::3] * (1 - of_ranks)).sum()) + rank_penalty * of_ranks.sum()
        theirs = theirs + rank_penalty * of_ranks.sum()
        assert float(paper) < float(theirs)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


# --- combined


COMBINED = combined.Settings(learning_rate=1e-2, rank=2, batch=4, seed=5)


def adapters_of(params):
    """Path -> array of the adapters only."""
    return {path: np.asarray(leaf) for path, leaf in huggingface.flat(params) if path[-1] in ("lora_a", "lora_b")}


@pytest.fixture(scope="module")
def states():
    """Adapters at the start and after each batch of `prequential`."""
    own = {field.name: getattr(COMBINED, field.name) for field in dataclasses.fields(prequential.Settings)}
    settings = prequential.Settings(**own)
    search = prequential.Search(tuple(range(4, 13, 4)), (0,), max_tokens=CUT)
    each_batch = METHODS["prequential"].encode(Meter(), STORIES, TASK, settings, search)
    _, params = add_adapters(STORIES.config, STORIES.params, Lora(COMBINED.rank, COMBINED.alpha), COMBINED.seed)
    return [adapters_of(params), *(adapters_of(each.adapted.params) for each in each_batch)]


@pytest.fixture(scope="module")
def phase():
    """Phase one after three batches."""
    ran = combined._PhaseOne(Meter(), STORIES, TASK.separator, COMBINED)
    for start in range(0, 12, 4):
        ran.block(Meter(), cut(12)[start : start + 4])
    return ran


def test_combined_is_the_start_plus_scalars_times_changes(phase, states):
    layers = list(dict.fromkeys(path[:-1] for path in states[0]))
    scalars = np.random.default_rng(0).normal(1, 0.5, (3, 35)).astype(np.float32)
    got = adapters_of(phase.adapted(scalars).params)
    for path, start in states[0].items():
        changes = np.stack([after[path] - before[path] for before, after in itertools.pairwise(states)])
        wanted = start + np.einsum("k,kij->ij", scalars[:, layers.index(path[:-1])], changes)
        np.testing.assert_allclose(got[path], wanted, atol=1e-6)
        assert np.abs(wanted - states[-1][path]).max() > 1e-4  # the scalars matter


def test_combined_at_ones_is_prequential(phase, states):
    got = adapters_of(phase.adapted(np.ones((3, 35), np.float32)).params)
    for path, wanted in states[-1].items():
        np.testing.assert_allclose(got[path], wanted, atol=1e-6)


def test_scalars_cost_their_width_each(model):
    """The paper's are 32 bits; ours any width, and 16 bits of step."""
    search = combined.Search((8,), second=8, widths=(8, 32), max_tokens=CUT)
    settings = dataclasses.replace(COMBINED, entropy=False)
    narrow, wide = encoded("combined", settings, search)
    scalars = 2 * len(projections(model))
    assert wide.program.payload_bits - narrow.program.payload_bits == pytest.approx(24 * scalars, abs=1e-3)


# --- what a file holds, beside what the paper counts


def items_of_examples(batches):
    """Items of coded batches; the paper's bits are rounded up a batch."""
    rows = [row for batch in batches for row in batch]
    paper = sum(math.ceil(sum(row.body for row in batch)) for batch in batches)
    return {
        "the paper's: questions and answers": paper,
        "its rounding": sum(row.body for row in rows) - paper,
        "ends": sum(row.end for row in rows),
        "where prompts end": BOUNDARY * len(rows),
    }


def of_prequential(model):
    settings = LEARNERS["lora"]
    items = items_of_examples(prequential_in_torch(model, settings, 4 * BATCHES))
    items["how many batches"] = BATCHES * GOES_ON + STOPS
    items["how many further epochs"] = NO_EPOCHS
    search = prequential.Search(tuple(range(4, 4 * BATCHES + 1, 4)), (0,), max_tokens=CUT)
    return encoded("prequential", settings, search)[-1], items


def of_prompt(model, method, search):
    each = encoded(method, METHODS[method].Settings(), search)[-1]
    words = STORIES.tokenizer.encode(each.adapted.before)
    with torch.no_grad():
        bare, whole = read(model, words, bos=None), read(model, words)
    return each, {
        "the paper's: prompt after its first token": math.ceil(bare.body),
        "its rounding": bare.body - math.ceil(bare.body),
        "first token, and BOS before it": whole.body - bare.body,
        "ends": whole.end,
        "that it is coded as tokens": -math.log2(1023 / 1024),
    }


def of_weights(model, method):
    settings, kind = METHODS[method].Settings(entropy=False), METHODS[method].Search
    trained = {
        "lora": lambda: adapt(model, 1, 8.0, 0),
        "lm_head": lambda: [model.lm_head.weight],
        "full": lambda: list(model.parameters()),
    }[method]()
    return encoded(method, settings, kind(**FEW))[-1], {
        "the paper's: 16 a number": 16 * sum(p.numel() for p in trained),
        "steps, 16 each": 16 * len(trained),
    }


def of_bayesian_lora(model):
    (each,) = encoded("bayesian_lora", bayesian_lora.Settings(rank=3, prune=True, entropy=False), UNEQUAL)
    found = widths_in_file(each.program, 3)
    return each, {
        "the paper's: widths times numbers": reference_bits(model, found),
        "swapped sizes": swapped_bits(model, found),
        "steps, 16 each": 16 * 3 * len(found),
        "widths, log2 5 a matrix": math.log2(5) * 3 * len(found),
        "ranks, log2 3 a layer": math.log2(3) * len(found),
    }


def of_combined(model):
    own = {field.name: getattr(COMBINED, field.name) for field in dataclasses.fields(prequential.Settings)}
    scalars = 2 * len(projections(model))
    items = items_of_examples(prequential_in_torch(model, prequential.Settings(**own), 8))
    items["the paper's: 32 a scalar"] = 32 * scalars
    items["steps, 16 each"] = 16
    items["how many batches"] = -math.log2(15 / 16) - math.log2(1 / 16)
    settings = dataclasses.replace(COMBINED, entropy=False)
    return encoded("combined", settings, combined.Search((8,), second=8, widths=(8, 32), max_tokens=CUT))[-1], items


ITEMISED = {  # method -> the program that is itemised, in words, and how
    "icl": ("3 examples", lambda model: of_prompt(model, "icl", icl.Search((1, 3)))),
    "urial": ("instruction, 2 examples", lambda model: of_prompt(model, "urial", urial.Search((0, 2)))),
    "prequential": ("16 examples, rank 8", of_prequential),
    "combined": ("8 examples, 70 scalars", of_combined),
    "lora": ("rank 1", lambda model: of_weights(model, "lora")),
    "lm_head": ("output matrix", lambda model: of_weights(model, "lm_head")),
    "full": ("all weights", lambda model: of_weights(model, "full")),
    "bayesian_lora": ("rank 3 at most", of_bayesian_lora),
}
RECORD = pathlib.Path(__file__).parents[2] / "benchmarks/results/bits.json"


@pytest.mark.parametrize("method", ITEMISED)
def test_what_the_paper_omits_adds_up_to_the_file(model, method):
    about, itemise = ITEMISED[method]
    each, items = itemise(model)
    program = each.program
    ideal = sum(items.values())
    assert program.payload_bits == pytest.approx(ideal, rel=1e-5, abs=0.02)
    items["settings, seed among them"] = program.header_bits - 8
    items["method and format"] = 8
    items["coder, and whole bytes"] = 8 * len(program.data) - program.ideal_bits
    total = 8 * len(program.data)
    assert sum(items.values()) == pytest.approx(total, rel=1e-5, abs=0.02)
    told = {"of": about, "bits": total, "items": {name: round(bits, 2) for name, bits in items.items()}}
    whole = json.loads(RECORD.read_bytes()) if RECORD.exists() else {}
    if "MDL_WRITE_BITS" in os.environ:
        whole[method] = told
        RECORD.write_text(json.dumps({name: whole[name] for name in ITEMISED if name in whole}, indent=1) + "\n")
    assert whole[method]["of"] == about and list(whole[method]["items"]) == list(items)
    for name, bits in (*items.items(), ("all", total)):  # last bits, and so a byte, may be another machine's own
        kept = whole[method]["bits"] if name == "all" else whole[method]["items"][name]
        assert kept == pytest.approx(bits, rel=1e-3, abs=16), name
