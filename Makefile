# tierflow: `make` alone lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PAGE := console/server/static/.built
export PYTHON

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@deploy/setup/debian.sh run
	@echo "tierflow: making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tierflow: Python 3.11 or newer is needed; PYTHON=... names another" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "tierflow: installing Python packages"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

$(PAGE): $(INSTALLED) $(shell find console/web -path '*/node_modules' -prune -o -type f -print 2>/dev/null | grep -v '/dist/')
	@echo "tierflow: building the page"
	@PATH="$(CURDIR)/$(BIN):$$PATH" deploy/setup/page.sh
	@touch $@

.PHONY: setup
setup: $(INSTALLED) $(PAGE) ## Install everything that running needs.
	@deploy/setup/debian.sh run

.PHONY: run
run: setup ## Run it all on this machine, with the storefront lab. ARGS= passes flags on.
	@exec $(BIN)/tierflow up --lab $(ARGS)

.PHONY: services
services: $(INSTALLED) ## Fetch and build the real services that tests need, into the user's cache folder.
	@deploy/setup/debian.sh test
	@$(BIN)/python -m tests.services

.PHONY: test
test: setup ## Run all tests but those of a whole Kubernetes (make e2e). ARGS= passes flags to pytest.
	@deploy/setup/debian.sh test
	@$(BIN)/python -m tests.services compose elasticsearch helm kafka kubernetes prometheus
	@$(BIN)/pytest --ignore tests/cluster $(ARGS)
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix console/web test --silent

.PHONY: e2e
e2e: setup ## Install the chart on a real one-node Kubernetes, as root, and look. ARGS= passes flags to pytest.
	@deploy/setup/debian.sh test
	@$(BIN)/python -m tests.services
	@TIERFLOW_REQUIRE_SERVICES=1 $(BIN)/pytest tests/cluster --durations=12 $(ARGS)

.PHONY: check
check: setup ## Format, lint, types, import directions; changes nothing.
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix console/web run check --silent

.PHONY: format
format: $(INSTALLED) ## Format the Python code.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: bench
bench: setup ## Measure; every benchmark checks its answer first. ARGS= passes flags on.
	@$(BIN)/tierflow bench $(ARGS)

.PHONY: docs
docs: $(INSTALLED) ## Generate the tables of settings and metrics in docs/.
	@$(BIN)/python docs/generate.py

.PHONY: clean
clean: ## Remove what was built; caches of the user and the state folder stay.
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf console/web/node_modules console/web/dist console/server/static
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
