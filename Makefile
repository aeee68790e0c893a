# `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
PROCESSES ?= 8
new_enough = $(shell case "$$($(1) --version 2>&1)" in ("Python 3.1"[1-9]*|"Python 3."[2-9][0-9]*) echo yes;; esac)
found = $(or $(shell $(PYTHON) --version 2>/dev/null | head -n 1),not there)
TOO_OLD = Embarq needs Python 3.11 or newer, but $(PYTHON) is $(found): name another, as in \
make PYTHON=python3.12 $(or $(MAKECMDGOALS),run)
LOCK := --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.PHONY: FORCE run test coverage test-fast test-install check chaos soak bench bench-quick bench-growth bench-history lock clean

run: .venv/ready
	@$(BIN)/embarq dev

# Tests start hundreds of processes, and each one would compile all modules anew.
test coverage test-fast test-install: export PYTHONDONTWRITEBYTECODE :=

# Those that measure time have the machine for themselves. Of the others, most wait most of their time.
test: .venv/ready
	@$(BIN)/pytest -q -m alone
	@$(BIN)/pytest -q -m "not alone" -n $(PROCESSES) --dist loadgroup

# What needs neither servers nor processes: in half a minute.
test-fast: .venv/ready
	@$(BIN)/pytest -q -m "fast and not alone"

# Which share of the lines those reach; it must not fall.
coverage: .venv/ready
	@$(BIN)/pytest -q -m "fast and not alone" -n 2 --cov --cov-report=term

# What needs fresh environments: a clone, the wheel in an empty one. Packages come from PyPI, or from pip's cache.
test-install: .venv/ready
	@$(BIN)/pytest -q --timeout=600 tests/install

check: .venv/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

chaos: .venv/ready
	@CHAOS_JOBS=20000 CHAOS_WORKFLOWS=500 CHAOS_SECONDS=90 CHAOS_RESTARTS=3 CHAOS_SCHEDULES=200 CHAOS_TRANSACTIONS=10000 \
		CHAOS_SCHEDULE_SECONDS=60 CHAOS_SCALE=5 CHAOS_INNOCENT_SECONDS=70 CHAOS_INNOCENT_LEASE=15 CHAOS_INNOCENT_WITHIN=600 \
		HOSTILE_CASES=50000 PLANNER_CASES=100000 $(BIN)/pytest -q tests/chaos tests/hostile tests/worker/runtime/test_planner_search.py \
		tests/flow/test_schedules_over_processes.py tests/flow/test_outbox.py tests/flow/test_isolation.py

soak: .venv/ready
	@$(BIN)/python -m benchmarks.soak

bench: .venv/ready
	@$(BIN)/python -m benchmarks

bench-quick: .venv/ready
	@$(BIN)/python -m benchmarks --quick

bench-growth: .venv/ready
	@$(BIN)/python -m benchmarks --growth

bench-history: .venv/ready
	@$(BIN)/python -m benchmarks --history

# Also where its Python is gone, or too old.
.venv/ready: requirements-dev.txt pyproject.toml $(if $(call new_enough,$(BIN)/python),,FORCE)
	$(if $(call new_enough,$(BIN)/python)$(call new_enough,$(PYTHON)),,$(error $(TOO_OLD)))
	@test -n "$(call new_enough,$(BIN)/python)" || $(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What runs in production, and what development and tests need beside it, in the same versions.
lock:
	uv pip compile $(LOCK) --group platform pyproject.toml -o requirements.txt
	uv pip compile $(LOCK) --group platform --extra dev --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv build *.egg-info
