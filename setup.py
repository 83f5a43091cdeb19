"""Installs `mdl` and the experiment binaries."""

import pathlib
import re

from setuptools import find_packages, setup

_HERE = pathlib.Path(__file__).parent

setup(
    name="mdl-frontier",
    version=re.search(r'__version__ = "(.+)"', (_HERE / "mdl" / "__init__.py").read_text(encoding="utf-8"))[1],
    description="Task complexity of language models as minimum description length, measured by programs that decode",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["mdl", "mdl.*", "experiments", "experiments.*"]),
    package_data={
        "mdl.analysis": ["page/*"],
        "mdl.checkpoints": ["embedded/*/*"],
        "mdl.tasks": ["examples/*"],
        "mdl.tasks.datasets": ["checksums.tsv"],
        "experiments.configs": ["prompts/*", "rasp/*", "scripts/*"],
    },
    entry_points={"console_scripts": ["mdl = experiments.command:main"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "constriction>=0.5",
        "flax>=0.12.8",
        "gguf>=0.17",
        "grain>=0.2.18",
        "huggingface_hub>=1.0",
        "jax>=0.10.2",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pyarrow>=17",
        "requests>=2.31",
        "sacrebleu>=2.4",
        "safetensors>=0.6",
        "scipy>=1.14",
        "tensorflow-datasets>=4.9.10",
        "tokenizers>=0.22",
        "transformers>=5.0",
    ],
    extras_require={
        "report": ["plotly>=6.0", "tensorboard>=2.18"],  # pages of `experiments.report`, and its event files
        "hub": ["datasets>=3.0"],  # data sets of the Hugging Face hub as custom tasks
        "rasp": ["tracr-pypi==1.0.0"],  # compiles programs of the method `rasp`
        # Its tasks as custom tasks, its checker of instructions, and programs as models of its own.
        "lm_eval": ["immutabledict>=4.0", "langdetect>=1.0.9", "lm_eval==0.4.13", "nltk>=3.9.1"],
        "test": [
            "mdl-frontier[hub,lm_eval,rasp,report,sweeps]",
            "hypothesis>=6.100",
            "playwright>=1.50",  # drives the Chromium of the system, if there is one
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "ruff==0.17.5",
        ],
        # Only tests and benchmarks compare with it; nothing in mdl imports it.
        "parity": ["torch==2.13.0", "accelerate>=1.10", "peft>=0.21"],
        "sweeps": ["submitit>=1.5"],  # workers as jobs of a cluster
        "gpu": ["jax[cuda13]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
    },
)
