# `make help` lists the targets. Given PYTHON=..., that interpreter is used as it is and nothing is installed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo format check test test-long soak bench gpu-check wheelhouse clean

EXTRA ?= cuda13
ifdef PYTHON
READY :=
else
PYTHON := .venv/bin/python
READY := .venv/.installed-$(EXTRA)
endif
PYTEST = $(PYTHON) -m pytest -q

TEST_WORKERS ?= 2

# On the small tensors of the tests, threads cost more than they bring.
test test-long soak: export OMP_NUM_THREADS ?= 1

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(READY)  ## create .venv and install the package, its needs and the development tools into it

.venv/.installed-%: setup.py pyproject.toml
	@test -x .venv/bin/pip || python3 -m venv .venv
	@echo "Installing into .venv (about 6 GB; some minutes the first time)"
	@.venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off -e '.[$*,dev]' \
	  | awk '/^(Collecting|Building|Installing)/ {print "  " substr($$0, 1, 100); fflush()}'
	@touch $@

demo: $(READY)  ## make a small data set, shards, pre-train, evaluate, report (under 20 minutes on 2 cores)
	$(PYTHON) -m xkd demo

format: $(READY)  ## format the code and mend what ruff can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

check: $(READY)  ## lint, and fail on unformatted code
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: check  ## checks and tests (at most 10 minutes; TEST_WORKERS processes)
	$(PYTEST) -n $(TEST_WORKERS)

test-long: $(READY)  ## the tests that take longer: launcher runs, wheels
	$(PYTEST) -m long -n $(TEST_WORKERS) --dist loadfile

soak: $(READY)  ## the full counts of the torture tests
	$(PYTEST) -m soak --timeout 0

bench: $(READY)  ## measure on this machine
	$(PYTHON) -m xkd bench all

gpu-check: $(READY)  ## everything that needs a GPU in under 8 minutes (MEDIA=folder: docs/gpu.md), results in gpu-check/
	$(PYTHON) -m xkd.benchmarks.gpu_check $(if $(MEDIA),--media $(MEDIA))

wheelhouse: $(READY)  ## wheels of the package and all its needs, for machines without internet (docs/clusters.md)
	$(PYTHON) -m pip wheel --disable-pip-version-check --no-input --progress-bar off --wheel-dir wheelhouse '.[$(EXTRA)]'

clean:  ## remove what builds and tests left; .venv, demo and runs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .gpu .whl
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
