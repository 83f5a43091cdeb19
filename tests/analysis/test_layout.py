import pkgutil
import subprocess
import sys

from mdl import analysis

MODULES = [f"mdl.analysis.{module.name}" for module in pkgutil.iter_modules(analysis.__path__)]


def test_what_reads_only_results_needs_neither_jax_nor_pyplot():
    unwanted = "('jax', 'flax', 'matplotlib.pyplot')"
    code = f"import sys, {', '.join(MODULES)}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
