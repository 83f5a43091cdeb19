"""What every test shares: compiled functions kept between runs, and where the real data lies."""

import os
import pathlib
import tempfile

import hypothesis
import jax
import pytest

os.environ["NPROC"] = "2"  # a program is decoded with the number of threads it was encoded with
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch, which parity tests import later: its threads fight with XLA's
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # in the processes that tests start, too
jax.config.update("jax_compilation_cache_dir", os.path.join(tempfile.gettempdir(), f"mdl-jax-cache-{os.getuid()}"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

hypothesis.settings.register_profile("loaded", deadline=None)  # other work may take the processor for a while
hypothesis.settings.load_profile("loaded")

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def _compiled_functions():
    """Those of a module are dropped after it: kept, all take gigabytes; they come back from the cache on disk."""
    yield
    jax.clear_caches()


_FIRST = (  # files that take a minute
    *("test_distributed", "test_workdir", "test_recipe", "test_sharding", "test_kills", "test_runs", "test_machine"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one at the end (with `--no-loadscope-reorder`)."""
    place = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(_FIRST)))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder with real data and checkpoints; without it the test is skipped."""
    path = pathlib.Path(os.environ.get("MDL_SHARED", _REPOSITORY.parent / "shared"))
    if not path.is_dir():
        reason = f"no real data: {path} is not a directory; set MDL_SHARED"
        print(reason)
        pytest.skip(reason)
    return path
