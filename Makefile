# One command for each thing a user or developer does; `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; choose another with `make run PYTHON=/path/to/python3`.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
CORES ?= all
# One thread a process: two that share the cores would wait for each other. A file's tests compile their programs once.
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile

.PHONY: help install run test test-all coverage lint docs schema bench-relax bench-hull bench-novelty bench-sampler bench-train bench-predict

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## Make .venv with everything that a run needs

run: $(VENV)/installed $(VENV)/installed-judge  ## Run the pipeline with config.yaml; with PRESET=ehull-small that of workflow/presets on top
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) $(if $(PRESET),--configfile workflow/presets/$(PRESET).yaml)

test: lint $(VENV)/installed-judge  ## Pass linters, types, layers and the tests that represent every law (ten minutes)
	@# Little is computed and much compiled, so programs are made without optimization; test-all tries them with it.
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) -m "not slow"

test-all: lint $(VENV)/installed-judge  ## Pass all tests, the many repetitions of each law among them (half an hour)
	$(PYTEST)

coverage: $(VENV)/installed-dev $(VENV)/installed-judge  ## Run all tests and print which lines none of them runs
	$(PYTEST) --cov --cov-report=term

lint: $(VENV)/installed-dev  ## Pass linters, types and layers only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: $(VENV)/installed-docs  ## Build the documentation's pages into site/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --strict --quiet

schema: $(VENV)/installed  ## Write the configuration's JSON schema from its model
	$(BIN)/python -m crystalformer_rl.config workflow/schemas/config.schema.json

bench-relax: $(VENV)/installed  ## Relaxation against ASE's: energies, work, time (half an hour)
	@$(BIN)/python benchmarks/bench_relax.py

bench-hull: $(VENV)/installed  ## Distances to the hull against pymatgen's: agreement, time (minutes)
	@$(BIN)/python benchmarks/bench_hull.py

bench-novelty: $(VENV)/installed  ## Novelty of 10,000 crystals against 600,000 entries: time, memory, agreement (a quarter of an hour)
	@$(BIN)/python benchmarks/bench_novelty.py

bench-sampler: $(VENV)/installed  ## Speed of the sampler against the published algorithm (minutes)
	@$(BIN)/python benchmarks/bench_sampler.py

bench-train: $(VENV)/installed  ## Speed of pretraining against the published step (minutes)
	@$(BIN)/python benchmarks/bench_train.py

bench-predict: $(VENV)/installed  ## Whether the ground states of held-out compounds are found (half an hour; POLICY=file for another policy)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_predict.py $(if $(POLICY),--policy $(POLICY))

# The stamps are newer than pyproject.toml as long as what it asks for is installed.
$(VENV)/installed: pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; name it: make run PYTHON=/path/to/python3"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@# torch first and by its range alone, so that a CPU build at hand is taken.
	$(BIN)/python -m pip install --quiet "$$($(BIN)/python scripts/torch_requirement.py)"
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

# The potential that judges, in an environment of its own. Without it a run goes on unjudged, and the next one tries again.
$(VENV)/installed-judge: $(VENV)/installed
	@if $(BIN)/crystalformer-rl potential install sevennet-0; then touch $@; \
	else echo "No second potential judges the candidates until this succeeds; all else works."; fi

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@
