"""`experiments.configs` under the name that it has on a command line, for configs of one's own that import it."""

from experiments import configs

__path__ = configs.__path__
