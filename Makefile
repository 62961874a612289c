# Everything from a fresh clone: `make demo`, `make test`. Set-up goes into .venv, once per change of pyproject.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export ORT_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup system demo daemon soak test lowest lint bench arm64 clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   set up, export the demo detector, verify it, run it on pictures and a video, benchmark it"
	@echo "make daemon the demo as a service: a film as two cameras, page on http://127.0.0.1:8787"
	@echo "make soak   set up, run the fault matrix at its full size (an hour)"
	@echo "make test   set up, run all tests"
	@echo "make system install Debian packages that some tests use (root)"
	@echo "make lowest the tests with the lowest version of every package that the project allows, torch's excepted"
	@echo "make lint   set up, check format, lint, types and import contracts"
	@echo "make bench  set up, benchmark the demo bundle and the forms of the block"
	@echo "make arm64  set up, check a bundle on emulated CPUs: arm64, Haswell, Nehalem (root, Debian; BUNDLE=...)"

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet "torch>=2.10,<2.14"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/sspcab-edge demo

# Debian packages that tests use where they are there: a broker, GStreamer, strace, systemd-analyze. Root only.
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  timeout 300 sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends mosquitto strace systemd gstreamer1.0-tools gstreamer1.0-plugins-base \
	    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav" > /dev/null \
	  || echo "Debian packages could not be installed: the tests that need them are skipped"; \
	else echo "not root on Debian: tests that need a broker, GStreamer or strace are skipped where they lack"; fi

daemon: $(READY)
	$(BIN)/sspcab-edge demo --only-bundle
	$(BIN)/sspcab-daemon --config examples/daemon/edge.toml

# Two at a time, but for what measures time or waits for a deadline.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/bench --ignore=tests/faults
	$(BIN)/python -m pytest tests/bench tests/faults

soak: $(READY)
	SSPCAB_FAULTS=long $(BIN)/python -m pytest -s --timeout=3600 tests/faults

# Not part of CI. The lowest torch comes with gigabytes of CUDA: the newest stands in for it.
LOWEST := .venv-lowest
lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/lowest/constraints.py pyproject.toml > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --upgrade "pip>=24"
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/constraints.txt "torch>=2.10,<2.14" --editable ".[dev]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/bench --ignore=tests/faults
	$(LOWEST)/bin/python -m pytest tests/bench tests/faults

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/sspcab-edge demo --only-bundle
	$(BIN)/sspcab-bench demo-output/bundle
	$(BIN)/sspcab-bench block

# Not part of CI: minutes of emulation, and root. tests/other_cpus/check.sh says what it needs and does.
arm64: $(READY)
ifeq ($(BUNDLE),)
	$(BIN)/sspcab-edge demo --only-bundle --int8
endif
	PYTHON=$(BIN)/python tests/other_cpus/check.sh $(or $(BUNDLE),demo-output/bundle)

clean:
	rm -rf $(VENV) $(LOWEST) demo-output dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
