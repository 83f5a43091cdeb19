"""Bits: entropy coding of integers, settings and token sequences. One `code` call serves both directions:

an `Encoder` is given the symbol and returns it, a `Decoder` is given None and returns what it read, a `Meter` only
adds up −log2 p. So encoder and decoder of a method are one piece of code and cannot drift apart.
"""

from mdl.codes.coder import Coder, Decoder, Encoder, Meter

__all__ = ["Coder", "Decoder", "Encoder", "Meter"]
