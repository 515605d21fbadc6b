# `make demo` and `make test` need Python 3.11 or newer and make; the rest is installed
# into .venv here, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PEERS := $(VENV)/installed-peers
DOCS := $(VENV)/installed-docs

# One thread a process: results do not depend on the machine's number of cores.
export OMP_NUM_THREADS := 1
export MPLBACKEND := Agg
# Python keeps what it has compiled: the tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docstrings types tests slow bench docs clean

demo: $(STAMP)
	$(BIN)/gflow deep-linear
	@echo
	$(BIN)/gflow converge deep-linear
	@echo
	@echo "The pictures are in the figures/ folders of the two folders above."

# The checks of docstrings and types run beside the tests, which leave the cores idle at times.
test: lint
	@$(MAKE) --no-print-directory --jobs docstrings types tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docstrings: $(STAMP)
	$(BIN)/python tests/docstrings.py

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

# What `make test` leaves out: it takes long, and quicker tests there find most of its faults.
slow: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

bench: $(PEERS)
	$(BIN)/python benchmarks/end_to_end.py
	$(BIN)/python benchmarks/work_precision.py

# The site, docs/_build/html/index.html: the gallery's examples run, and warnings are errors.
docs: $(DOCS)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

# What the solvers are compared with: only the benchmarks need it.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $(PEERS)

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS)

clean:
	rm -rf docs/_build docs/auto_gallery docs/benchmarks docs/reference/generated
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
