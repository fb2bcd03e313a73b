# Two commands matter: `make evaluate` and `make test`. Both set up .venv first, once.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := hc_orchestration hc_orchestration_tests benchmarks

.PHONY: setup evaluate ui test lint format corpus train lock bench

evaluate: $(READY)
	$(BIN)/hc evaluate

ui: $(READY)
	$(BIN)/hc ui

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report term

lint: $(READY)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)

# The JSON Lines that the study reads, made anew from the annotated notes.
corpus: $(READY)
	$(BIN)/python -m hc_orchestration.corpora.inline \
	  data/corpora/synthetic_notes/source data/corpora/synthetic_notes/notes.jsonl

# The shipped models, made anew from the BC5CDR files in $(CORPUS); about 15 minutes on one core.
train: $(READY)
	@test -n "$(CORPUS)" || { echo "Say where the BC5CDR files are: make train CORPUS=folder" >&2; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/python -m hc_orchestration.models.training --corpus "$(CORPUS)" --output data/models

bench: $(READY)
	$(BIN)/python benchmarks/definitions_import.py
	$(BIN)/python benchmarks/tracking_cost.py

setup: $(READY)

# requirements.lock holds every package with its hashes, so nothing is left to resolve (--no-deps); it
# names no index, so any mirror will do.
$(READY): requirements.lock pyproject.toml
	@python=""; \
	for candidate in python3 python3.12 python3.11; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "Python 3.11 or 3.12 is needed; none was found." >&2; exit 1; fi; \
	$$python -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock && \
	  uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $(READY)

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --no-strip-extras --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock
