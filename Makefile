# make demo: serve the embedded models. make test: everything CI runs. Each does all of its own set-up and nothing twice.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PACKAGE := pyproject.toml setup.py MANIFEST.in README.md LICENSE
NATIVE := setup.py $(wildcard ext/*.pyx ext/*.pxd ext/*.hpp)
MODULES := $(shell find fastserve -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.onnx' -o -name '*.json' -o -name py.typed \))
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
# Set-up waits for the network, and for the compiler of one file: two things at a time, but not beside `clean`.
MAKEFLAGS += $(if $(filter clean,$(MAKECMDGOALS)),,--jobs=2)
PARALLEL := 3
# Where bytecode is not kept, each of the hundreds of servers that the tests start compiles all modules again: 0.5 s of CPU.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest --numprocesses=$(PARALLEL) --dist=worksteal
NEEDED := $(BIN)/python tests/support/needed.py
SANITIZED := build/sanitized
MICRO := -m pytest bench/micro -q --benchmark-enable --benchmark-only --benchmark-quiet

# Told before anything is installed or measured.
ifneq ($(filter bench bench-quick,$(MAKECMDGOALS)),)
$(if $(shell command -v wrk),,$(error wrk is missing, which drives the servers: apt-get install wrk))
endif

.PHONY: demo test check format bench bench-quick sanitize sanitized-build fuzz fuzz-sanitized soak audit wheel ext clean

demo: .make/demo
	@exec $(BIN)/fastserve demo

test: .make/test .make/ext .make/sdks
	$(PYTEST)

# Formatting, lints, types, then all tests (those of the layers and of the native interfaces among them).
check: .make/test .make/ext .make/sdks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: .make/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Micro benchmarks, then the server under load (wrk, from Debian), then bench/README.md from both: about seven minutes.
# On a machine with nothing else to do.
bench: .make/bench .make/ext
	@mkdir -p bench/results
	$(BIN)/python $(MICRO) --benchmark-max-time=0.2 --benchmark-json=bench/results/micro.json
	$(BIN)/python -m bench.load
	$(BIN)/python -m bench.monitor
	$(BIN)/python -m bench.render

# The same in two minutes, to see what is far off; everything stays in build/.
bench-quick: .make/bench .make/ext
	@mkdir -p build
	$(BIN)/python $(MICRO) --benchmark-max-time=0.02 --benchmark-json=build/micro-quick.json
	$(BIN)/python -m bench.load --quick
	$(BIN)/python -m bench.render --quick

# The tests of the native code under AddressSanitizer and UBSan, in a copy, so that the fast build stays as it is.
# libstdc++ is loaded first as well: the sanitizer must find C++'s throw when it starts. Python frees nothing at exit, so
# leaks are not looked for; what the sanitizer says goes past pytest's capture.
SANITIZING = PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)"

sanitized-build: .make/test
	@mkdir -p $(SANITIZED)
	tar -c --exclude='*.so' ext fastserve tests bench examples setup.py pyproject.toml README.md LICENSE | tar -x -C $(SANITIZED)
	cd $(SANITIZED) && FASTSERVE_SANITIZE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace

sanitize: sanitized-build
	cd $(SANITIZED) && $(SANITIZING) $(CURDIR)/$(BIN)/python -m pytest -p no:cacheprovider --capture=sys --timeout=600 tests/ext

# Anything into every parser, SECONDS for each of TARGETS (all of them where none is named); tests/fuzz/README.md.
SECONDS := 60
fuzz: .make/test .make/ext
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) atheris
	$(BIN)/python -m tests.fuzz $(TARGETS) --seconds $(SECONDS) $(if $(KEEP),--keep)

# The targets of the Python layer over native modules with the sanitizers in them; without coverage, from the kept corpora.
fuzz-sanitized: sanitized-build
	cd $(SANITIZED) && $(SANITIZING) $(CURDIR)/$(BIN)/python -m tests.fuzz \
	  $(or $(TARGETS),tfserving_calls oip_calls events binary_tensors) --seconds $(SECONDS) --sanitized

# A server under load, with versions that are swapped, clients that leave, records written; SECONDS of it.
soak: SECONDS := 1800
soak: .make/test .make/ext
	$(BIN)/python -m tests.soak --seconds $(SECONDS) --json build/soak.json

# What a user's installation is made of (build/audit/sbom.cdx.json), and what is known to be vulnerable in it.
audit: .make/wheel
	$(BIN)/python -m tests.audit

wheel: .make/wheel
	@ls -1 dist/*.whl

ext: .make/builders
	@flock build/.lock $(BIN)/python setup.py -q build_ext --inplace

clean:
	rm -rf .venv .make build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find fastserve -name '*.so' -delete

# The newest pip finds what to install in a third of the time that the one in a Python of some years ago takes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3-venv is missing? apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) --upgrade pip || { rm -rf .venv; exit 1; }

# The wheel and the editable install exclude each other in one .venv: each takes the other's mark away.
.make/demo: .make/wheel
	@echo "installing the wheel and what it needs into .venv ..."
	@$(PIP) --force-reinstall --no-deps dist/fastserve-*.whl
	@$(PIP) "$$(echo dist/fastserve-*.whl)[datasets]"
	@rm -f .make/editable .make/test; touch $@

.make/wheel: $(PACKAGE) $(NATIVE) $(MODULES) | .make/builders
	@rm -rf dist build/lib* build/bdist*
	@echo "building the wheel (compiles the native code, about a minute) ..."
	@flock build/.lock $(BIN)/python -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	@touch $@

# What compiles the package; installed here once instead of into a folder of its own for each build.
.make/builders: pyproject.toml | $(BIN)/python
	@mkdir -p .make build
	@$(PIP) -r <($(NEEDED) build)
	@touch $@

.make/editable: pyproject.toml setup.py .make/builders
	@flock build/.lock env FASTSERVE_COMPILED=1 $(PIP) --no-build-isolation --no-deps -e .
	@rm -f .make/demo; touch $@

# Most of it is never imported, so it is not compiled to bytecode here.
.make/packages: pyproject.toml .make/builders
	@echo "installing what the tests need into .venv ..."
	@$(PIP) --no-compile -r <($(NEEDED) test)
	@touch $@

.make/test: .make/editable .make/packages
	@touch $@

# Official clients that are tested with, each in an environment of its own: ten seconds.
.make/sdks: tests/support/sdks.py .make/packages
	$(BIN)/python -m tests.support.sdks
	@touch $@

# What is measured beside fastserve; nothing of it is needed for tests.
.make/bench: .make/test
	@echo "installing the servers to compare with into .venv ..."
	@$(PIP) -r <($(NEEDED) bench)
	@touch $@

.make/ext: $(NATIVE) .make/builders
	@echo "compiling the native code, about a minute ..."
	@flock build/.lock $(BIN)/python setup.py -q build_ext --inplace
	@touch $@
