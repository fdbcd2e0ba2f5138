# The developer's habits. Each works from a fresh clone with Python 3.11+, git and make.
# Name another interpreter by `make PYTHON=/path/to/python TARGET`.

VENV := .venv
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-here check format attack bench fuzz image docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: ## answer three questions about 10 million tokens of code, with a model on this machine
	@scripts/make-venv $(VENV) local
	@$(VENV)/bin/python -m demo $(ARGS)

test: ## run the whole suite, on every Python 3.11+ that is found
	@scripts/test-all $(ARGS)

test-here: ## run the suite on one interpreter only; ARGS go to pytest
	@scripts/make-venv $(VENV) local,test,wasm
	@$(VENV)/bin/python -m pytest $(ARGS)

check: ## lint, formatting, types, import layers
	@scripts/make-venv $(VENV) dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest -q tests/test_layers.py

format: ## rewrite files in the house format
	@scripts/make-venv $(VENV) dev
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

attack: ## attack every sandbox that can run here, as everybody who may start it; ARGS name some
	@scripts/attack $(ARGS)

bench: ## measure against the bare floor in the same run; ARGS name some
	@scripts/make-venv $(VENV) bench
	@$(VENV)/bin/python -m bench $(ARGS)

fuzz: ## look for bytes that break the host's side of the wire; ARGS: targets, --seconds N, --keep (new inputs go into the corpus)
	@scripts/make-venv $(VENV) fuzz
	@$(VENV)/bin/python -m fuzz $(ARGS)

image: ## build the guest's image for --sandbox container; ARGS such as --engine podman
	@scripts/make-venv $(VENV) local
	@$(VENV)/bin/python -m abyme.sandboxes.container $(ARGS)

docs: ## check the documentation: links, options, and every snippet is run
	@scripts/make-venv $(VENV) test
	@$(VENV)/bin/python -m pytest -q tests/test_docs.py

clean: ## remove what the targets made in this folder (not the user's cache)
	rm -rf .venv .venv-3.* .venv-everybody .venv-everybody.lock .venv.lock .venv-3.*.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
