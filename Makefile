# deploy-watchdog. `make help` lists the targets. Needs Python >= 3.11 with venv, and make; the rest is brought along.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCKED := $(VENV)/.locked
DEMO_KEEP := build/demo
SCENARIO ?= bad-canary
TESTS ?=
RUNS ?= 1
N ?= 10000

# The first Python >= 3.11 that can make a virtual environment; PYTHON=... overrides.
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$p"; exit 0; fi; done; \
	echo "deploy-watchdog needs Python 3.11 or newer with venv (on Debian: apt install python3-venv)" >&2; exit 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## watch a bad version take real traffic, be noticed and be rolled back (SCENARIO=healthy, ...)
	@$(BIN)/deploy-watchdog demo --scenario $(SCENARIO) $(ARGS)

.PHONY: test
test: $(INSTALLED) ## run every test (TESTS="tests/core -k counts" runs some)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

.PHONY: check
check: static test ## everything CI asks for: format, lint, types, floors, tests

.PHONY: check-fast
check-fast: static ## the same without slow tests and without real servers
	@$(BIN)/python -m pytest -m "not slow and not e2e" $(TESTS)

.PHONY: static
static: $(INSTALLED) ## format, lint, types and floors, without running anything
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(INSTALLED) ## put every file into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: crash
crash: $(INSTALLED) ## kill the daemon at every named moment of a bad canary: one rollback effect each time (minutes)
	@CRASH=all $(BIN)/python -m pytest tests/e2e/test_demo_kill.py -v

.PHONY: scenarios
scenarios: $(INSTALLED) ## run every demo scenario RUNS times and print outcomes, delays and counts (minutes)
	@$(BIN)/python -m benchmarks.scenarios --runs $(RUNS) $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## measure speed, delays, false alarms (N watches a scenario; 10000 takes hours) and peers: build/bench.json
	@$(BIN)/python -m benchmarks.bench --n $(N) $(ARGS)

.PHONY: notebooks
notebooks: $(INSTALLED) ## execute the notebooks over a demo's ledger into build/notebooks
	@[ -n "$${DEPLOY_WATCHDOG_LEDGER:-}" ] || [ -e $(DEMO_KEEP)/watchdog.db ] || $(BIN)/deploy-watchdog demo --keep $(DEMO_KEEP)
	@DEPLOY_WATCHDOG_LEDGER="$${DEPLOY_WATCHDOG_LEDGER:-$(CURDIR)/$(DEMO_KEEP)/watchdog.db}" $(BIN)/python notebooks/execute.py

.PHONY: lock
lock: $(INSTALLED) ## resolve pyproject.toml anew into the locks (names, versions, hashes; no addresses)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	@export PATH="$$PATH:$(CURDIR)/$(BIN)"; \
	compile="uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-annotate --quiet"; \
	$$compile --extra dev --output-file requirements.lock $(ARGS); \
	$$compile --extra image --constraints requirements.lock --output-file deploy/requirements.lock

.PHONY: clean
clean: ## remove what was built, the environment included
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@python="$$($(FIND_PYTHON))"; echo "building $(VENV) with $$python"; "$$python" -m venv $(VENV)

$(LOCKED): requirements.lock | $(BIN)/python
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock; fi
	@touch $@

$(INSTALLED): pyproject.toml $(LOCKED)
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; fi
	@touch $@
