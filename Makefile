# Everything a newcomer types. "make help" says what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint format types contracts pytest coverage mutate soak lock setup setup-dev clean

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST_ARGS ?=
DEMO_ARGS ?=
LOCK_ARGS ?=
MUTATE_ARGS ?=

help: ## show this list
	@echo "usage: make TARGET [PYTHON=/path/to/python3]"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'

demo: $(VENV)/.run ## set up and run a whole plant day, end to end (DEMO_ARGS="--serve")
	@$(BIN)/ems demo $(DEMO_ARGS)

test: check pytest ## set up, then linter, types, import contracts and all tests (PYTEST_ARGS="-n 2 -k gate")

check: lint types contracts ## linter, formatter, types and import contracts, without tests

lint: $(VENV)/.dev ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.dev ## let ruff format the code and repair what it safely can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(VENV)/.dev ## mypy, strict
	@$(BIN)/mypy

contracts: $(VENV)/.dev ## who may import whom
	@$(BIN)/lint-imports --no-logo

# Without PYTEST_ARGS: what only computes, two at a time; then what keeps real time and mostly waits, three at a
# time: one of them has the demo to wait for.
TIMED := tests/e2e tests/contract $(wildcard tests/scenarios/test_2[5-9]_*.py)

pytest: $(VENV)/.dev ## the tests alone
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(BIN)/pytest -n 2 --dist loadscope $(TIMED:%=--ignore=%)
	@$(BIN)/pytest -n 3 --dist loadscope $(TIMED)
else
	@$(BIN)/pytest $(PYTEST_ARGS)
endif

# Who may command, the plan check and the gate before the wire: the quick tests that are about them, and every
# branch taken. The random ones among them are left to "make test": no branch hangs on luck.
AUTHORITY_TESTS := $(addprefix tests/unit/dispatch/test_,capability.py control.py control_limits.py control_modes.py \
	control_stops.py authority_gate.py authority_edges.py authority_layers.py commands_edges.py \
	contention.py desk_edges.py desk_limits_edges.py desk_rights.py droop.py effect.py effect_edges.py \
	gate_edges.py last_line.py last_line_edges.py layers_edges.py leases.py limits_edges.py modes_edges.py \
	plan_check.py plan_check_edges.py plan_moves.py plan_moves_edges.py reactive_effect.py rounding.py \
	ruling_edges.py safe_stop.py stage_edges.py standing.py turn.py write_budget.py write_outcomes.py writing_edges.py) \
	tests/scenarios/test_67_select_before_operate.py
RANDOM := hostile or intersect_a or skipped_authority or never_exceeds

coverage: $(VENV)/.dev ## every branch of authority, plan check and the gate before the wire is taken, or it fails
	@mkdir -p build
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q -n 2 --dist loadscope -k "not ($(RANDOM))" $(AUTHORITY_TESTS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

mutate: $(VENV)/.dev ## plant faults in authority and plan check: which does no test find (MUTATE_ARGS="--list")
	@nice -n 15 $(BIN)/python tools/mutate.py $(MUTATE_ARGS)

soak: $(VENV)/.dev ## long random runs (marked "soak"), which "make test" leaves out
	@$(BIN)/pytest -m soak --timeout=0 $(PYTEST_ARGS)

setup: $(VENV)/.run ## set up .venv with what running needs
setup-dev: $(VENV)/.dev ## set up .venv with the tools as well

lock: ## write both lock files anew (LOCK_ARGS="--upgrade" moves the pins)
	@python=$$(PYTHON='$(PYTHON)' tools/find-python) && tools/lock "$$python" $(LOCK_ARGS)

clean: ## remove .venv and everything that was built or cached
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made once and renewed when a lock or pyproject.toml changes. A half-made one has no stamp.
$(VENV)/.run: requirements.lock pyproject.toml tools/find-python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python=$$(PYTHON='$(PYTHON)' tools/find-python) || exit 1; \
		echo "Making $(VENV) with $$python"; \
		"$$python" -m venv --clear $(VENV); }
	@echo "Installing the locked packages into $(VENV) (about 200 MB; a minute on a first run)"
	@$(PIP) install -qq --require-hashes -r requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "Installing the locked tools into $(VENV)"
	@$(PIP) install -qq --require-hashes -r requirements-dev.lock
	@touch $@
