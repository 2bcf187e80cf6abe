# Everything runs in .venv, which is made from exact pins. PYTHON is Python 3.11, 3.12 or 3.13.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# As pip does, uv accepts the certificates that this system trusts, such as those of a company's proxy.
UV_INSTALL := $(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python
# Debian packages that tests need. Tests that lack one are skipped and name it; where CI is set they fail.
SYSTEM := chromium iproute2 libfluidsynth3 nmap openssh-client openssh-server rsync timgm6mb-soundfont
# The tests of a file share expensive fixtures, so they stay in one process. conftest.py sorts the files.
SIDE_BY_SIDE := --numprocesses auto --dist loadfile --no-loadscope-reorder

# Tests start hundreds of processes. Each would compile the same modules, and rewrite the same assertions, again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help study test test-all quick test-gpu cluster-test soak check docs bench lock

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# pip installs uv, and uv the rest, in half the time that pip takes.
$(BIN)/uv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\]$$/p' requirements.lock >$(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt
	@touch $@

$(STAMP): $(BIN)/uv requirements.lock pyproject.toml
	@echo "installing into $(VENV), about 6 GB; this takes a minute or more the first time"
	@# Bytecode is compiled once here, and not by each of the processes that Ray starts at the same time.
	@$(UV_INSTALL) --compile-bytecode --require-hashes -r requirements.lock
	@$(UV_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

study: $(STAMP)  ## install, run the quickstart study, show its front, plot it and export its best model
	@$(BIN)/marl-study run quickstart
	@$(BIN)/marl-study results quickstart --front
	@$(BIN)/marl-study export quickstart --best disentanglement/separation --to exported
	@$(BIN)/marl-study plot quickstart -o exported/quickstart.html --overwrite
	@echo
	@echo "try next:"
	@echo "  $(BIN)/marl-study dashboard                       # browse the study"
	@echo "  $(BIN)/marl-study verify exported/quickstart-*    # score the exported model again"
	@echo "  $(BIN)/marl-study resume quickstart --trials 24   # twelve more trials"

# Only root may, and only Debian has apt-get. A failure stops nothing, and the next `make test` tries again.
$(VENV)/.system: Makefile | $(STAMP)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing for tests, by apt-get: $(SYSTEM)"; \
	  install="env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends $(SYSTEM)"; \
	  { $$install || { apt-get update -qq && $$install; }; } >$@.log 2>&1 && touch $@ || tail -n 3 $@.log; \
	fi

test: $(STAMP) $(VENV)/.system check  ## install and pass the tests that every change must pass
	@$(BIN)/pytest $(SIDE_BY_SIDE)

test-all: $(STAMP) $(VENV)/.system check  ## those and the nightly ones: most flows in a browser, clusters, kills at random times
	@$(BIN)/pytest $(SIDE_BY_SIDE) -m "not gpu"

quick: $(STAMP)  ## the tests that take seconds
	@$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow and not gpu and not nightly"

test-gpu: $(STAMP)  ## the tests that need a CUDA device
	@$(BIN)/pytest -m gpu

cluster-test: $(STAMP) $(VENV)/.system  ## a cluster of several hosts on this machine, failures of it and of its store; as root, on Linux
	@$(BIN)/python -m tests.cluster.hosts check
	@$(BIN)/pytest -s -m "not gpu" tests/cluster tests/study/test_store_of_a_study_fails.py

soak: $(STAMP) $(VENV)/.system  ## 500 short trials on three hosts and a fault every 20 seconds, for half an hour
	@$(BIN)/python -m tests.cluster.soak

check: $(STAMP) docs  ## lint, format, types, the direction of imports, and the documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(STAMP)  ## renew the pages that come from the code, and build the site into site/; a broken link fails
	@$(BIN)/python -m docs.generate
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(STAMP)  ## measure what is claimed about speed, in about ten minutes on two cores
	@$(BIN)/python -m benchmarks.throughput
	@$(BIN)/python -m benchmarks.study --plain
	@$(BIN)/python -m benchmarks.control_plane --trials 500
	@$(BIN)/python -m benchmarks.terms --rounds 5
	@$(BIN)/python -m benchmarks.metrics
	@$(BIN)/python -m benchmarks.evaluation
	@$(BIN)/python -m benchmarks.dci --clips 2000 --held-out 1000 --latents 16
	@$(BIN)/python -m benchmarks.feeding --seconds 4
	@$(BIN)/python -m benchmarks.embed

lock: $(BIN)/uv  ## renew the exact pins
	@$(BIN)/uv --system-certs pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev --output-file requirements.lock pyproject.toml
