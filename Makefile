# Needs make and Python 3.11 or newer, nothing else: every target sets up what it uses.
# PYTHON=... names the interpreter; ARGS=... goes to durableq demo (run), chaos, bench or foreign, or to pytest (test, test-fast).

VENV := .venv
BIN := $(VENV)/bin
# The stamp knows where it was made: a copied or moved tree is set up again, not run from the old place.
READY := $(VENV)/.ready-$(firstword $(shell pwd | cksum))
DOCUMENTS := $(READY)-docs
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

.DEFAULT_GOAL := help
.PHONY: help setup run demo chaos chaos-serve foreign statements docs sbom test test-fast check clean new-venv

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## create .venv with everything in constraints.txt
	@echo "$(VENV) is ready."

run: demo ## the same as demo

demo: $(READY) ## run the example application
	@$(BIN)/durableq demo $(ARGS)

chaos: $(READY) ## kill and stop workers at random, then check that nothing was lost
	@$(BIN)/python scripts/chaos.py $(ARGS)

chaos-serve: $(READY) ## kill the SQS endpoint 200 times under load, then check its messages
	@$(BIN)/python -m tests.chaos.served_run $(ARGS)

# Needs the package registries: it installs other projects, and their tests, into build/foreign.
foreign: $(READY) ## run other projects, and their tests, against the SQS endpoint
	@$(BIN)/python -m scripts.foreign_tests $(ARGS)

statements: $(READY) ## generate the SQL texts from their definitions
	@$(BIN)/python -m scripts.write_statements

# The builder is installed at the first run: it is larger than everything else together.
docs: $(DOCUMENTS) ## build the documentation as a site, strictly
	@$(BIN)/python -m scripts.build_docs

# Of an installation with the extras that run, not of the development tools. The generator checks it against the schema.
SBOM := dist/durableq.cdx.json
PINNED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1
sbom: $(READY) ## write the bill of materials of a release, in CycloneDX: dist/durableq.cdx.json
	@rm -rf build/sbom && mkdir -p build/sbom dist
	@for name in installed generator; do $(BIN)/python -m venv build/sbom/$$name || exit; done
	@$(PINNED) build/sbom/generator/bin/pip install -qq --no-input cyclonedx-bom
	@$(PINNED) build/sbom/installed/bin/pip install -qq --no-input '.[dashboard,django,metrics,otel,postgres,powertools,serve]'
	@build/sbom/installed/bin/python -m pip uninstall -qq --yes pip setuptools 2>/dev/null
	@build/sbom/generator/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file $(SBOM) build/sbom/installed/bin/python
	@echo "$(SBOM) has the parts of durableq with its extras."

bench: $(READY) ## measure this machine beside hand-written statements
	@$(BIN)/durableq bench $(ARGS)

# The files of tests are in memory where the machine has such a file system: there fsync costs nothing.
# Bytecode is kept in $(VENV), except that of the tests' own modules.
# ARGS=--hypothesis-profile=thorough doubles the random examples of a run, and walks.
# No restart: pytest-xdist 3.8 waits for ever after replacing a crashed worker under loadgroup (its issue 1323).
BYTECODE := $(CURDIR)/$(VENV)/bytecode
PYTEST = folder=$$(mktemp -d $(if $(wildcard /dev/shm),-p /dev/shm,-t) durableq-tests-XXXXXX) && \
	trap 'rm -rf "$$folder" "$(BYTECODE)$$folder"' EXIT && \
	PYTEST_DEBUG_TEMPROOT="$$folder" PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(BYTECODE)" \
	$(BIN)/python -m pytest -q -n auto --dist loadgroup --max-worker-restart 0

test: $(READY) ## run every test, in parallel
	@$(PYTEST) $(ARGS)

# Of the tests in these directories, those that start processes or walk at random are left to `make test`.
test-fast: $(READY) ## run the model, contract, unit and house tests
	@$(PYTEST) tests/unit tests/contract tests/house --hypothesis-profile=fast -k "not Processes and not walk" $(ARGS)

check: $(READY) ## lint, formatting, types
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --quiet --check . || { \
	  echo "Some files are not formatted; $(BIN)/ruff format . mends them." >&2; exit 1; }
	@$(BIN)/python -m mypy

clean: ## remove .venv, caches and builds
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Where there is no working interpreter in .venv: none yet, or its Python has left the machine.
new-venv:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$("$$python" --version) ..."; \
	    exec "$$python" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "durableq needs Python 3.11 or newer with its venv module, and none of these is one: $(PYTHONS)." \
	  "Install it, or name it: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

# The two variables pin what pip builds with, too, which its -c option does not.
INSTALL = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip install -qq --no-input -e

$(READY): pyproject.toml constraints.txt $(if $(shell test -x $(BIN)/python && echo yes),,new-venv)
	@echo "Installing into $(VENV) ..."
	@rm -f $(VENV)/.ready-*
	@$(INSTALL) '.[dev]'
	@touch $@

$(DOCUMENTS): $(READY)
	@echo "Installing the builder of the documentation ..."
	@$(INSTALL) '.[docs]'
	@touch $@
