"""eigenpruning against PyTorch's hooks and against loops; what is removed, and the bias that takes its place."""

import numpy as np
import pytest
from tiny import LLAMA, plain_tokenizer, torch_model

from mdl import tasks
from mdl.checkpoints import checkpoint, huggingface
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Encoder
from mdl.methods.examples import Rules
from mdl.methods.parametric import eigenpruning
from mdl.methods.parametric.eigenpruning import Search, Settings
from mdl.training import Tokenised

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
RULES = Rules("", 1, 2, 30)
SEQUENCES = [Tokenised([7, 8, 9, 10, 11], 3), Tokenised([20, 21, 22, 23], 3), Tokenised([30, 31, 7, 33, 34, 35], 2)]


@pytest.mark.parametrize("over", ["k_proj", "q_proj"])
def test_inputs_and_gradients_are_those_of_pytorch(tmp_path, over):
    torch = pytest.importorskip("torch")
    theirs = torch_model(LLAMA | {"num_hidden_layers": 2})
    theirs.save_pretrained(tmp_path)
    config, params = huggingface.load(tmp_path)
    seen = eigenpruning.observe(config, params, over, SEQUENCES, RULES)
    read, given = {}, {}

    def keep(i):
        def hook(module, inputs, output):
            output.retain_grad()
            read[i], given[i] = inputs[0], output

        return hook

    for i, layer in enumerate(theirs.model.layers):
        getattr(layer.self_attn, over).register_forward_hook(keep(i))
    for row, one in enumerate(SEQUENCES):
        ids = torch.tensor([[1, *one.tokens, 2]])
        logits = theirs(ids[:, :-1]).logits[0]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        losses[one.boundary :].mean().backward()
        size = len(one.tokens) + 1
        assert seen.there[row].sum() == size
        for i in range(2):
            np.testing.assert_allclose(seen.inputs[i, row, :size], read[i][0].detach().numpy(), atol=1e-5)
            wanted = given[i].grad[0].numpy()
            assert np.abs(wanted).max() > 1e-3
            np.testing.assert_allclose(seen.slopes[i, row, :size], wanted, atol=1e-5)


def _kernels(over, heads):
    kernels = [np.asarray(STORIES.params["layers"][i]["self_attn"][over]["kernel"], np.float64) for i in range(5)]
    return [np.split(kernel, heads, axis=1) for kernel in kernels]


