# What people and CI run. All of it stays in .venv and in a cache outside the tree (see tests/install-parts).
PYTHON ?= python3
PORT ?= 8484
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test check bench lock parts golden tour storm
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

demo: .venv/.installed  ## all of it on this machine, on embedded parts; PORT=8484
	@exec $(BIN)/arborgate demo --port $(PORT)

test: parts  ## every test, against the real parts
	@echo "Testing"
	@$(BIN)/python -m pytest

check: .venv/.installed-dev  ## lint, types and import direction
	@echo "Checking style" && $(BIN)/ruff check --quiet --output-format concise && $(BIN)/ruff format --check --quiet
	@echo "Checking types" && $(BIN)/mypy --no-error-summary && $(BIN)/pyright > .venv/pyright.log || { cat .venv/pyright.log; exit 1; }
	@echo "Checking import direction" && $(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

storm: parts  ## hundreds of crashes while hundreds of proposals are applied (a quarter of an hour)
	@ARBORGATE_STORM=full $(BIN)/python -m pytest -q -s tests/storm

bench: parts  ## side by side with others, on this machine
	@$(BIN)/python -m bench

lock: .venv/.installed-dev  ## resolve the dependencies anew
	@echo "Resolving"
	@$(PIP) uv==0.13.8
	@$(BIN)/uv $(COMPILE) pyproject.toml -o requirements.lock
	@$(BIN)/uv $(COMPILE) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
COMPILE := pip compile --universal --no-emit-index-url --generate-hashes --quiet --no-header --extra demo --group build

parts: .venv/.installed-dev
	@tests/install-parts

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Installing into .venv what the server and its demo need"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	@echo "Installing into .venv what checks and tests need"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

golden: .venv/.installed-dev  ## write the golden files and generated documents anew
	@ARBORGATE_GOLDEN=write $(BIN)/python -m pytest -q tests/test_tools.py tests/test_documents.py tests/policies/test_documentation.py

tour: parts  ## write docs/tour.md and its pictures anew, from a running demo
	@ARBORGATE_TOUR=write $(BIN)/python -m pytest -q tests/test_story.py
