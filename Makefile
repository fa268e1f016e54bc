# `make` alone prints what there is. Every target prepares .venv by itself, once for each change of the dependencies.
SHELL := /bin/bash
export HOLDFAST_VENV ?= .venv
PYTHON := $(HOLDFAST_VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv demo test bench plants features soak lint format typecheck clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## prepare .venv with everything that the checks need
	@scripts/setup dev

demo: ## 100 real jobs through the public API, with failures, retries and a table of what happened
	@scripts/setup node
	@$(PYTHON) -m examples.demo

test: ## every check and test, with a table of results; make test SUITES="job worker" runs some
	@scripts/setup dev
	@$(PYTHON) -m scripts.run_suites $(SUITES)

bench: ## measure on this machine: ratios and medians
	@scripts/setup dev
	@$(PYTHON) -m bench

plants: ## put known faults into a copy of the source and see that the tests find them; PLANTS="name …" runs some
	@scripts/setup dev
	@$(PYTHON) -m scripts.plants $(PLANTS)

features: ## write docs/features.md anew from the tests
	@scripts/setup dev
	@$(PYTHON) -m scripts.features

soak: ## the long runs that `make test` leaves out
	@scripts/setup dev
	@$(PYTHON) -m pytest -m soak -o faulthandler_timeout=0 --hypothesis-profile=soak tests; code=$$?; [ $$code = 5 ] && echo "there are no long runs yet" || exit $$code

lint: ## style and import rule
	@scripts/setup dev
	@$(PYTHON) -m scripts.run_suites lint imports

format: ## let ruff format and mend what it can
	@scripts/setup dev
	@$(HOLDFAST_VENV)/bin/ruff check --fix . && $(HOLDFAST_VENV)/bin/ruff format .

typecheck: ## types
	@scripts/setup dev
	@$(PYTHON) -m scripts.run_suites types

clean: ## remove .venv, caches and build output
	rm -rf $(HOLDFAST_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
