# Every target does its own set-up: python3, make and pip's usual access to packages are all it needs.
#   make test                       make test N=0 PYTEST_ARGS="-x -k journal"
#   make demo ARGS="--steps 50"     make test PYTHON=python3.12
#   make test-pythons PYTHONS="3.10 3.13"
#   make test TORCH=1               (0: without torch; the default takes it if it is not gigabytes)
#   make soak SOAK_SECONDS=60       make soak SOAK_SEED=7    (the kills of an earlier run)
#   make fuzz FUZZ_SECONDS=60       make fuzz FUZZ_SEED=7    (the bytes of an earlier run)
PYTHON ?= python3
N ?= 2
TORCH ?= auto
ARGS ?=
PYTEST_ARGS ?=
PYTHONS ?= 3.10 3.12 3.13
MLFLOW ?=
SOAK_SECONDS ?= 600
SOAK_SEED ?=
FUZZ_SECONDS ?= 600
FUZZ_SEED ?=
SUITE ?=
FROM ?=

BIN := .venv/bin
PYTEST = -m pytest -n $(N) --dist worksteal
PLAIN := not slow and not gpu and not soak and not frameworks
FAST = -m "not process and $(PLAIN)"
PROCESS = -m "process and $(PLAIN)"

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # the environments are shared, and the tests are timed

# --- environments: .venv/EXTRA.stamp says that EXTRA is installed as pyproject and constraints have it

# The tests start hundreds of interpreters: let them keep what they compile.
unexport PYTHONDONTWRITEBYTECODE

# $(call install,VENV,CONSTRAINTS,EXTRAS[,PIP-OPTIONS])
# PIP_CONSTRAINT and not --constraint: it also holds for the build backend's own environment.
define install
	@echo "Installing trackside[$(3)] into $(1). MLflow and what it needs: about 200 MB to download."
	test -x $(1)/bin/pip || $(PYTHON) -m venv $(1)
	PIP_CONSTRAINT=$(2) $(1)/bin/pip install $(4)--editable '.[$(3)]'
	touch $@
endef

.venv/%.stamp: pyproject.toml .ci/constraints.txt
	$(call install,.venv,.ci/constraints.txt,$*)

# --no-compile: half a minute less. Not for .venv, which people also run with bytecode switched off.
.venv-oldest/test.stamp: pyproject.toml .ci/constraints-oldest.txt
	$(call install,.venv-oldest,.ci/constraints-oldest.txt,test,--no-compile )

.venv-bench/bench.stamp: pyproject.toml .ci/constraints-bench.txt
	test -x .venv-bench/bin/pip || $(PYTHON) -m venv .venv-bench
	@.ci/torch 1 .venv-bench .ci/constraints-bench.txt
	$(call install,.venv-bench,.ci/constraints-bench.txt,bench,--no-compile )

# --no-deps: NeMo Automodel asks for CUDA's packages, and the module that is tested here needs only torch.
.venv-frameworks/frameworks.stamp: pyproject.toml .ci/constraints-frameworks.txt
	test -x .venv-frameworks/bin/pip || $(PYTHON) -m venv .venv-frameworks
	@.ci/torch 1 .venv-frameworks .ci/constraints-frameworks.txt
	.venv-frameworks/bin/pip install --no-deps "$$(grep ^nemo-automodel== .ci/constraints-frameworks.txt)"
	$(call install,.venv-frameworks,.ci/constraints-frameworks.txt,frameworks,--no-compile )

# $(call torch,VENV,CONSTRAINTS): what only tests need, and only some of them
define torch
	@.ci/torch $(TORCH) $(1) $(2)
endef

# --- targets ---------------------------------------------------------------------------------------

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## train a small model and look at its run; with torch if you have it, or TORCH=1
	@if [ "$(TORCH)" = 1 ]; then .ci/torch 1 .venv .ci/constraints.txt; fi
	@$(BIN)/python .ci/demo.py "$$(command -v $(PYTHON))" $(ARGS)

unit: .venv/test.stamp ## the tests that start no process and do not import MLflow: seconds
	$(BIN)/python $(PYTEST) -m "unit and not slow" $(PYTEST_ARGS)

