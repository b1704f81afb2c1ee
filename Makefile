# make run       measure and draw: PyTorch against JAX, standard against chunked
# make test      the fast tier: every kind of check, in minutes
# make test-all  the fast tier, then the full grids of which it takes a part
# make lint      lint, format check, types
# Flags of the harness: make run FLAGS="--preset=smoke --framework=jax"

PYTHON ?= python3
VENV := .venv
IN_VENV := $(VENV)/bin/

# A machine whose nvidia-smi answers gets CUDA packages; any other must not download them.
GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
REQUIREMENTS := $(if $(GPU),requirements.txt,requirements/cpu.txt)
INSTALLED := $(VENV)/.installed

.PHONY: run test test-all lint format clean

run: $(INSTALLED)
	$(IN_VENV)python -m harness.run $(FLAGS)

# A process for each of two cores: what takes the time is compiling, which uses one.
PYTEST := OMP_NUM_THREADS=1 $(IN_VENV)python -m pytest -n 2 --dist worksteal

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m "slow or optimized" --xla_optimized

lint: $(INSTALLED)
	$(IN_VENV)ruff check .
	$(IN_VENV)ruff format --check .
	$(IN_VENV)mypy

format: $(INSTALLED)
	$(IN_VENV)ruff format .
	$(IN_VENV)ruff check --fix .

$(INSTALLED): requirements.txt $(wildcard requirements/*.txt)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(IN_VENV)python -m pip install --quiet -r $(REQUIREMENTS) -r requirements/dev.txt
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
