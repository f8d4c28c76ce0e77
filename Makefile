# SPDX-License-Identifier: BSD-3-Clause
# The one task runner. Every target sets up what it needs; a second call is quick.

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

# Tests of one file stay together: they share what is costly to make. More workers than processors, since
# many tests wait.
WORKERS := 3
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Hosts of the cluster by hand.
N := 5
RIG := $(BIN)/python -m tests.cluster.rig

.PHONY: help demo test lint type unit quick suite soak fuzz cluster cluster-down bench docs build clean venv packages

help:
	@echo 'make demo    run the demonstration: a node dies, the job goes on'
	@echo 'make test    all checks and tests, as CI does'
	@echo 'make lint    style, spelling, layers'
	@echo 'make type    types'
	@echo 'make unit    unit tests only, a few seconds'
	@echo 'make quick   quick tests on the oldest and the newest Python here, besides that of .venv'
	@echo 'make suite   the whole test suite on the newest Python here, with coverage'
	@echo 'make soak    the long tests on the cluster of namespaces; needs root'
	@echo 'make cluster N=5   bring up a Slurm cluster on this machine; needs root; then: $(RIG) --help'
	@echo 'make cluster-down  end it'
	@echo 'make fuzz    feed the readers of files with damaged ones, half a minute each'
	@echo 'make bench   measure; figures go to benchmarks/results'
	@echo 'make docs    build the documentation into docs/_build'
	@echo 'make build   sdist and wheel into dist, installed once and tried'
	@echo 'make clean   remove all that the other targets made'

demo: venv
	$(BIN)/python examples/demo/run_demo.py

# The quick checks first, two at a time; the suite has the last word.
test: packages venv
	@$(MAKE) --no-print-directory -j2 --output-sync=target quick lint type docs build
	@$(MAKE) --no-print-directory suite

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/lint-imports

type: venv
	$(BIN)/mypy

unit: venv
	$(PYTEST) -q tests/unit

quick: venv
	@tools/quick_suites.sh

suite: venv packages
	$(PYTEST) $(PARALLEL) --cov --cov-report=term:skip-covered

soak: venv packages
	$(PYTEST) -m soak --timeout=0 -o faulthandler_timeout=0 -s

cluster: venv packages
	@$(RIG) up --nodes $(N)

cluster-down:
	@$(RIG) down

fuzz: venv
	$(BIN)/python -c 'import atheris' || $(BIN)/pip install atheris
	$(BIN)/python -m fuzz

bench: venv
	$(BIN)/python -m benchmarks

docs: venv
	$(BIN)/python -m sphinx -q -n -W --keep-going -b html docs docs/_build

build: venv
	$(BIN)/python tools/build.py

venv:
	@tools/setup.sh venv .venv newest test lint docs

packages:
	@tools/setup.sh packages

clean:
	rm -rf .venv .venv-* dist build docs/_build benchmarks/results src/scrjob/config.py
	rm -rf .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
