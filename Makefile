# Two commands matter: `make evaluate` and `make test`. Each sets up what it needs in .venv first, once.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
PACKAGES := hc_orchestration hc_orchestration_tests benchmarks
JUDGE := hc_orchestration_tests/fhir

.PHONY: setup judge evaluate ui test lint format corpus train lock bench bench-more

evaluate: $(READY)
	$(BIN)/hc evaluate

ui: $(READY)
	$(BIN)/hc ui

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0 --cov --cov-report term

lint: $(DEV_READY)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(DEV_READY)
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

# The performance table of the README (about an hour; of MTSamples with NOTES=mtsamples.csv.gz).
bench: $(DEV_READY)
	$(BIN)/python benchmarks/table.py $(NOTES)

# The README's other figures.
bench-more: $(DEV_READY)
	$(BIN)/python benchmarks/tracking_cost.py
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/corpus_memory.py
	$(BIN)/python benchmarks/scoring_speed.py
	$(BIN)/python benchmarks/scoring_oracles.py
	$(BIN)/python benchmarks/verify_records.py

setup: $(DEV_READY)

# Packages of others (Node) that judge our FHIR resources in the tests, which skip without them.
judge: $(JUDGE)/node_modules/.package-lock.json

$(JUDGE)/node_modules/.package-lock.json: $(JUDGE)/package-lock.json $(JUDGE)/.npmrc $(DEV_READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $(JUDGE)
	@touch $@

# The locks hold every package with its hashes, so nothing is left to resolve (--no-deps); they name no
# index, so any mirror will do. requirements.lock is what a user runs; requirements-dev.lock adds, at the
# same versions, what the tests need.
ifeq ($(shell command -v uv 2>/dev/null),)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
else
INSTALL := uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps
endif

$(BIN)/python:
	@python=""; \
	for candidate in python3 python3.12 python3.11; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "Python 3.11 or 3.12 is needed; none was found." >&2; exit 1; fi; \
	$$python -m venv $(VENV)

$(READY): requirements.lock pyproject.toml | $(BIN)/python
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q hc_orchestration
	@$(BIN)/python -m hc_orchestration.tracking.empty_database
	@touch $@

$(DEV_READY): requirements-dev.lock $(READY)
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --no-strip-extras \
  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

lock:
	$(COMPILE) --upgrade --extra dev -o requirements-dev.lock
	$(COMPILE) --upgrade --extra build --constraint requirements-dev.lock -o requirements.lock
