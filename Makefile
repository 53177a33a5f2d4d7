# make help lists the targets. Each works from nothing: it makes the environment that it needs.
SHELL := /bin/bash
# An image may set this; then each process of the tests compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -q --disable-pip-version-check
comma := ,
# Where there is no Java, the extra of that name brings one.
JAVA := $(shell command -v java >/dev/null || [ -x "$$JAVA_HOME/bin/java" ] || echo ,java)

# A shim of a version manager may be on the PATH and still run nothing, so each is tried.
PYTHON ?= $(shell for v in 3.11 3.10 3.9 3.8; do \
	p=$$(command -v python$$v) && $$p -c 'import sys' 2>/dev/null && echo $$p && exit; done; \
	python3 -c 'import sys; exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null && echo python3)

.PHONY: install demo test test-all test-hosts test-large test-ray test-zoo test-sdks mutate quick e2e check lint fix plugin lock dist bench chaos soak fuzz screenshots docs clean help

install: $(VENV)/demo$(JAVA) ## install mms_handler into .venv (the default target)

demo: $(VENV)/demo$(JAVA) ## train, pack and serve a model and send it requests, in about 15 seconds
	@$(BIN)/python model_archives/digits/demo.py

test: quick e2e ## run every test

# What fails runs once more, alone: a test with processes and deadlines may fail once on a machine
# that others keep busy.  A fault fails twice.
ALONE := -q --last-failed --last-failed-no-failures none

# Many tests wait: more of them at a time than cores keep the cores busy.
e2e: $(VENV)/test$(JAVA) ## run the tests with a real server
	$(BIN)/pytest -q -n 4 --dist worksteal tests/e2e || $(BIN)/pytest $(ALONE) tests/e2e

test-all: ## run every test on each Python from 3.8 to 3.11 that is here; prints a table
	@python3 tools/every_python.py

# These jobs wait more than they compute.
test-hosts: $(VENV)/test$(JAVA) ## train on several hosts, as network namespaces, with faults; needs root, prints a table
	$(BIN)/pytest -q -n 3 --dist worksteal tests/hosts

test-ray: $(VENV)/test$(JAVA) ## transform on a Ray cluster of several nodes, one of which is lost, in two minutes
	$(BIN)/pytest -q tests/cluster

test-zoo: $(VENV)/test$(JAVA) ## export the large networks of MXNet's model zoo to ONNX, and prove them
	$(BIN)/pytest -q tests/zoo

# Each SDK gets an environment of its own, in pytest's cache.
test-sdks: $(VENV)/test$(JAVA) ## train and serve with versions 2 and 3 of SageMaker's Python SDK; installs a gigabyte
	$(BIN)/pytest -q tests/sdks

test-large: $(VENV)/test$(JAVA) ## transform a file of five gigabytes, and kill that in the middle; GB=1 for a smaller one
	$(BIN)/pytest -q tests/large $(if $(GB),--gb $(GB))

mutate: $(VENV)/test$(JAVA) ## change 300 places of the code, one at a time: do tests notice? prints a table
	$(BIN)/python tools/mutate.py $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only '$(ONLY)') $(if $(COUNT),--count $(COUNT)) $(if $(MINUTES),--minutes $(MINUTES))

quick: $(VENV)/test$(JAVA) ## run the tests that need no server
	$(BIN)/pytest -q -n 3 --dist loadfile --ignore tests/e2e || $(BIN)/pytest $(ALONE) --ignore tests/e2e

check: lint test ## lint, then test

lint: $(VENV)/test$(JAVA) ## format, lint, type and layer checks; changes no file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/test$(JAVA) ## format the code and correct what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The jar is in the repository, so only a change in java/ needs javac.
plugin: $(VENV)/test$(JAVA) ## build the front end's plug-in from java/, and the tests that drive its classes
	$(BIN)/python java/build.py
	$(BIN)/python -m tests.orders.build

# test.txt first: it has the most packages, and the other files take their versions from it.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.8 --generate-hashes \
	--python $(BIN)/python --annotation-style line --custom-compile-command 'make lock'
