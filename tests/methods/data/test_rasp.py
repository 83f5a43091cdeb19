"""rasp: what a token stands beside, what the losses are, batches, and programs that are refused."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdl.checkpoints import checkpoint, transformer
from mdl.codes import Decoder, Encoder, settings, tokens
from mdl.codes.coder import natural
from mdl.methods import script
from mdl.methods.data import rasp
from mdl.methods.data.rasp import Inputs, Run, Search, Settings
from mdl.methods.data.rasp_compiled import compiled
from mdl.methods.data.rasp_language import Drawn
from mdl.methods.method import Adapted

pytestmark = pytest.mark.usefixtures("tracr")
FIRST = str(pathlib.Path(__file__).parents[1] / "first.rasp")
SUM = "'{0-4} {0-9} + {0-4} {0-9}:'\nSequenceMap(lambda x,i:x if i<9 else 0,tokens,indices)"
STORIES = checkpoint.load("stories260k")
SMALL = {"inputs": 12, "batch": 4}


@pytest.fixture(scope="module")
def tracr():
    """The compiler; without it the tests are skipped."""
    return pytest.importorskip("tracr", reason="tracr is not installed: pip install 'mdl-frontier[rasp]'")


@pytest.fixture(scope="module")
def run():
    """A run before its first step."""
    return Run(Encoder(), STORIES, Settings(**SMALL), rasp.read(FIRST))


def test_a_token_stands_beside_the_last_symbol_that_its_text_completes():
    _, model = compiled(SUM, 3)
    drawn = [Drawn("1 2 + 3 4:", (1, 2, 3, 4), (1, 3, 7, 9))]
    found = rasp.inputs(STORIES, model, drawn, 3)
    read, targets, weights = (x[0] for x in found.arrays)
    ids = STORIES.tokenizer.encode("1 2 + 3 4: 4 4 4")
    assert read[0] == STORIES.tokenizer.bos_id and list(read[1 : len(ids) + 1]) == ids
    text, seen = "1 2 + 3 4: 4 4 4", []
    for size in range(1, len(ids) + 1):
        done = len(STORIES.tokenizer.decode(ids[:size]))
        seen.append(sum(character.isdigit() for character in text[:done]))
    assert found.places[0, 0] == 0 and not found.places[0, len(ids) + 1 :].any()
    np.testing.assert_array_equal(found.places[0, 1 : len(ids) + 1], np.minimum(seen, 6))  # the last is not read on
    answered = [STORIES.tokenizer.decode([target]) for target, weight in zip(targets, weights, strict=True) if weight]
    assert "".join(answered).replace(" ", "").startswith("444") and set(weights) == {0, 1}
    assert found.sizes.tolist() == [len(ids)]
    ids_of = {4: model.tokens([(4,)])[0, 1]}
    assert [int(x) for x in found.symbols[0, 5:7]] == [ids_of[4]] * 2


def test_layers_stand_beside_layers():
    assert rasp.beside(5, 3) == ((0, 0), (1, 1), (2, 2))
    assert rasp.beside(4, 4) == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert rasp.beside(2, 5) == ((0, 2), (1, 4))
    assert rasp.beside(3, 4) == ((0, 1), (1, 2), (2, 3))


def test_the_losses_are_those_of_the_equations(run):
    """Before the first step, by parallel scores and in NumPy; the checkpoint is then no distance from itself."""
    batch = run._batch()
    keep = jax.tree.map(jnp.copy, (run._trained, run._states))
    _, _, found = run._update(*keep, STORIES.params, batch)
    answers, apart, forgot = map(float, found)
    bits = {"bos": 1, "eos": 2, "max_tokens": 100}
    wanted = 0.0
    for row in range(4):
        own = batch["weights"][row] > 0
        start = int(np.flatnonzero(own)[0])
        ids = [*batch["inputs"][row, 1 : start + 1], *batch["targets"][row][own][:-1]]
        whole, prompt = [int(i) for i in ids], [int(i) for i in ids[:start]]
        ended = -tokens.log_likelihoods(STORIES.config, STORIES.params, [whole], **bits)[0]
        wanted += ended + _without_end(prompt)
    assert answers == pytest.approx(wanted / batch["weights"].sum(), rel=1e-4)
    assert forgot == pytest.approx(0, abs=1e-6)
    assert apart == pytest.approx(_apart(run, batch), rel=1e-4)


def _without_end(ids):
    """Log-likelihood of a text that goes on."""
    model = transformer.bind(STORIES.config, STORIES.params)
    read = jnp.array([[1, *ids[:-1]]])
    scores = jax.nn.log_softmax(model.logits(model(read)[0]))[0]
    return float(sum(scores[i, token] for i, token in enumerate(ids)))


def _apart(run, batch):
    """Σ over layers of the mean of 1 − cos, in NumPy, of hidden states that are run block by block."""
    model, total = transformer.bind(STORIES.config, STORIES.params), 0.0
    read = jnp.asarray(batch["inputs"])
    positions = jnp.broadcast_to(jnp.arange(read.shape[1]), read.shape)
    x = model.embed(read, positions)
    residuals, linear = np.asarray(batch["residuals"], np.float64), np.asarray(run._trained["map"], np.float64)
    for layer in range(len(residuals)):
        x, _ = model.layers[layer](x, positions, jnp.full(len(read), read.shape[1] - 1), None)
        apart = []
        for row, column in zip(*np.nonzero(batch["places"]), strict=True):
            one = np.asarray(x[row, column], np.float64) @ linear
            other = residuals[layer, row, batch["places"][row, column]]
            apart.append(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        total += np.mean(apart)
    return total


def test_training_lowers_the_loss_and_each_loss_can_be_left_out():
    left = Run(Encoder(), STORIES, Settings(**SMALL, residual=0, text=0, balanced=False), rasp.read(FIRST))
    assert not {"residuals", "texts"} & set(left._batch())
    left.train_until(2)
    assert left.steps == 2 and left.adapted().digest() != Adapted(STORIES.config, STORIES.params).digest()
    run = Run(Encoder(), STORIES, Settings(**SMALL), rasp.read(FIRST))
    losses = []
    for _ in range(12):
        run._trained, run._states, found = run._update(run._trained, run._states, STORIES.params, run._batch())
        losses.append([float(x) for x in found])
    assert losses[-1][0] < 0.3 * losses[0][0] and losses[-1][1] < losses[0][1]
    assert losses[-1][2] > 0


def test_balanced_batches_have_all_answers_alike():
    kinds = (np.arange(90), np.arange(90, 99), np.array([99]))
    found = Inputs((), np.zeros((100, 3)), np.zeros((100, 3)), np.ones(100), kinds)
    generator = np.random.Generator(np.random.Philox(0))
    rows = found.batch(generator, 3000, balanced=True)
    counts = [np.isin(rows, kind).sum() for kind in kinds]
    assert sum(counts) == 3000 and all(900 < count < 1100 for count in counts)
    plain = found.batch(generator, 3000, balanced=False)
    assert np.isin(plain, kinds[0]).sum() > 2500


def _stream(source, steps):
    encoder = Encoder()
    settings.code(encoder, Settings, Settings(**SMALL))
    script.code(encoder, source, rasp._PHRASES)
    natural(encoder, steps)
    return Decoder(encoder.finish())


@pytest.mark.parametrize(
    "source, steps, message",
    [
        ("__import__('os').system('touch /tmp/hacked')", 1, "a source is a template in quotes"),
        ("'{ab}'\nopen('/etc/passwd')", 1, "is no sequence and no operation"),
        ("'{ab 2-3}'\nMap(lambda x: x, indices)", 1, "tracr cannot compile"),
        ("'{ab 2-3}'\nMap(lambda x: x, tokens)", 1 << 20, "steps=1048576: at most 16384"),
        ("'" + "long " * 399 + "{ab}'\nMap(lambda x:x,tokens)", 1, "tokens, and the context holds"),
    ],
)
def test_programs_that_cannot_be_decoded_are_told_in_a_line(source, steps, message):
    decoder = _stream(source, steps)
    with pytest.raises(ValueError, match=message) as refused:
        rasp.decode(decoder, STORIES)
    assert "\n" not in str(refused.value)


def test_inputs_of_too_many_tokens_are_refused(monkeypatch):
    monkeypatch.setattr(rasp, "_MOST_READ", 60)
    with pytest.raises(ValueError, match=r"inputs=12: some \d+ tokens, and 60 are possible"):
        Run(Encoder(), STORIES, Settings(**SMALL), rasp.read(FIRST))


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file or directory; give the path"),
        (b"\xff", "not UTF-8"),
        (b"import os", "a source is a template in quotes"),
    ],
)
def test_sources_that_cannot_be_read_are_named_before_anything_is_measured(tmp_path, content, message):
    path = tmp_path / "mine.rasp"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"rasp source .*mine\.rasp: .*{message}"):
        Search((str(path),))
    with pytest.raises(ValueError, match=r"rasp: files=\(\): a list of one or more"):
        Search()


def test_a_source_is_shorter_with_the_phrases_of_the_language():
    sizes = []
    for phrases in (b"", rasp._PHRASES):
        encoder = Encoder()
        script.code(encoder, rasp.read(FIRST), phrases)
        data = encoder.finish()
        assert script.code(Decoder(data), None, phrases) == rasp.read(FIRST)
        sizes.append(len(data))
    assert sizes[1] < 0.6 * sizes[0]
