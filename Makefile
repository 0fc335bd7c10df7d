# deploy-watchdog. `make help` lists the targets. Needs Python >= 3.11 with venv, and make; the rest is brought along.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCKED := $(VENV)/.locked
LEDGERS := build/ledgers
REVIEWED := bad-canary healthy late-bug shared-db
NOTEBOOKS ?=
SCENARIO ?= bad-canary
TESTS ?=
RUNS ?= 1
RACES ?= 200
MINUTES ?= 10
FAILOVERS ?= 100
N ?= 10000
SEEDS ?= 1000
SEED ?=
BUGS ?=
INPUTS ?= 1000000
WATCHES ?= 5000
SHORT ?=

# The first Python >= 3.11 that can make a virtual environment; PYTHON=... overrides.
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$p"; exit 0; fi; done; \
	echo "deploy-watchdog needs Python 3.11 or newer with venv (on Debian: apt install python3-venv)" >&2; exit 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## watch a bad version take real traffic, be noticed and be rolled back (SCENARIO=healthy, ...)
	@$(BIN)/deploy-watchdog demo --scenario $(SCENARIO) $(ARGS)

.PHONY: test
test: $(INSTALLED) ## run every test (TESTS="tests/core -k counts" runs some)
	@$(BIN)/python -m pytest -n 3 --dist loadgroup $(TESTS) # on two cores: near half of the time real servers are waited for

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

.PHONY: newer-pythons
newer-pythons: $(INSTALLED) ## types and lint as Python 3.12, 3.13 and 3.14 see them (minutes); rules that only want new syntax are out
	@for version in 3.12 3.13 3.14; do echo "Python $$version"; \
		$(BIN)/ruff check --quiet --ignore UP,RUF100 --target-version py$${version/./} .; $(BIN)/mypy --python-version $$version; done

.PHONY: format
format: $(INSTALLED) ## put every file into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: crash
crash: $(INSTALLED) ## N schedules of SIGKILLs of the real daemon and its hooks: lost, doubled (2000 take an hour)
	@$(BIN)/python -m tests.crash.crash_run --schedules $(if $(filter file,$(origin N)),200,$(N)) $(ARGS)

.PHONY: replicas
replicas: $(INSTALLED) ## three real daemons on a real PostgreSQL: RACES claim races (5000), FAILOVERS failovers (an hour)
	@$(BIN)/python -m tests.crash.replicas_run --races $(if $(filter file,$(origin RACES)),5000,$(RACES)) --failovers $(FAILOVERS)

.PHONY: power-cuts
power-cuts: $(INSTALLED) ## cut the power at every moment of a recorded ledger, and its log at every byte (minutes)
	@POWER_CUTS=all $(BIN)/python -m pytest -q tests/daemon/test_ledger_power_cut.py

.PHONY: crash-demo
crash-demo: $(INSTALLED) ## kill the demo's daemon at every named moment of a bad canary under real traffic (minutes)
	@CRASH=all $(BIN)/python -m pytest tests/e2e/test_demo_kill.py -v

.PHONY: e2e-unleash
e2e-unleash: $(INSTALLED) ## the hook for Unleash on the real server, from npm, with a PostgreSQL of its own (190 MB once)
	@E2E=unleash $(BIN)/python -m pytest tests/e2e/test_hook_unleash.py -v

.PHONY: e2e-kubernetes
e2e-kubernetes: $(INSTALLED) ## the hooks for Kubernetes and Argo Rollouts on a real control plane, built from Go modules (half an hour once)
	@E2E=kubernetes $(BIN)/python -m pytest tests/e2e/test_hook_kubernetes_real.py tests/e2e/test_hook_argo_rollouts_real.py -v

.PHONY: e2e-current
e2e-current: $(INSTALLED) ## a current Prometheus 3, built from its Go module (a while, once): native histograms by OTLP, names with dots
	@E2E=current $(BIN)/python -m pytest tests/e2e/test_current_prometheus.py -v

.PHONY: races
races: $(INSTALLED) ## race slow promotions against rollbacks RACES times: the new version has nothing in the end (minutes)
	@RACES=$(RACES) $(BIN)/python -m pytest -q tests/daemon/test_rollout.py tests/e2e/test_demo_forward.py -k "slow_promotion or racing"

.PHONY: simulate
simulate: $(INSTALLED) ## SEEDS runs of the daemon's code under simulated faults; SEED=n shows one; BUGS=all plants bugs to be found
	@$(BIN)/python -m tests.simulator.run $(if $(BUGS),--bugs "$(BUGS)",$(if $(SEED),--seed $(SEED),--seeds $(SEEDS))) $(ARGS)