WITH_TEST = -c requirements/test.txt
lock: | $(VENV)/bin/pip ## renew requirements/: the newest versions that fit, with hashes
	@$(PIP) uv
	$(LOCK) setup.py --extra test -o requirements/test.txt
	$(LOCK) setup.py --extra demo $(WITH_TEST) -o requirements/demo.txt
	$(LOCK) setup.py --extra java $(WITH_TEST) -o requirements/java.txt
	$(LOCK) setup.py --extra s3 $(WITH_TEST) -o requirements/image-cpu.txt
	$(LOCK) setup.py deploy/gpu/pyproject.toml --extra s3 $(WITH_TEST) --no-emit-package mxnet \
		-o requirements/image-gpu.txt
	printf '%s\n' pip setuptools wheel | $(LOCK) - $(WITH_TEST) -o requirements/build.txt
	echo "atheris>=3,<3.1; python_version >= '3.11'" | $(LOCK) - $(WITH_TEST) -o requirements/fuzz.txt

# The time of the commit makes the bytes repeatable; the wheel is built from the sdist.
dist: $(VENV)/test$(JAVA) ## build the sdist and the wheel into dist/
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation

bench: $(VENV)/test$(JAVA) ## measure, in less than half an hour; QUICK=1 runs one short round and writes no page
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

chaos: $(VENV)/test$(JAVA) ## cause each fault under load, in about 15 minutes; FAULTS="WORD..." for some
	$(BIN)/python -m tests.chaos $(FAULTS) $(if $(TIMEOUT),--timeout-s $(TIMEOUT))

soak: $(VENV)/test$(JAVA) ## serve at 70 % of capacity for an hour and watch what grows; MINUTES=5 RATE=400 for less
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(if $(RATE),--rate $(RATE)) --picture docs/reliability/soak.svg

# atheris is in no extra: a fuzzer is a tool of this repository.  It has wheels for Python 3.11 on;
# older ones fuzz without coverage.
fuzz: $(VENV)/test,fuzz$(JAVA) ## fuzz all that reads input, a million times; SECONDS=60 for a minute; TARGETS="json zips" for two
	$(BIN)/python tests/fuzz $(TARGETS) $(if $(SECONDS),--seconds $(SECONDS))
	$(if $(TARGETS),,$(BIN)/python tests/fuzz/described_api.py $(if $(SECONDS),5))

screenshots: $(VENV)/test$(JAVA) ## make the pictures of docs/page.md anew, in Chromium
	$(BIN)/python tools/screenshots.py

# The variable silences a notice of the theme's makers about a successor.
docs: $(VENV)/test$(JAVA) ## build the site from docs/ into site/, to be opened as site/index.html; needs Python 3.10 or newer
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo site/index.html

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean: ## remove everything that the targets made
	rm -rf .venv* build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		benchmarks/.venvs benchmarks/.work mms_handler/*.so

$(VENV)/bin/pip:
ifeq ($(PYTHON),)
	@echo "no Python 3.8 to 3.11 found (mxnet 1.9.1 runs on no newer one); to get one: apt-get" \
	"install python3.11 python3.11-venv, or pyenv install 3.11, or uv python install 3.11" >&2; exit 1
endif
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "$(PYTHON) cannot make a virtual environment; apt-get install $$(basename $(PYTHON))-venv" >&2; exit 1; }

# Each set of extras has a stamp, so it is installed again only when setup.py, a lock file or
# the compiled core changes.
# Everything comes from the extras' files in requirements/ and is checked against the hashes there.
# pip has no hash for an editable install, so the package itself follows, without dependencies.
# setuptools warns that it imports from this folder, which is the purpose.
$(VENV)/%: setup.py $(wildcard core/* requirements/*.txt) | $(VENV)/bin/pip
	@echo "installing mms_handler[$*] and what it needs into $(VENV)"
	@$(PIP) --require-hashes -r requirements/build.txt
	@$(PIP) --require-hashes --no-build-isolation $(patsubst %,-r requirements/%.txt,$(subst $(comma), ,$*))
	@PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --no-deps -e .
	@touch $@
