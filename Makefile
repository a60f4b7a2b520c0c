PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help install test coverage lint types layers bench notebooks docs ci

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

install:  ## install the package for development
	$(PYTHON) -m pip install -e '.[dev,bench]'

test:  ## run every test
	$(PYTHON) -m pytest

coverage:  ## run every test, and print which lines of the package none of them runs
	$(PYTHON) -m pytest -n 3 --dist loadfile --cov

lint:  ## check style and format
	ruff check .
	ruff format --check .
	codespell

types:  ## check the types
	mypy

layers:  ## check that imports run downward only
	lint-imports

bench:  ## measure against the floor and the peers, as ratios (FORM=--quick: within minutes)
	$(PYTHON) benchmarks/bench.py $(or $(FORM),--full)

notebooks:  ## execute the notebooks and keep their outputs
	$(PYTHON) notebooks/execute.py

docs:  ## build the site into build/site, with warnings as errors
	$(PYTHON) docs/make_site.py

ci:  ## run what CI runs
	.ci/run
