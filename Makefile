SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test bench torture lint features reference

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,ray]'
	touch $(STAMP)

run: setup
	$(BIN)/python run.py experiments/golden_gate.yaml

features: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh experiments/features/find.sh

reference: setup
	$(BIN)/python run.py experiments/
	$(BIN)/python -m steer.report.gallery --take results

test: setup lint
	$(BIN)/python -m pytest -n 2 -m 'not torture'

lint: setup
	$(BIN)/ruff check steer tests benchmarks run.py
	$(BIN)/ruff format --check steer tests benchmarks run.py

bench: setup
	$(BIN)/python -m benchmarks

torture: setup
	mkdir -p docs
	set -o pipefail; { date -u +'make torture, %Y-%m-%d %H:%M UTC'; $(BIN)/python -m pytest -m torture -s -v --durations=0; } 2>&1 | tee docs/torture.txt
