"""What bounds the decoding of a program that nobody vouches for: its time by its length, its memory by the checkpoint.

A file that was made here keeps within all of these, since the encoder is held to them as well. The range of a single
setting stands beside it, in each method's `Settings`.
"""

import jax

IMPLIED_BYTES = 1 << 10  # zeros after a stream's end that a decoder reads as if they were there
NUMBER_BITS = 64  # of a natural number
STRING_BYTES = 1 << 20  # of a byte string
FREE_EXAMPLES = 1024  # training examples that may cost next to nothing
EXAMPLES_A_BIT = 1  # of the others
FREE_SAMPLES = 1 << 14  # texts drawn from the model that may cost next to nothing
SAMPLES_A_BIT = 16  # of the others
EPOCHS = 1000  # passes over what was decoded
BATCH = 4096  # examples side by side
_LEAST_MEMORY, _WEIGHTS = 1 << 30, 32  # bytes that any program may ask for, and how many times the checkpoint's weights


def check_examples(count: int, coded: float) -> None:
    """Holds the number of training examples against the bits of all that was coded so far.

    Raises:
        ValueError: there are too many for so few bits: each costs time.
    """
    most = FREE_EXAMPLES + int(EXAMPLES_A_BIT * coded)
    if count > most:
        raise ValueError(f"{count} training examples in {coded:.0f} bits, and {most} are possible")


def check_samples(count: int, coded: float) -> None:
    """Holds the number of texts that were drawn from the model against the bits of all that was coded so far.

    Raises:
        ValueError: there are too many for so few bits: each costs time.
    """
    most = FREE_SAMPLES + int(SAMPLES_A_BIT * coded)
    if count > most:
        raise ValueError(f"{count} samples in {coded:.0f} bits, and {most} are possible")


def check_memory(what: str, size: int, params) -> None:
    """Holds what is about to be allocated against the checkpoint's weights.

    Args:
        what: what asks for it, with its value, such as "batch=4096".
        size: bytes.
        params: the checkpoint's.

    Raises:
        ValueError: it is too much.
    """
    most = max(_LEAST_MEMORY, _WEIGHTS * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params)))
    if size > most:
        raise ValueError(f"{what} takes {size >> 20:,} MiB, and {most >> 20:,} MiB are possible with this checkpoint")
