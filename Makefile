# Slow tests whose verdict hangs on no time, two at a time; those that measure have the machine to themselves.
SIDE_BY_SIDE := $(addprefix tests/test_,$(addsuffix .py,bad_input benchmarks_cascade benchmarks_export bilingual cache \
	ci_compress distill ecosystem evaluate_tasks export_data export_run loop mlm page pipeline plan processes \
	report_page rows vocabulary_training))
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_INSTALLED := $(VENV)/.demo-installed
DEV_INSTALLED := $(VENV)/.dev-installed
# The lock names torch 2.13.0; on a machine whose index offers CUDA builds first, set PIP_INDEX_URL to PyTorch's CPU index.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -c requirements.lock

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_INSTALLED) ## teacher to gated, packaged student, in a few minutes (ARGS=--force after a changed recipe)
	@$(BIN)/understudy run recipes/demo.yaml $(ARGS)

serve: demo ## serve the demo's student and teacher on http://127.0.0.1:3000
	@$(BIN)/understudy serve out/demo/bundles/student out/demo/bundles/teacher --default student/int8 --config out/demo/calibration/service.yaml

test: $(DEV_INSTALLED) ## the fast suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --durations=15

test-slow: $(DEV_INSTALLED) ## what needs minutes: the whole pipeline, killed and resumed, and the real service
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not long" -n 2 --dist loadfile --durations=15 $(SIDE_BY_SIDE)
	@$(BIN)/python -m pytest -m "slow and not long" --durations=15 $(SIDE_BY_SIDE:%=--ignore=%)

test-long: $(DEV_INSTALLED) ## more cases of the same, some minutes; CI leaves them out
	@$(BIN)/python -m pytest -m long

check: $(DEV_INSTALLED) ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

results: $(DEMO_INSTALLED) ## CLINC150 from teacher to gate (CLINC150=DIR), results into docs/results/ and README.md
	@$(BIN)/understudy run recipes/clinc150.yaml data.source.directory=$(or $(CLINC150),data/clinc150_oos)
	@$(BIN)/understudy report out/clinc150/report --publish docs/results/clinc150 --readme README.md

docs: $(DEMO_INSTALLED) ## write docs/recipes.md anew, from the program
	@$(BIN)/python -m pipeline.reference > docs/recipes.md

lock: ## write requirements.lock anew, from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/^torch==\(.*\)+cpu$$/torch==\1/' > requirements.lock

clean: ## remove what was made (out/), keep .venv
	rm -rf out

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(DEMO_INSTALLED): $(BIN)/python pyproject.toml requirements.lock
	@echo "installing the locked dependencies into $(VENV) (about two minutes, once)"
	@$(PIP) -e '.[demo]'
	@touch $@

$(DEV_INSTALLED): $(BIN)/python pyproject.toml requirements.lock
	@echo "installing the locked dependencies into $(VENV) (about two minutes, once)"
	@$(PIP) -e '.[dev]'
	@touch $@

.PHONY: help demo serve test test-slow test-long check results docs lock clean
