# setup | demo | run | check | test | outages | matrix | faults | figures | containers | bench | floods | fuzz : see README.md
SHELL := /bin/bash
PYTHON ?= $(shell for p in /usr/bin/python3.11 /usr/bin/python3 python3; do $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
TEST_STAMP := $(VENV)/.ready-test
BENCH_STAMP := $(VENV)/.ready-bench

.PHONY: setup demo run check test outages matrix faults figures containers bench floods fuzz clean

setup: $(STAMP)

$(PY):
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found: install python3 and python3-venv"; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[fast]'
	@touch $@

$(TEST_STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[fast,test]'
	@touch $@ $(STAMP)

$(BENCH_STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[fast,test,bench]'
	@touch $@ $(STAMP) $(TEST_STAMP)

demo: $(STAMP)
	@$(PY) -m tests.demo

run: $(STAMP)
	@$(PY) -m tests.demo --stay

check: $(TEST_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/sofia-node check --conf conf

test: $(TEST_STAMP)
	@bash tests/support/install.sh
	@$(MAKE) --no-print-directory check
	$(PY) -m pytest $(ARGS)

# Each store taken away for a minute in every way, under load.
outages: $(TEST_STAMP)
	@bash tests/support/install.sh
	SOFIA_OUTAGE_SECONDS=60 SOFIA_OUTAGE_REGISTERS=200 SOFIA_OUTAGE_CALLS=20 $(PY) -m pytest tests/outages -s $(ARGS)

# Every cell of the matrix of failovers; every fault, the long ones too, and fifty histories of real nodes.
matrix: $(TEST_STAMP)
	@bash tests/support/install.sh
	SOFIA_MATRIX=whole $(PY) -m pytest tests/failover/test_matrix.py $(ARGS)

faults: $(TEST_STAMP)
	@bash tests/support/install.sh
	SOFIA_FAULTS=whole $(PY) -m pytest tests/failover --timeout 1800 $(ARGS)

# The promised figures of failovers, each over thirty runs, beside FreeSWITCH's; SOFIA_FIGURES says how many.
figures: $(TEST_STAMP)
	@bash tests/support/install.sh
	$(PY) -m pytest -s -q -m measured tests/failover/test_figures.py $(ARGS)

# The shipped image and stores in containers, the long part too.
containers: $(TEST_STAMP)
	@bash tests/support/install.sh
	@bash tests/support/install.sh containers
	$(PY) -m pytest -s -m 'long or not long' tests/containers $(ARGS)

# A pair led by Pacemaker and Corosync, in namespaces; needs root.
cluster: $(TEST_STAMP)
	@bash tests/support/install.sh cluster
	$(PY) -m pytest -s -q -m long tests/failover/test_pacemaker.py $(ARGS)

bench: $(BENCH_STAMP)
	@bash tests/support/install.sh
	@bash tests/support/install.sh bench || echo "bench: measuring without the peers that are missing"
	$(PY) -m tests.bench $(ARGS)

floods: $(TEST_STAMP)
	@bash tests/support/install.sh
	SOFIA_FLOOD_SECONDS=20 SOFIA_OVERLOAD_SECONDS=20 $(PY) -m pytest -s -q -m 'measured or not measured' --timeout 1800 tests/scenarios/test_floods.py tests/scenarios/test_overload.py $(ARGS)

fuzz: $(TEST_STAMP)
	$(PY) -m tests.fuzz $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
