# Two commands are all that a fresh machine needs: `make demo` and `make test`. Each makes its environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= sim,dev
OUT ?= out/demo
# Threads of a process pool and of XLA fight for the same cores: the tests run one process a core.
JOBS ?= 2

.PHONY: demo test lint slow accelerator protocol clean

demo: $(STAMP)
	$(BIN)/python -m recon demo tracking --output $(OUT)
	$(BIN)/python -m recon demo hgcal --output $(OUT)/hgcal
	$(BIN)/python -m recon demo jets --output $(OUT)/jets

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

accelerator: $(STAMP)
	$(BIN)/python -m pytest -m accelerator

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $(STAMP)

protocol: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I serving/protocol --include_imports \
	  --descriptor_set_out=serving/protocol/protocol.binpb inference.proto

clean:
	rm -rf $(VENV) out build dist *.egg-info
