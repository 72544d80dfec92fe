# The two commands a newcomer needs: `make demo` and `make test`. Both make .venv if it is not there.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: demo test lint install

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# Trains a small seed on generated shapes, searches, trains the seed's and the found architecture, each remapped and
# from random initialisation, evaluates, and compares.
demo: .venv/.installed
	rm -rf $(DEMO)
	$(BIN)/python train.py experiment=demo/seed hydra.run.dir=$(DEMO)/seed
	$(BIN)/python search.py experiment=demo/search seed=custom seed.weights=$(DEMO)/seed hydra.run.dir=$(DEMO)/search
	$(BIN)/python train.py -m experiment=demo/train seed=custom seed.weights=$(DEMO)/seed \
		architecture=mobile_small,$(DEMO)/search remap=preserving,random hydra.sweep.dir=$(DEMO)/train
	$(BIN)/python evaluate.py checkpoint=$(DEMO)/train/2 hydra.run.dir=$(DEMO)/evaluate
	$(BIN)/python -m fna_lightning.reporting.sweep $(DEMO)/train

test: .venv/.installed
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
