"""Bits of program it takes to make a language model good at a task."""

__version__ = "0.3.0"
