# Two commands on a fresh machine: `make demo` and `make test`. Everything is installed into .venv; state lives in .kevolve.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export KEVOLVE_HOME ?= $(CURDIR)/.kevolve

.PHONY: install develop demo check test test-all format clean

install: $(VENV)/.installed  ## what a run needs: the packages without any extra

develop: $(VENV)/.developed  ## what tests and checks need besides

$(VENV)/.installed: pyproject.toml
	@echo "installing into $(VENV): a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: install  ## ingest docs/, run the examples on this machine's CPU, print the outcome
	$(BIN)/kb ingest docs/
	$(BIN)/kb query "how do I avoid a second pass over memory in a row-wise normalisation" --target cpu --top-k 3
	$(BIN)/kevolve run examples/map_id_transform.py --target cpu --budget-evaluations 6 --seed 0
	@echo 'go on with: export PATH="$(CURDIR)/$(BIN):$$PATH" KEVOLVE_HOME="$(KEVOLVE_HOME)"; kevolve doctor'

check: develop  ## formatting, lint, types, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/kb lint docs/

test: develop  ## what CI runs; under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: develop  ## the slow ones too: real searches, every compiler target
	$(BIN)/python -m pytest -n 2

format: develop
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .kevolve build dist *.egg-info
