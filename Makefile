# Few verbs. Each sets up what it needs: Python 3.11 or newer, make and pip are all that must be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Stamps, newer than what they were made from, so that a second run does nothing: with what tests and checks need, or just what a hub needs.
READY := .venv/.ready
RUNNABLE := .venv/.runnable
PIP := $(BIN)/python -m pip install --disable-pip-version-check --editable
# The server of the tests: 6.2, 7 or valkey; without it the one that `hub dev` would take.
SERVER ?=
export TEST_SERVER := $(SERVER)

# Tests start dozens of processes; with no bytecode kept each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run smoke test test-long test-servers test-compiled quick check coverage picture docs bench wheel wheels lock sbom

setup: $(READY)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

$(READY): pyproject.toml | $(BIN)/python
	$(PIP) '.[server,embedded,dev]'
	$(BIN)/python -m compileall -q streams projections hub consumers ops
	touch $(READY)

# uv installs in a quarter of pip's time; where it cannot be had or finds no index, pip does it.
# Where no server can be installed the hub runs on one of the machine's own, and says so if there is none.
$(RUNNABLE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv && \
	    $(BIN)/uv pip install --python $(BIN)/python --editable '.[server,embedded]' || $(PIP) '.[server,embedded]' || $(PIP) '.[server]'
	$(BIN)/python -m compileall -q streams projections hub consumers ops
	touch $(RUNNABLE)

run: $(if $(wildcard $(READY)),$(READY),$(RUNNABLE))
	$(BIN)/hub dev

# A whole hub in seconds: a conversation, an agent's answer, the plug pulled in the middle of it.
smoke: $(if $(wildcard $(READY)),$(READY),$(RUNNABLE))
	$(BIN)/python -m ops.smoke

# Three at once on two cores: half of the time a test waits, for a lease that ends or a process that comes.
test: setup
	$(BIN)/pytest -n 3 --dist loadscope

# What `make test` leaves out for its time: tortures, killed nodes in the benchmark, large files, most guides, and others.
test-long: setup
	$(BIN)/pytest -n 2 -m long

# The moving picture of README, from two pages of a real Chromium: after a change of the console's first screen.
picture: setup
	UPDATE_PICTURE=1 $(BIN)/pytest -q -m long tests/browser/test_picture.py

# The docs site in site/, with every link checked; `python -m http.server -d site` shows it. DOCS: the pages, and the files they link to.
DOCS := README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE Makefile docker-compose.yml docs examples consumers hub ops streams projections tests/integration/test_examples.py
docs: setup
	$(BIN)/python -c 'import material' 2>/dev/null || $(PIP) '.[docs]'
	rm -rf build/docs && mkdir -p build/docs
	git ls-files $(DOCS) | tar -cT - | tar -xC build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

# What needs a server, on each of the three that are supported.
test-servers: setup
	for server in 7 6.2 valkey; do TEST_SERVER=$$server $(BIN)/pytest -n 2 --dist loadscope tests/contract tests/integration tests/fault || exit 1; done

# A wheel for this platform, in dist/, with the modules of ops/compiled.py compiled (some minutes); pure Python where there is no compiler.
wheel: setup
	rm -rf build/lib* build/bdist* dist/realtime_hub-*.whl # a module that is compiled no more would be left in it
	HUB_COMPILED=1 $(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

# The tests of the parts and of the whole against the wheel, laid out beside the tree: the tree itself is on no path.
COMPILED := build/compiled
test-compiled: wheel
	rm -rf $(COMPILED) && $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target $(COMPILED)/site dist/realtime_hub-*.whl
	cd $(COMPILED) && HUB_COMPILED=1 PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED)/site:$(CURDIR)/tests $(CURDIR)/$(BIN)/pytest -n 2 --dist loadscope \
	    -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) -o pythonpath= -m 'not interpreted and not long' $(COMPILED_TESTS)
COMPILED_TESTS ?= $(CURDIR)/tests/unit $(CURDIR)/tests/integration

# What needs no server, with few examples of each property: for every change; before a commit, `make test`.
quick: setup
	$(BIN)/pytest -q -n 2 --hypothesis-profile quick -m 'not slow and not long' tests/unit tests/property tests/contract/test_object_store_local.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

# Counted in the test processes alone: nodes and workers that are processes of their own are not, nor are tests marked slow.
# `make test` judges the tests; under the tracer some are too slow for their own limits, so here only the figure counts.
coverage: setup
	-$(BIN)/pytest -q -n 4 --dist loadscope --hypothesis-profile quick -m 'not slow and not long' --cov --cov-report= tests/unit tests/contract tests/integration
	$(BIN)/coverage report

# The exact versions of everything that the image and CI install, each with the hashes of its files, for every platform.
UV := $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header
$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv

lock: $(BIN)/uv
	$(UV) --extra server --extra otel --extra audit --output-file ops/requirements.txt
	$(UV) --extra server --extra embedded --extra dev --output-file ops/requirements-dev.txt

# The parts of the image by name, version and licence, in dist/sbom.json (CycloneDX): what is in the lock, installed on its own.
sbom: | $(BIN)/python
	rm -rf build/sbom && $(BIN)/python -m venv build/sbom/image && $(BIN)/python -m venv build/sbom/tool && mkdir -p dist
	build/sbom/image/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes --requirement ops/requirements.txt
	build/sbom/image/bin/python -m pip install --disable-pip-version-check --quiet --no-deps .
	build/sbom/tool/bin/python -m pip install --disable-pip-version-check --quiet cyclonedx-bom
	build/sbom/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-format JSON --output-file dist/sbom.json build/sbom/image/bin/python

# Asks PyPI, for some minutes: no platform that is supported needs a compiler to install the hub.
wheels: setup
	$(BIN)/python -m ops.wheels

bench: setup
	$(BIN)/hub bench --quick