def test_scores_are_the_largest_first_order_changes():
    heads, layer = STORIES.config.num_kv_heads, 3
    rules = Rules("", 1, 2, 60)
    sequences = [Tokenised([7, 8, 9, 10, 11], 3), Tokenised([20, 21, 22, 23], 3), Tokenised([30, 31, 7, 33], 2)]
    seen = eigenpruning.observe(STORIES.config, STORIES.params, "k_proj", sequences, rules)
    kernel = STORIES.params["layers"][layer]["self_attn"]["k_proj"]["kernel"]
    found = eigenpruning.scores(seen, layer, *eigenpruning.components(kernel, heads))
    for head, part in enumerate(_kernels("k_proj", heads)[layer]):
        u, s, v = np.linalg.svd(part, full_matrices=False)
        slopes = np.split(seen.slopes[layer], heads, axis=-1)[head]
        for i in range(len(s)):
            effects = []
            for b in range(3):
                for t in range(seen.there.shape[1]):
                    if seen.there[b, t] and seen.there[b - 1, t]:
                        change = seen.inputs[layer, b - 1, t] - seen.inputs[layer, b, t]
                        effects.append(float(slopes[b, t] @ (u[:, i] @ change * s[i] * v[i])))
            assert found[head, i] == pytest.approx(max(effects), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("how", ["recomputed", "mask"])
def test_the_lowest_components_go_and_a_bias_takes_their_place(how):
    settings, heads = Settings(how, "v_proj", 4), STORIES.config.num_kv_heads
    search = Search((0.25,), scored=4, batch=4, max_tokens=127)
    (encoded,) = eigenpruning.encode(Encoder(), STORIES, TINY, settings, search)
    after = encoded.adapted.params["layers"]
    total = removed = 0
    for i, parts in enumerate(_kernels("v_proj", heads)):
        own = after[i]["self_attn"]["v_proj"]
        new, bias = np.asarray(own["kernel"], np.float64), np.asarray(own["bias"], np.float64)
        gone = [np.linalg.matrix_rank(part, 1e-4) for part in np.split(np.hstack(parts) - new, heads, axis=1)]
        left = [np.linalg.matrix_rank(part, 1e-4) for part in np.split(new, heads, axis=1)]
        assert [a + b for a, b in zip(gone, left, strict=True)] == [part.shape[1] for part in parts]
        total, removed = total + sum(gone) + sum(left), removed + sum(gone)
        assert (np.abs(bias).max() > 0) == (sum(gone) > 0)
    assert removed == encoded.settings["removed"] == round(total / 4)
    untouched = after[0]["self_attn"]["q_proj"]["kernel"]
    np.testing.assert_array_equal(untouched, STORIES.params["layers"][0]["self_attn"]["q_proj"]["kernel"])


def test_at_the_mean_of_its_inputs_a_projection_gives_what_it_gave():
    settings = Settings("mask", "k_proj", 3)
    (encoded,) = eigenpruning.encode(Encoder(), STORIES, TINY, settings, Search((0.5,), scored=8, max_tokens=127))
    from mdl.methods import examples

    rules = examples.rules(STORIES, "", 0)
    chosen = examples.choose(STORIES, TINY.train, "given", 3, 127, 0)
    seen = eigenpruning.observe(STORIES.config, STORIES.params, "k_proj", chosen, rules)
    for i in range(5):
        mean = seen.inputs[i][seen.there].mean(axis=0)
        own = encoded.adapted.params["layers"][i]["self_attn"]["k_proj"]
        before = mean @ np.asarray(STORIES.params["layers"][i]["self_attn"]["k_proj"]["kernel"])
        np.testing.assert_allclose(mean @ np.asarray(own["kernel"]) + np.asarray(own["bias"]), before, atol=1e-4)


def test_what_cannot_be_is_named():
    for settings, search, told in (
        (Settings(examples=1), Search(), "examples=1: 2 or more are wanted"),
        (Settings(), Search((1.5,)), r"fractions=\(1.5,\): more than 0 and less than 1"),
        (Settings("mask"), Search(batch=1), "batch=1: 2 or more is wanted"),
    ):
        with pytest.raises(ValueError, match=told):
            list(eigenpruning.encode(Encoder(), STORIES, TINY, settings, search))


def test_in_place_of_more_examples_than_there_are_all_are_taken(monkeypatch):
    there = len(TINY.train)
    (few,) = eigenpruning.unmade(STORIES, TINY, Settings(examples=5000), Search())
    assert str(few).startswith(f"examples=5000: there are {there} training examples; a program of {there} is made")

    def choose(checkpoint, train, order, count, *more):
        raise LookupError(f"{count} are chosen")

    monkeypatch.setattr(eigenpruning.examples, "choose", choose)
    with pytest.raises(LookupError, match=f"^{there} are chosen"):
        next(eigenpruning.encode(Encoder(), STORIES, TINY, Settings(examples=5000), Search()))


def test_models_without_biases_stay_without_them_where_nothing_is_coded():
    settings = Settings("mask", "k_proj", 0)
    (encoded,) = eigenpruning.encode(Encoder(), STORIES, TINY, settings, Search((0.1,), scored=4, max_tokens=127))
    assert encoded.adapted.config == STORIES.config and len(encoded.program.data) < 60


def test_a_checkpoint_of_another_family_is_pruned(tmp_path):
    """Layer norms, biases and one matrix for queries, keys and values in files."""
    pytest.importorskip("torch")
    theirs = torch_model({"model_type": "gpt2", "vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2})
    theirs.save_pretrained(tmp_path)
    config, params = huggingface.load(tmp_path)
    model = Checkpoint("gpt2", "random", config, params, plain_tokenizer(60), "0")
    seen = eigenpruning.observe(config, params, "v_proj", SEQUENCES, Rules("", None, None, 30))
    kernels = eigenpruning._kernels(model, "v_proj")
    mask = np.zeros((2, 2, 8), bool)
    mask[1, 0, 2] = True
    pruned = eigenpruning._pruned(model, "v_proj", kernels, mask, seen)
    old, new = (np.asarray(p["layers"][1]["self_attn"]["v_proj"]["kernel"]) for p in (params, pruned.params))
    assert np.linalg.matrix_rank(old - new, 1e-4) == 1 and np.array_equal(old[:, 8:], new[:, 8:])
