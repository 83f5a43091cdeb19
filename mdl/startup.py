"""What a process does first: logging, and a compilation cache on disk."""

import logging as standard_logging
import os
import pathlib
import platform

import jax
from absl import logging


def start() -> None:
    """Sets logging to a readable prefix and keeps compiled functions for the next process.

    The cache is `~/.cache/mdl/xla`, or where JAX_COMPILATION_CACHE_DIR says.
    """
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
    if not jax.config.jax_compilation_cache_dir:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "mdl" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def device() -> str:
    """The device that computes, in words."""
    first = jax.devices()[0]
    kind = platform.processor() or platform.machine() if first.platform == "cpu" else first.device_kind
    return f"{jax.device_count()} x {first.platform} ({kind})"
