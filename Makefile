# `make demo` and `make test` need Python 3.11 or newer and make; the rest is installed
# into .venv here, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PEERS := $(VENV)/installed-peers

# One thread a process: results do not depend on the machine's number of cores.
export OMP_NUM_THREADS := 1
export MPLBACKEND := Agg
# Python keeps what it has compiled: the tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docstrings types tests slow bench clean

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

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

# What the solvers are compared with: only the benchmarks need it.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $(PEERS)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
