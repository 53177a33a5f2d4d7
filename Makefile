# make demo, make test: each from nothing.  make fix changes files, make check never does.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Where there is no Java, the extra of that name brings one.
JAVA := $(shell command -v java >/dev/null || [ -x "$$JAVA_HOME/bin/java" ] || echo ,java)

# A shim of a version manager may be on the PATH and still run nothing, so each is tried.
PYTHON ?= $(shell for v in 3.11 3.10 3.9 3.8; do \
	p=$$(command -v python$$v) && $$p -c 'import sys' 2>/dev/null && echo $$p && exit; done; \
	python3 -c 'import sys; exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null && echo python3)

.PHONY: install demo test check lint fix plugin bench clean

install: $(VENV)/demo$(JAVA)

demo: $(VENV)/demo$(JAVA)
	@$(BIN)/python model_archives/digits/demo.py

test: $(VENV)/test$(JAVA)
	$(BIN)/pytest -q -m "not e2e"
	$(BIN)/pytest -q -m e2e -n 2 --dist loadfile

check: lint test

lint: $(VENV)/test$(JAVA)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/test$(JAVA)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What MMS's front end loads of ours; the built file is kept, so only who changes java/ needs javac.
plugin: $(VENV)/test$(JAVA)
	$(BIN)/python java/build.py

# About 25 minutes; QUICK=1 is one short round and writes no page.
bench: $(VENV)/test$(JAVA)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		benchmarks/.venvs benchmarks/.work

$(VENV)/bin/pip:
ifeq ($(PYTHON),)
	@echo "no Python 3.8 to 3.11 found (mxnet 1.9.1 runs on no newer one); to get one: apt-get" \
	"install python3.11 python3.11-venv, or pyenv install 3.11, or uv python install 3.11" >&2; exit 1
endif
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "$(PYTHON) cannot make a virtual environment; apt-get install $$(basename $(PYTHON))-venv" >&2; exit 1; }
	@$(BIN)/pip install -q --disable-pip-version-check --upgrade pip

# A stamp a set of extras: what is there is not installed again until setup.py changes.
$(VENV)/%: setup.py | $(VENV)/bin/pip
	@echo "installing mms_handler[$*] and what it needs into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[$*]'
	@touch $@
