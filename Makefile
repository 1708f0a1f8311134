# Few verbs. Each sets up what it needs: Python 3.11 or newer, make and pip are all that must be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

# Tests start dozens of processes; with no bytecode kept each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test quick check coverage bench

setup: $(READY)

# The stamp is newer than what it was made from, so a second run does nothing.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server,dev]'
	$(BIN)/python -m compileall -q streams projections hub consumers ops
	touch $(READY)

run: setup
	$(BIN)/hub dev

test: setup
	$(BIN)/pytest -n 2 --dist loadscope

# What needs no server, with few examples of each property: for every change; before a commit, `make test`.
quick: setup
	$(BIN)/pytest -q -n 2 --hypothesis-profile quick -m 'not slow' tests/unit tests/property tests/contract/test_object_store_local.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

# Counted in the test processes alone: nodes and workers that are processes of their own are not, nor are tests marked slow.
# `make test` judges the tests; under the tracer some are too slow for their own limits, so here only the figure counts.
coverage: setup
	-$(BIN)/pytest -q -n 2 --dist loadscope --hypothesis-profile quick -m 'not slow' --cov --cov-report= tests/unit tests/property tests/contract tests/integration
	$(BIN)/coverage report

bench: setup
	$(BIN)/hub bench
