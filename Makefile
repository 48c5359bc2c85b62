# Two commands to begin with: `make lab` (JupyterLab on the start notebook) and `make test`.
# Only relative paths and phony targets: it works from a folder whose name has spaces in it.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
VENV_PYTHON := .venv/Scripts/python
else
VENV_PYTHON := .venv/bin/python
endif
SETUP := "$(PYTHON)" scripts/setup.py
TESTS ?=
JUPYTER ?=
export PYTHONUNBUFFERED := 1

.PHONY: help lab demo setup setup-all test test-slow test-scale check format notebooks bench doctor parity

help:  ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

lab: setup  ## set up, then open JupyterLab on the start notebook (JUPYTER="--no-browser --port 9000" adds options)
	@$(VENV_PYTHON) -m workbench lab -- $(JUPYTER)

demo: setup  ## set up, run the start notebook, write out/demo.html
	@$(VENV_PYTHON) scripts/notebooks.py demo

setup:  ## .venv with what the start notebook needs
	@$(SETUP) lab

setup-all:  ## the same with vLLM, Ray, TRL, browser and test tools
	@$(SETUP) all

test: setup-all  ## all tests that take seconds (TESTS="-k word" narrows)
	@$(VENV_PYTHON) -m pytest -q -m "not slow" $(TESTS)

test-slow: setup-all  ## the tests that take minutes
	@$(VENV_PYTHON) -m pytest -q -m "slow and not scale" --timeout=1200 $(TESTS)

test-scale: setup-all  ## scaled runs on a real Ray cluster of this machine: minutes of two idle cores
	@$(VENV_PYTHON) -m pytest -q -m scale --timeout=1800 $(TESTS)

check:  ## formatting, lint, types of the core, import contracts
	@$(SETUP) check
	@$(VENV_PYTHON) scripts/check.py

format:  ## format the code
	@$(SETUP) check
	@$(VENV_PYTHON) -m ruff format .
	@$(VENV_PYTHON) -m ruff check --fix .

notebooks: setup  ## run every notebook from its source; fails on an error
	@$(VENV_PYTHON) scripts/notebooks.py run

bench: setup-all  ## print the benchmark tables (half an hour)
	@for file in benchmarks/*.py; do echo "== $$file"; $(VENV_PYTHON) "$$file" || exit 1; done

parity: setup  ## the methods against worked examples, one line a case
	@$(VENV_PYTHON) tests/parity/run.py tests/parity/cases/worked_examples.json

doctor:  ## what is installed, what works here, what to do
	@$(VENV_PYTHON) workbench/doctor.py