test: .venv/test.stamp ## the tests, but for those marked process, slow, gpu, soak or frameworks
	$(call torch,.venv,.ci/constraints.txt)
	$(BIN)/python $(PYTEST) $(FAST) $(PYTEST_ARGS)

test-processes: .venv/test.stamp ## the tests marked process: servers and processes that fail, for minutes
	$(call torch,.venv,.ci/constraints.txt)
	$(BIN)/python $(PYTEST) $(PROCESS) $(PYTEST_ARGS)

test-slow: .venv/test.stamp ## the tests marked slow
	$(call torch,.venv,.ci/constraints.txt)
	$(BIN)/python $(PYTEST) -m "slow and not gpu and not frameworks" --timeout 600 $(PYTEST_ARGS)

soak: .venv/test.stamp ## minutes of emission while shipper and server are killed at random
	$(call torch,.venv,.ci/constraints.txt)
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(BIN)/python -m pytest -m soak -s $(PYTEST_ARGS) tests/test_soak.py

fuzz: .venv/test.stamp ## minutes of odd bytes in the place of a journal's files
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/hostile/test_fuzz.py

frameworks: .venv-frameworks/frameworks.stamp ## the integrations, tested with the real frameworks: no models or data to download
	.venv-frameworks/bin/python $(PYTEST) -m "frameworks and not gpu" --timeout 600 $(PYTEST_ARGS) tests/frameworks

their-tests: .venv-frameworks/frameworks.stamp ## a framework's own tests against ours: SUITE=mlflow, accelerate, lightning, transformers or mmengine, FROM=its repository
	@.ci/their-tests "$(SUITE)" "$(FROM)" $(PYTEST_ARGS)

test-oldest: .venv-oldest/test.stamp ## `test` and `test-processes`, with the oldest mlflow that is tested
	$(call torch,.venv-oldest,.ci/constraints-oldest.txt)
	.venv-oldest/bin/python $(PYTEST) -m "$(PLAIN)" $(PYTEST_ARGS)

test-pythons: ## the same as `test`, on each version in PYTHONS that is on PATH or in pyenv
	@.ci/pythons "$(PYTHONS)" $(TORCH) -n $(N) --dist worksteal $(FAST) $(PYTEST_ARGS)

lint: .venv/lint.stamp ## style, format, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: .venv/test.stamp .venv/lint.stamp ## mypy and pyright; installs torch, as TORCH=1 does
	@.ci/torch 1 .venv .ci/constraints.txt
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python .ci/public_types.py

bench: .venv-bench/bench.stamp ## what logging costs, here and elsewhere, into build/benchmarks; ARGS=--quick: a quarter of an hour
	.venv-bench/bin/python -m benchmarks $(ARGS)

matrix: .venv/test.stamp ## every way for a process to end, and the status MLflow shows for it
	$(call torch,.venv,.ci/constraints.txt)
	$(BIN)/python -m tests.matrix $(ARGS)

newer-mlflow: .venv/test.stamp ## what a newer mlflow changes for trackside, and the tests with it; MLFLOW=3.19.0
	$(BIN)/python -m tests.newer_mlflow --try $(MLFLOW) $(ARGS)

fan-out: .venv/test.stamp ## one run into five destinations, read back from each
	$(BIN)/python -m tests.event_bus.fan_out $(ARGS)

docs: .venv/test.stamp ## regenerate the pages made from the code
	$(BIN)/python docs/generate.py $(ARGS)

build: .venv/lint.stamp ## sdist and wheel, into dist/
	rm -rf dist
	PIP_CONSTRAINT=.ci/constraints.txt $(BIN)/python -m build

lock: ## renew .ci/constraints*.txt (minutes)
	PYTHON=$(PYTHON) .ci/lock

clean: ## remove everything that this file makes
	rm -rf .venv .venv-oldest .venv-bench .venv-frameworks .venv-newer-mlflow .venv-3.* dist build .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo unit test test-processes test-slow soak fuzz frameworks their-tests test-oldest test-pythons lint types bench matrix newer-mlflow fan-out docs build lock clean
