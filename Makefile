# make demo: serve the embedded models. make test: everything CI runs. Both do all their own set-up.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: demo test check format bench sanitize wheel ext clean

demo: .make/demo
	$(BIN)/fastserve demo

test: .make/test ext
	$(BIN)/python -m pytest

check: .make/test ext
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

ext: .make/test
	@mkdir -p build; flock build/.lock $(BIN)/python setup.py -q build_ext --inplace

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip

.make/test: pyproject.toml setup.py | .venv/bin/python
	$(BIN)/python -m pip install -q -e '.[test]'
	@mkdir -p .make && touch $@

