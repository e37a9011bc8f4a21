# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv/bin
EXTRAS ?=
PREBUILT ?=
TORCH_INDEX ?= auto
TESTS ?= not slow and not long and not browser and not gpu
WORKERS ?= 2
PYTEST_ARGS ?=

SETUP = $(PYTHON) scripts/setup.py --torch-index "$(TORCH_INDEX)" \
	$(if $(EXTRAS),--extra "$(EXTRAS)") $(if $(filter-out 0 no,$(PREBUILT)),--prebuilt)

# files of tests go to so many processes at once; a file stays together, since its fixtures are shared
PYTEST = $(VENV)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

SECRETS = $(VENV)/detect-secrets-hook --no-verify
# tests hold made-up keys, and data files hashes: there only what looks like a key of a known service counts
KEYS_ALONE = $(addprefix --disable-plugin ,KeywordDetector BasicAuthDetector Base64HighEntropyString HexHighEntropyString)

.DEFAULT_GOAL := help
.PHONY: help demo install dev test static audit check format docs shots bench lock clean have-python

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  EXTRAS=gptq,cuda   extras to install along      PREBUILT=1      llama.cpp ready-built, no compile"
	@echo "  PYTHON=python3.12  Python to make .venv with    TESTS='slow'    tests to run, by marker"

demo: install ## Install, prepare the embedded models, open the page on http://127.0.0.1:7860
	@$(VENV)/python app.py

install: have-python ## Make .venv and install Madang
	@$(SETUP)

dev: have-python ## The same with what tests and checks need
	@$(SETUP) --extra dev

test: dev ## Run the tests, but for those marked slow, browser or gpu
	@$(PYTEST) -m "$(TESTS)" $(PYTEST_ARGS)

static: dev ## Format, lint, types and the import contract
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports

audit: have-python ## Known faults of the pinned versions, where PyPI can be asked; keys among the files
	@$(SETUP) --extra dev,audit
	@$(VENV)/python scripts/audit.py
	@git ls-files -z -- . ':!tests' ':!*.json' | xargs -0 $(SECRETS)
	@git ls-files -z -- tests '*.json' | xargs -0 $(SECRETS) --exclude-lines 'def test_' $(KEYS_ALONE)

check: static audit ## What CI checks, without the slow tests; audit; and which lines no test runs
	@$(PYTEST) --cov -m "$(TESTS)" $(PYTEST_ARGS)

format: dev ## Write the format that `make check` wants
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

docs: dev ## Write docs/settings.md from playground/settings.py
	@$(VENV)/python scripts/settings_doc.py

shots: dev ## Film the page: twelve flows at three widths, light and dark, into build/shots
	@$(VENV)/python scripts/shots.py

bench: have-python ## Measure speed and memory beside the peers
	@$(SETUP) --extra dev,bench
	@$(VENV)/python -m benchmarks $(ARGS)

lock: dev ## Resolve the dependencies anew: constraints.txt, requirements.txt
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)/python scripts/lock.py

clean: ## Remove .venv and every cache; your models and chats stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

have-python:
	@command -v $(firstword $(PYTHON)) >/dev/null 2>&1 || { \
		echo "error: There is no $(firstword $(PYTHON)) on this machine." >&2; \
		echo "hint: Install Python 3.11, 3.12 or 3.13, then name it: make demo PYTHON=python3.12" >&2; exit 2; }
