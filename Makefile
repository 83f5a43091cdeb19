# Everything runs in a virtual environment that these rules make: only python3 (3.11 or newer), pip and make are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
FRONTIER ?= frontier

.PHONY: demo frontier test lint format clean

demo: $(VENV)/.installed  ## which ending is the story's? frontier of the embedded checkpoints
	$(BIN)/python -m experiments.stories --workdir=$(DEMO)

frontier: $(VENV)/.installed  ## every method on the embedded checkpoints
	$(BIN)/python -m experiments.gsm8k --workdir=$(FRONTIER) --config=configs/gsm8k.py:methods

test: $(VENV)/.installed-test  ## lint, then all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadfile tests

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
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# torch, for parity tests only, first from the local CPU build where there is one
$(VENV)/.installed-test: setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,parity]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(DEMO) $(FRONTIER) .cache build *.egg-info
