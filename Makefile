# Every target sets itself up in .venv from a clean clone; only Python >= 3.10 with venv is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
COUNT ?= 2000
SEED ?= 1
SHAPES ?= gptoss-20b-quick
TUNED ?= tuned/$(SHAPES).csv
PEERS ?=
BENCH ?=

.PHONY: help tune test test-slow fuzz verify cktile lint build bench clean

help:            ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tune: $(VENV)/.ready  ## compile, check and time the kernels of gpt-oss-20b on this CPU, and use the result
	@$(BIN)/aiter-moe tune --shapes $(SHAPES) -o $(TUNED) --target cpu

test: $(VENV)/.ready-test  ## run the tests
	@$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/.ready-test  ## run the long sweeps too
	@$(BIN)/python -m pytest -m "not gpu"

fuzz: $(VENV)/.ready-test  ## random kernels, emulated and native: COUNT=2000 SEED=1
	@PYTHONPATH=tests $(BIN)/python -m differential.compare --count $(COUNT) --seed $(SEED)

verify: $(VENV)/.ready  ## run every gfx950 and gfx942 kernel in the emulator, against float64
	@$(BIN)/aiter-moe verify --target gfx950 --self-test
	@$(BIN)/aiter-moe verify --target gfx942 --self-test

cktile: $(VENV)/.ready-cktile  ## get the headers of CK-tile kernels (350 MB); `make test` then runs them too

lint: $(VENV)/.ready-dev  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/lint  # types and contracts are checked on the package as it is installed
	@$(BIN)/python setup.py -q build_py --build-lib build/lint
	cd build/lint && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p aiter_moe
	cd build/lint && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache

build: $(VENV)/.ready  ## compile the whole gfx950 catalogue
	@$(BIN)/aiter-moe build --target gfx950

bench: $(VENV)/.ready  ## whole MoE layers on this CPU beside peers; PEERS=all installs them first
	@$(if $(PEERS),$(BIN)/python benchmarks/cpu_peers.py --install $(PEERS) || echo "going on without")
	@$(BIN)/python benchmarks/cpu_peers.py $(BENCH)

clean:           ## remove the environment and build folders (the kernel cache stays)
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is not there or older than Python 3.10; name another, e.g. make tune PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.ready: setup.py pyproject.toml | $(VENV)/bin/python
	@echo "installing torch, the pip clang and aiter_moe into $(VENV) (downloads once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[toolchain]"
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[toolchain,test]"
	@touch $@

$(VENV)/.ready-cktile: $(VENV)/.ready-test
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[cktile,test]"
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-test
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[toolchain,dev]"
	@touch $@
