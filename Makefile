# `make embed train` on a fresh machine sets everything up, makes the demo, embeds it and trains on it.
# `make embed train CONFIG=my.toml` does the same for your own table.

CONFIG ?= configs/demo.toml
PYTHON ?= python3
DEMO := work/demo

BIN := .venv/bin
# Touched when the environment holds what pyproject.toml and constraints.txt ask for.
INSTALLED := .venv/installed
TESTABLE := .venv/testable
# Three processes, as many tests wait for others; a file's tests stay together, since they share what is dear to make.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo embed train test test-slow torture fuzz check bench bench-peers clean

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'
	@echo "  CONFIG=$(CONFIG) (a TOML file; the default is the demo)"

setup: $(INSTALLED) ## create .venv with all that is needed

demo: $(INSTALLED) $(DEMO)/demo.toml ## make the demo's table and encoders

embed: $(INSTALLED) ## bring every distinct sequence of the table into the store
	$(BIN)/bindcache embed --config $(CONFIG)

train: $(INSTALLED) ## train a regressor on the store; goes on where a run was stopped
	$(BIN)/bindcache train --config $(CONFIG) --resume

ifeq ($(abspath $(CONFIG)),$(abspath configs/demo.toml))
embed train: $(DEMO)/demo.toml
endif

test: $(TESTABLE) ## run the tests
	$(PYTEST) -m "not slow and not torture"

test-slow: $(TESTABLE) ## run the tests that take minutes each
	$(PYTEST) -m slow -o faulthandler_timeout=1800

torture: $(TESTABLE) ## kill, fill and corrupt it at every point: ten to thirty minutes
	$(PYTEST) -m torture

fuzz: $(TESTABLE) ## feed whatever reads files with damaged ones: five minutes
	$(BIN)/pytest tests/test_fuzz.py --hypothesis-profile=fuzz

check: $(TESTABLE) ## lint, check types, run the tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not torture"

bench: $(INSTALLED) ## measure the encoders against each other: ten minutes; BINDCACHE_BENCH_DATA=DIR for real tables
	for work in esm2-35m esm2-150m igt5 ch65-demo; do $(BIN)/python -m benchmarks.encoders --work $$work || exit; done

bench-peers: build/peers/biotrainer/installed build/peers/esm-cpp/installed ## install other projects for `make bench`

build/peers/%/installed: benchmarks/peers/%.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -r $<
	@touch $@

clean: ## remove what was made, the environment too, and the demo's store and run
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO)

$(DEMO)/demo.toml: | $(INSTALLED)
	$(BIN)/bindcache demo $(DEMO)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "bindcache needs Python 3.11 or newer, and $(PYTHON) is older or missing: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[sweep,report]"
	@touch $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@
