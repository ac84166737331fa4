# Two commands do everything on a fresh machine with Python 3.11 and make:
#   make demo    make test
# Each sets up .venv first if it is missing or older than the lock file.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO ?= runs/demo
# Processes that run tests side by side, one file of tests at a time each.
JOBS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv installs in seconds; pip does where uv fails, behind a proxy with a certificate of its own, say, which pip may know
# from the system's settings.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || { echo "uv failed; trying pip, which takes minutes ..."; $(PIP) $(1); }
# No telemetry and no look-ups by any library we start.
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export NO_ALBUMENTATIONS_UPDATE := 1

.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything the lock file names (about half a minute)

$(READY): requirements.lock pyproject.toml
	@test -x "$(PYTHON)" || { echo "error: no python3.11 found; install it or give PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(PIP) uv
	@echo "Installing the locked packages into $(VENV) ..."
	@$(call install,--no-deps -r requirements.lock)
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## From nothing to a trained, measured tiny Janus: corpus, three stages, report in runs/demo
	@$(BIN)/python -m demo --out $(DEMO)

test: $(READY) ## Run the default tests (no GPU; about 8 minutes on 2 cores)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-all: $(READY) ## Run the slow tests as well
	@$(BIN)/python -m pytest -m "not gpu and not integration"

lint: $(READY) ## Check style, types and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY) ## Run the benchmarks that need no GPU, photos or other loaders (benchmarks/README.md)
	@$(call install,-r benchmarks/requirements-train.txt)
	@$(BIN)/python -m benchmarks.train_cpu
	@$(BIN)/python -m benchmarks.packed_attention
	@$(BIN)/python -m benchmarks.generate --preset tiny

gpu: $(READY) ## Run the gpu tests and every GPU benchmark, 25 minutes on one card; tables in benchmarks/gpu.md
	@$(call install,-r benchmarks/requirements-train.txt)
	@test -x .venv-loader/bin/python || $(BIN)/uv venv --quiet --python $(PYTHON) .venv-loader
	@$(BIN)/uv pip install --quiet --python .venv-loader/bin/python -e . -r benchmarks/requirements-loader.txt \
		--override benchmarks/overrides-loader.txt
	@$(BIN)/python -m benchmarks.gpu

fuzz: $(READY) ## Fuzz all that reads bytes of others, for 10 minutes (docs/threat-model.md)
	@$(call install,-e .[fuzz])
	@$(BIN)/python -m fuzz

flink: ## Run a local Flink that takes builds (docs/cluster.md; needs scripts/install-flink.sh)
	@scripts/flink.sh

docs: $(READY) ## Build the documentation site in site/
	@$(call install,-e .[docs])
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "site/index.html"

lock: ## Resolve requirements.lock anew (names and versions only)
	@$(BIN)/uv pip compile -q --no-header --no-emit-index-url --no-annotate --python-version 3.11.0 pyproject.toml --extra dev -o requirements.lock

clean: ## Remove the environment, caches and run folders
	rm -rf $(VENV) runs site build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

.PHONY: help setup demo test test-all lint bench gpu fuzz flink docs lock clean
