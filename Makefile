# Everbell: one command each. `make help` lists them.
# QUIET=1 prints only what failed. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.everbell-setup
SEED ?= 1
SEEDS ?= 1-2000
ARGS ?=
# Tests that wait for real processes leave the core to others. WORKERS=0: one after the other.
WORKERS ?= logical
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifdef QUIET
MAKEFLAGS += --silent
PYTEST_FLAGS := -q --no-header
RUFF_FLAGS := --quiet
else
PYTEST_FLAGS :=
RUFF_FLAGS :=
endif

.DEFAULT_GOAL := help
.PHONY: help setup run test test-setup lint format bench bench-cluster sim sim-soak cluster-soak fuzz docs lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv with the locked dependencies and this package

$(STAMP): requirements/dev.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $(STAMP)

run: setup ## start a node in ./.everbell-run with a first job every 10 s
	@sh scripts/run.sh

test-setup: setup
	@sh scripts/setup-tests.sh

test: test-setup ## run all tests (ARGS="-k name" to choose)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -n $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

lint: setup ## ruff, format check, mypy, import contracts
	$(BIN)/ruff check $(RUFF_FLAGS) .
	$(BIN)/ruff format $(RUFF_FLAGS) --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## rewrite the sources in the house style
	$(BIN)/ruff check $(RUFF_FLAGS) --fix-only .
	$(BIN)/ruff format $(RUFF_FLAGS) .

bench: setup ## measure all beside peers and ceilings (ARGS=--quick: a minute)
	$(BIN)/python -m pip install --quiet -r requirements/bench.lock
	$(BIN)/python bench/run.py $(ARGS)

bench-cluster: test-setup ## many nodes on PostgreSQL, beside peers (ARGS=--quick: three minutes)
	@test -x $(VENV)/peers/bin/python || $(BIN)/python -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip install --quiet -r requirements/bench-cluster.lock
	$(BIN)/python bench/cluster.py $(ARGS)

sim: setup ## replay one simulated cluster: make sim SEED=42
	$(BIN)/python -m everbell.testing.sim --seed $(SEED) $(ARGS)

sim-soak: setup ## simulate many clusters: make sim-soak SEEDS=1-5000
	$(BIN)/python -m everbell.testing.sim --seeds $(SEEDS) $(ARGS)

cluster-soak: test-setup ## break three real nodes on PostgreSQL: make cluster-soak MINUTES=30
	$(BIN)/python -m everbell.testing.proof.soak --minutes $(or $(MINUTES),10) \
		--seed $(if $(filter command line,$(origin SEED)),$(SEED),0) $(ARGS)

fuzz: setup ## fuzz the API for longer: make fuzz EXAMPLES=500 SEED=7
	FUZZ_EXAMPLES=$(or $(EXAMPLES),200) FUZZ_SEED=$(SEED) FUZZ_SECONDS=3000 \
		$(BIN)/python -m pytest $(PYTEST_FLAGS) tests/integration/api/test_fuzz.py

docs: setup ## regenerate the reference pages under docs/, and what the clients take from them
	$(BIN)/python scripts/gen_docs.py
	$(BIN)/python scripts/gen_client.py
	$(BIN)/python scripts/gen_js_types.py

lock: setup ## write requirements/dev.lock from the environment
	@sh scripts/lock.sh

clean: ## remove caches, the environment and the demo node's data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .everbell-run
	rm -rf tests/e2e/seed_client/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
