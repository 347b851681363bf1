# Every command prepares what it needs by itself: `make run` and `make test` each work alone from a fresh clone.
# An active virtual environment is used; without one, `.venv` is made.

VENV := $(if $(wildcard $(VIRTUAL_ENV)/pyvenv.cfg),$(VIRTUAL_ENV),.venv)
PYTHON := $(VENV)/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint bench lock format messages imagecheck e2e coverage mutation

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: ## Try it: dashboard, worker, a sample Moodle and a local SES in this terminal
	@tools/bootstrap run $(VENV)
	@$(PYTHON) manage.py quickstart $(ARGS)

test: lint ## Everything that is checked: lint, then every test, on a private MariaDB and in headless Chromium
	@$(PYTHON) -m pytest -n auto $(if $(ARGS),$(ARGS),--cov --cov-report=)

lint: ## Style, types, layering, migrations, the settings reference and the lock files
	@tools/bootstrap dev $(VENV)
	@tools/lint $(VENV)

format: ## Rewrite the code as `make lint` wants it
	@tools/bootstrap dev $(VENV)
	@$(PYTHON) -m ruff check --fix --quiet .
	@$(PYTHON) -m ruff format .

bench: ## Measure the figures of the README on this machine; ARGS=… goes to `manage.py bench`
	@tools/bootstrap dev $(VENV)
	@$(PYTHON) manage.py bench $(ARGS)

lock: ## Write the lock files anew; ARGS=--upgrade takes the newest allowed versions
	@tools/bootstrap dev $(VENV)
	@tools/lock $(VENV) $(ARGS)

messages: ## Bring the translations up to date with the sources; ARGS=fr begins another language
	@tools/bootstrap dev $(VENV)
	@tools/messages $(VENV) $(ARGS)

imagecheck: ## Build the image's steps in a bare Debian and start web and worker from it, without Docker; needs root
	@python3 -B tools/imagecheck.py $(ARGS)

e2e: ## From an empty Debian: `make run`, `make test` with a few tests, the way of docs/install.md on MariaDB; needs root
	@python3 -B tools/e2e.py $(ARGS)

coverage: ## Every test, all of them traced: the branches of every part of the product, and what no test takes in htmlcov/
	@tools/bootstrap dev $(VENV)
	@$(PYTHON) -m pytest -n auto --cov=emailoffload --cov-report=html $(ARGS)

mutation: ## Do the tests notice small mistakes in what claims and moves? Half an hour; ARGS=… goes to tools/mutation.py
	@tools/bootstrap dev $(VENV)
	@$(PYTHON) tools/mutation.py $(ARGS)
