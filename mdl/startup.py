"""What a process does before it computes: threads, memory, logging, and a compilation cache on disk."""

import ctypes
import importlib.util
import logging as standard_logging
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from importlib import metadata

import jax
from absl import logging
from jax._src import xla_bridge  # nothing public says whether a backend was made

from mdl import sharding

_MOST_TOLD = 16  # differences that an error names
_THREADS = "NPROC"  # what XLA's CPU client reads when it makes its thread pool
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "constriction", "grain", "numpy")
_NVIDIA = ("jax_cuda12_plugin", "jax_cuda13_plugin")  # modules, of which one is there where jax may use such a device
# Kernels whose sums have one order, the same in each process: a program's last bits depend on it. Autotuning would
# choose kernels by the time that they happen to take.
_REPEATABLE = {"xla_gpu_deterministic_ops": "true", "xla_gpu_autotune_level": "0"}
_INSTRUCTIONS = (  # as XLA's flag xla_cpu_max_isa names them, in order, with the processor's own names
    ("SSE4_2", "sse4_2"),
    ("AVX", "avx"),
    ("AVX2", "avx2"),
    ("AVX512", "avx512f"),
    ("AVX512_VNNI", "avx512_vnni"),
    ("AVX512_BF16", "avx512_bf16"),
    ("AMX", "amx_tile"),
    ("AMX_FP16", "amx_fp16"),
)


def start(threads: int | None = None) -> None:
    """Prepares this process; call it before the first computation.

    On a CPU the number of threads decides in which order some sums are taken, and with it the last bits of a trained
    weight. So it is part of a program, which is decoded with as many threads as it was encoded with, whatever the
    number of cores. The compilation cache is `~/.cache/mdl/xla`, or where JAX_COMPILATION_CACHE_DIR says;
    what was compiled in half a second comes into it only where JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS says so.

    On an NVIDIA device XLA is told to choose kernels that compute the same bits in each process, unless XLA_FLAGS says
    otherwise by itself; processes that are started from this one inherit it.

    Args:
        threads: threads of the CPU backend; by default as many as there are cores, or what NPROC says.

    Raises:
        ValueError: the backend runs with another number of threads already.
    """
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
    if threads is not None and threads < 0:
        raise ValueError(f"threads={threads}: a number of threads, or 0 for as many as there are cores, is wanted")
    wanted = threads or _threads_given()
    if wanted != _threads_given() and xla_bridge.backends_are_initialized() and jax.default_backend() == "cpu":
        raise ValueError(
            f"this process computes with {_threads_given()} threads, and {wanted} are wanted; run it in a new process"
        )
    os.environ[_THREADS] = str(wanted)
    if any(importlib.util.find_spec(name) for name in _NVIDIA):
        _ask_for_repeatable_kernels()
        if jax.config.jax_default_matmul_precision is None:  # by itself such a device rounds float32 to 10 bits
            jax.config.update("jax_default_matmul_precision", "highest")
    _keep_freed_memory()
    if not jax.config.jax_compilation_cache_dir:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "mdl" / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _ask_for_repeatable_kernels() -> None:
    given = os.environ.get("XLA_FLAGS", "")
    missing = [f"--{name}={value}" for name, value in _REPEATABLE.items() if f"--{name}" not in given]
    if missing and xla_bridge.backends_are_initialized() and jax.default_backend() == "gpu":
        logging.warning(
            "the device was in use before XLA could be told %s: another process may decode programs to other models; "
            "set XLA_FLAGS to that",
            " ".join(missing),
        )
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *missing])


def repeatable() -> bool:
    """Whether XLA was told to take sums in one order on an NVIDIA device."""
    return "--xla_gpu_deterministic_ops=true" in os.environ.get("XLA_FLAGS", "")


def threads() -> int:
    """Threads of the CPU backend, once `start` was called; 1 where another backend computes."""
    return _threads_given() if jax.default_backend() == "cpu" else 1


def _threads_given() -> int:
    return int(os.environ.get(_THREADS, cores()))


def environment() -> dict[str, str]:
    """What the last bits depend on beside a program: names to texts, the same on two machines that compute alike."""
    first = jax.devices()[0]
    found = {
        "device": first.platform if first.platform == "cpu" else first.device_kind,
        "devices": str(jax.device_count()),
        "xla_flags": _flags(first.platform),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if sharding.active():
        found["mesh"] = sharding.described()
    if sharding.activations():  # how many rows are computed at once, whose sums are added up
        found["activations"] = str(sharding.activations())
    if first.platform == "cpu" and jax.device_count() > 1:  # in what order sums over devices are taken
        found["collectives"] = jax.config.jax_cpu_collectives_implementation or "in process"
    if first.platform == "cpu":
        found |= {"cpu": _cpu_model(), "instruction_set": _instruction_set()}
    return found | {name: metadata.version(name) for name in LIBRARIES}


def _flags(platform: str) -> str:
    """XLA_FLAGS without those of devices that do not compute."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(flag for flag in flags if platform == "gpu" or not flag.startswith("--xla_gpu_"))


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """In what two environments differ, in words; empty where they do not."""
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    told = [
        f"{name} {then.get(name, 'unknown')!r:.80} there and {now.get(name, 'unknown')!r:.80} here" for name in names
    ]
    return "; ".join(told[:_MOST_TOLD])


def _cpu_model() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _instruction_set() -> str:
    """The widest vector instructions that XLA uses: what the processor has, unless XLA_FLAGS allows less."""
    try:
        flags = set(pathlib.Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    except OSError:
        return platform.machine()
    has = [name for name, flag in _INSTRUCTIONS if flag in flags]
    allowed = re.findall(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    order = [name for name, _ in _INSTRUCTIONS]
    if allowed and allowed[-1].upper() in order:
        has = [name for name in has if order.index(name) <= order.index(allowed[-1].upper())]
    return has[-1] if has else platform.machine()


def device() -> str:
    """The device that computes, in words."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu ({platform.machine()}, {threads()} threads)"
    return f"{jax.device_count()} x {first.device_kind}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks instead of returning them: small models then train 1.6 times faster."""
    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)
    except (OSError, AttributeError):  # another C library: nothing to tell
        pass
