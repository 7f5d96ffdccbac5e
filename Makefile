# make setup | demo | test | fuzz | broken | lint | docs | bench | clean
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

ENGINES ?= tensorflow jax torch
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?= --quick
BROKEN_ARGS ?= 2000 900
FUZZ_SECONDS ?= 600
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
THREADS := $(shell echo $$(( $(CORES) > $(JOBS) ? $(CORES) / $(JOBS) : 1 )))

.PHONY: help setup demo test fuzz broken lint format docs bench clean

help:
	@echo "make setup   a virtual environment in .venv with everything in it"
	@echo "make demo    train a small network, differentiate it, write demo/"
	@echo "make test    lint, build the documentation, run the tests on every engine"
	@echo "make broken  engines broken on purpose, in the long form: minutes on torch, hours on JAX and TensorFlow"
	@echo "make lint    only the linters     make format  let ruff mend what it can"
	@echo "make docs    only the site, in site/"
	@echo "make bench   the benchmarks       make clean   remove what was made"
	@echo "make fuzz    drawn functions against differences, FUZZ_SECONDS=600 for each engine"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# its torchvision, which nothing here needs, would bring another build of torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt torchattacks
	touch $@

demo: $(STAMP)
	$(BIN)/wrt demo

test: lint docs
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) $(addprefix test-,$(ENGINES))
	@echo "all engines passed: $(ENGINES)"

# One engine in a process of its own: the whole log in .logs/, pytest's closing line here. A skipped test is a failure.
test-%: export WRT_TEST_ENGINE = $*
test-%: export OMP_NUM_THREADS = $(THREADS)
test-%: export TF_NUM_INTRAOP_THREADS = $(THREADS)
test-%: export TF_NUM_INTEROP_THREADS = 1
# the engine that nothing is compiled for comes last, and has the cores that the others leave
test-torch: WORKERS = -n $(JOBS) --dist loadfile
test-%: $(STAMP)
	@mkdir -p .logs
	@echo "$*: pytest $(PYTEST_ARGS)"
	@$(BIN)/python -m pytest -q --durations=10 -o cache_dir=.pytest_cache/$* $(WORKERS) $(PYTEST_ARGS) > .logs/$*.log 2>&1; code=$$?; \
	closing=$$(tail -n 1 .logs/$*.log); \
	if [[ $$closing =~ skipped|xfailed ]]; then code=1; fi; \
	if [ $$code -ne 0 ]; then tail -n 200 .logs/$*.log; fi; \
	echo "$*: $$closing"; exit $$code

broken: $(STAMP)
	for engine in $(ENGINES); do PYTHONPATH=tests $(BIN)/python tests/fuzz_broken.py $$engine $(BROKEN_ARGS) || exit 1; done

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/typos

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# not --quiet, with which mkdocs does not count warnings and --strict means nothing
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 KERAS_BACKEND=jax TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/mkdocs build --strict

bench: $(STAMP)
	for file in $$(grep -l __main__ benchmarks/*.py); do for engine in $(ENGINES); do \
	$(BIN)/python $$file $$engine $(BENCH_ARGS) || exit 1; done; done

# every engine has its turn, also after one that failed
fuzz: export OMP_NUM_THREADS = 1
fuzz: $(STAMP)
	code=0; for engine in $(ENGINES); do \
	$(BIN)/python tests/fuzz/run.py $$engine --seconds $(FUZZ_SECONDS) || code=1; done; exit $$code

clean:
	rm -rf site demo dist .logs .mypy_cache .pytest_cache .ruff_cache
