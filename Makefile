# Two commands do all the set-up: `make demo` and `make test`. They need Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint slow benchmarks docs clean

demo: $(READY)
	$(BIN)/gigassl demo -o demo

test: lint
	$(BIN)/pytest -q -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(READY)
	$(BIN)/pytest -q -m slow

benchmarks: $(READY)
	$(BIN)/python benchmarks/read_tiles.py
	$(BIN)/python benchmarks/encode_tiles.py
	$(BIN)/python benchmarks/embed_pipeline.py
	$(BIN)/python -m benchmarks.encode_bank
	$(BIN)/python -m benchmarks.sparse_conv
	$(BIN)/python -m benchmarks.pretrain_slides
	$(BIN)/python -m benchmarks.tile_views
	$(BIN)/python -m benchmarks.pretrain_tiles
	$(BIN)/python -m benchmarks.linear_probe
	$(BIN)/python -m benchmarks.mil

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
