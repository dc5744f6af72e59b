# `make demo` and `make test` need Python 3.11, make and pip; they set up what is missing and say so.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := .demo
SANITIZED := plain or fp8
# A process a core; one that has run out of tests takes some of another's.
PARALLEL := --numprocesses logical --dist worksteal
DEMO_OPTIONS = $(if $(LOG),--log "$(LOG)") $(if $(PRESET),--preset $(PRESET)) $(if $(KEEP),--keep-serving)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow soak test-compile test-gpu sanitize-gpu lint typecheck setup setup-dev clean

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.ready  ## From a log to served recommendations; LOG=file uses your own, KEEP=1 leaves it serving
	@$(BIN)/footfall demo --folder $(DEMO) $(DEMO_OPTIONS)

test: $(VENV)/.ready-dev lint typecheck  ## Everything that runs without a GPU, in minutes
	$(BIN)/pytest $(PARALLEL)

test-slow: $(VENV)/.ready-dev  ## The rest of the tests: the quality mark, a large catalogue, all cases of the kernels, test-compile
	$(BIN)/pytest $(PARALLEL) -m "slow and not gpu"

soak: $(VENV)/.ready-dev  ## The faults and the fuzzing at length, on the real server, in minutes
	$(BIN)/pytest -m soak

test-compile: $(VENV)/.ready-dev  ## Every kernel that is shipped, compiled for every chip: 9 minutes on 2 cores
	$(BIN)/pytest -m "slow and not gpu" tests/test_ahead_of_time.py

test-gpu: $(VENV)/.ready-dev  ## The tests that need an NVIDIA GPU
	TRITON_INTERPRET=0 $(BIN)/pytest -m gpu

sanitize-gpu: $(VENV)/.ready-dev  ## Races and stray accesses of the kernels, by NVIDIA's compute-sanitizer
	for tool in memcheck racecheck; do TRITON_INTERPRET=0 compute-sanitizer --tool $$tool --error-exitcode 1 \
		$(BIN)/pytest -m gpu -k "$(SANITIZED)" tests/test_attention.py || exit 1; done

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.ready-dev
	$(BIN)/mypy

setup: $(VENV)/.ready  ## Only set up what the demo needs
setup-dev: $(VENV)/.ready-dev  ## Only set up what the tests need

$(VENV)/bin/python:
	@echo "setup: virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch first and by exact version, so that the rest resolves around the build that is installed.
$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setup: Footfall and what it runs on (about a minute)"
	@$(PIP) install --constraint constraints.txt torch==2.13.0
	@$(PIP) install --constraint constraints.txt --editable '.[export,serve,loadtest]'
	@echo "setup: NVIDIA Triton Inference Server"
	@$(BIN)/python -m footfall_serving.install
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "setup: test tools, TensorRT and the Triton language"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## Remove the environment and the demo's files
	rm -rf $(VENV) $(DEMO)