.PHONY: fuzz
fuzz: $(INSTALLED) ## INPUTS mutated inputs for each reader and writer of others' words, and schemathesis at length (hours)
	@$(BIN)/python -m tests.fuzz.run --inputs $(INPUTS) $(ARGS)
	@FUZZ_EXAMPLES=500 $(BIN)/python -m pytest -q tests/daemon/test_web_schemathesis.py

.PHONY: audit
audit: $(INSTALLED) ## known vulnerabilities of every package in the locks, by pip-audit (asks a package index)
	@for lock in requirements.lock deploy/requirements.lock; do $(BIN)/pip-audit --strict --disable-pip --requirement $$lock || exit 1; done

.PHONY: outage
outage: $(INSTALLED) ## stop a real Prometheus for MINUTES in the middle of a healthy deploy and of a bad one: one rollback, afterwards
	@MINUTES=$(MINUTES) $(BIN)/python -m pytest -s -v tests/e2e/test_prometheus_outage.py

.PHONY: scenarios
scenarios: $(INSTALLED) ## run every demo scenario RUNS times and print outcomes, delays and counts (minutes)
	@$(BIN)/python -m benchmarks.scenarios --runs $(RUNS) $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## measure speed, delays, false alarms (N watches a scenario; 10000 takes hours) and peers: build/bench.json
	@$(BIN)/python -m benchmarks.bench --n $(N) $(ARGS)

.PHONY: load
load: $(INSTALLED) ## WATCHES deploys watched at once (5000 for ten minutes; SHORT=1: 500 for two): lag, memory, queries
	@$(BIN)/python -m benchmarks.load.watches $(if $(SHORT),--watches 500 --seconds 120,--watches $(WATCHES)) $(ARGS)

.PHONY: load-webhooks
load-webhooks: $(INSTALLED) ## 200 deploy events a second beside 1000 watches, some forged, for a minute (SHORT=1: ten seconds)
	@$(BIN)/python -m benchmarks.load.webhooks $(if $(SHORT),--seconds 10) $(ARGS)

.PHONY: notebooks
notebooks: $(INSTALLED) ledgers ## execute the notebooks over both ledgers into build/notebooks (NOTEBOOKS="01 06" some)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python notebooks/execute.py $(NOTEBOOKS)

.PHONY: ledgers
ledgers: $(INSTALLED) ## make the ledgers that the notebooks read: demo scenarios, and 210 simulated deploys (minutes)
	@for scenario in $(if $(DEPLOY_WATCHDOG_LEDGER),,$(REVIEWED)); do \
		[ -e $(LEDGERS)/demo/$$scenario ] && continue; \
		rm -rf $(LEDGERS)/unfinished; mkdir -p $(LEDGERS)/demo; \
		$(BIN)/deploy-watchdog demo --scenario $$scenario --keep $(LEDGERS)/unfinished; \
		mv $(LEDGERS)/unfinished $(LEDGERS)/demo/$$scenario; done
	@[ -n "$(DEPLOY_WATCHDOG_HISTORY)" ] || [ -e $(LEDGERS)/simulated.db ] || { rm -f $(LEDGERS)/unfinished.db*; \
		$(BIN)/python -m notebooks.simulated_ledger $(LEDGERS)/unfinished.db; mv $(LEDGERS)/unfinished.db $(LEDGERS)/simulated.db; rm -f $(LEDGERS)/unfinished.db*; }

.PHONY: lock
lock: $(INSTALLED) ## resolve pyproject.toml anew into the locks (names, versions, hashes; no addresses)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	@export PATH="$$PATH:$(CURDIR)/$(BIN)"; \
	compile="uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-annotate --quiet"; \
	$$compile --extra dev --output-file requirements.lock $(ARGS); \
	$$compile --extra image --constraints requirements.lock --output-file deploy/requirements.lock

.PHONY: pictures
pictures: $(INSTALLED) ## take docs/images anew: a recorded demo in a terminal, and its pages in a headless Chromium (minutes)
	@$(BIN)/python -m benchmarks.pictures

.PHONY: wheel
wheel: $(INSTALLED) ## build dist/*.whl, install it in a clean environment elsewhere, run the demo from it (minutes)
	@.ci/check-wheel

.PHONY: image
image: $(INSTALLED) ## build the Dockerfile without an engine, run demo and daemon in it read-only (root, Debian; minutes)
	@.ci/build-image

.PHONY: fresh-debian
fresh-debian: ## make demo and make test on a Debian with only python3-venv, make and git (root, Debian; TESTS=... some)
	@TESTS="$(TESTS)" .ci/fresh-debian

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
