"""What a decoder is made of: the shape and the switches that the one transformer implements."""

import dataclasses

STAGES = ("random", "pretrained", "midtrained", "posttrained")


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the projections of every layer (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        rank: r, columns of A and rows of B.
        alpha: the update is (alpha / r) * x A B.
    """

    rank: int
    alpha: float


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al. 2021), scaled or not.

    Attributes:
        frequencies: radians a position, one for each pair of a head's leading dimensions; the others do not rotate.
        scale: factor on cosine and sine (YaRN's attention factor).
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Layer:
    """What may differ from layer to layer.

    Attributes:
        rope: None where the layer has no rotary embedding.
        window: how many positions attention sees, its own among them; None for all.
    """

    rope: Rope | None = None
    window: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer; hashable, so that it can key compiled functions.

    Attributes:
        family: a key of `families.FAMILIES`: how its tensors are named in files.
        layers: one entry a layer.
        max_length: tokens of the longest text.
        norm: "rms", or "layer" with a bias.
        norm_offset: added to a norm's weight (Gemma keeps weight - 1).
        pre_norm, post_norm: a norm on what goes into, and on what comes out of, attention and feed-forward.
        parallel: attention and feed-forward read the same input (GPT-NeoX).
        qk_norm: a norm on queries and keys, "head" each head by itself or "all" heads together.
        qkv_bias, out_bias, mlp_bias: which projections have a bias.
        activation: "silu", "gelu" (exact), "gelu_tanh" or "relu".
        gated: the feed-forward has a gate projection.
        attention_scale: factor on query-key products; head_dim ** -0.5 where it is None.
        attention_softcap, logit_softcap: c in c tanh(x / c), on scores and on logits (Gemma 2).
        embed_scale: factor on embeddings (Gemma).
        learned_positions: a table of position embeddings is added (GPT-2).
        initializer_range: standard deviation of random matrices.
        residual_range: that of the projections back into the residual stream, where it differs (GPT-2).
        huggingface: the `config.json` that this was read from, as JSON text; what is written when exporting. Not part
            of the model: two configs that differ in nothing else are equal.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_length: int
    layers: tuple[Layer, ...]
    family: str = "llama"
    norm: str = "rms"
    norm_eps: float = 1e-6
    norm_offset: float = 0.0
    pre_norm: bool = True
    post_norm: bool = False
    parallel: bool = False
    qk_norm: str | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    activation: str = "silu"
    gated: bool = True
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embed_scale: float = 1.0
    learned_positions: bool = False
    tie_embeddings: bool = False
    initializer_range: float = 0.02
    residual_range: float | None = None
    lora: Lora | None = None
    huggingface: str = dataclasses.field(default="", compare=False, repr=False)

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.layers)
