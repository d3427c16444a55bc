# Every target makes the environment it needs; only Python >= 3.10 has to be there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

empty :=
comma := ,
space := $(empty) $(empty)

# The drivers follow the servers that the tests are told to use.
extras := test
extras += $(if $(filter postgres%,$(DATABASE_URL)),postgresql)
extras += $(if $(filter mysql%,$(DATABASE_URL)),mysql)
extras += $(if $(REDIS_URL),redis)

PORT ?= 8000
demo_extras := demo $(filter-out test,$(extras))
demo_extras += $(if $(filter redis%,$(CELERY_BROKER_URL)),redis)

metadata := setup.py pyproject.toml django_celery_monitor/__init__.py
created := $(VENV)/.created
tools := $(VENV)/.installed-dev
tests := $(VENV)/.installed-$(subst $(space),-,$(strip $(extras)))
browser := $(VENV)/.installed-browser
demo := $(VENV)/.installed-$(subst $(space),-,$(strip $(demo_extras)))
html = find django_celery_monitor example -name '*.html' -print0 | xargs -0 -r

# Where no bytecode is kept, each of the processes that the tests start compiles all anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help test browser screenshots bench demo lint format types docs messages package clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(created):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, $(PYTHON) is" \
			"$$($(PYTHON) -V 2>&1 || true): try make PYTHON=python3.13" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(tests): $(created) $(metadata)
	$(BIN)/python -m pip install -q -e '.[$(subst $(space),$(comma),$(strip $(extras)))]'
	@touch $@

$(demo): $(created) $(metadata)
	$(BIN)/python -m pip install -q -e '.[$(subst $(space),$(comma),$(strip $(demo_extras)))]'
	@touch $@

$(tools): $(created) $(metadata)
	$(BIN)/python -m pip install -q -e '.[test,browser,docs,dev]'
	@touch $@

$(browser): $(created) $(metadata)
	$(BIN)/python -m pip install -q -e '.[test,browser]'
	@touch $@

# Half of the time goes to waiting for processes, which can be done side by side. The
# tests in a browser have a target of their own, and wait as much.
test: $(tests)  ## Run the tests; DATABASE_URL, REDIS_URL and AMQP_URL add servers
	$(BIN)/python -m pytest -n 4 --dist worksteal --ignore=tests/browser $(ARGS)

browser: $(browser)  ## Run the tests that look at the pages in Chromium
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/browser $(ARGS)

screenshots: $(browser)  ## Take the pictures of the documentation anew
	$(BIN)/python -m tests.browser.screenshots docs/screenshots

bench: $(tests)  ## Measure rows and events a second and pages, against references
	$(BIN)/python -m benchmarks.rows $(ARGS)
	$(BIN)/python -m benchmarks.lists
	$(if $(REDIS_URL),$(BIN)/python -m benchmarks.intake --broker $(REDIS_URL) $(ARGS))
	$(if $(AMQP_URL),$(BIN)/python -m benchmarks.intake --broker $(AMQP_URL) $(ARGS))

demo: $(demo)  ## Run the example project until Ctrl-C; PORT=8123 moves it
	$(BIN)/python example/manage.py demo --port $(PORT)

lint: $(tools)  ## Check the style of code and templates
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(html) $(BIN)/djade --check --target-version 5.2

format: $(tools)  ## Put code and templates in style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(html) $(BIN)/djade --target-version 5.2

types: $(tools)  ## Check the types
	$(BIN)/mypy

docs: $(tools)  ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# Without places in the code and without wrapping, only what changed shows in a diff.
messages: $(tests)  ## Bring the translations up to date; LOCALE=fr begins a new one
	@for tool in xgettext msgmerge msgfmt; do command -v $$tool >/dev/null || { \
		echo "GNU gettext is needed, $$tool is missing (Debian: apt install gettext," \
			"macOS: brew install gettext)" >&2; exit 1; }; done
	cd django_celery_monitor && $(abspath $(BIN))/django-admin makemessages \
		$(if $(LOCALE),-l $(LOCALE),--all) --no-location --no-obsolete --no-wrap
	cd django_celery_monitor && $(abspath $(BIN))/django-admin compilemessages

# The wheel is tried alone, away from the checkout: it must hold every file of the
# package, and a project must migrate with nothing else installed.
package: $(tools)  ## Build sdist and wheel into dist/ and try them
	rm -rf build dist
	$(BIN)/check-manifest
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/env
	build/env/bin/python -m pip install -q dist/*.whl
	diff -r -x __pycache__ django_celery_monitor \
		build/env/lib/python*/site-packages/django_celery_monitor
	mkdir -p build/site/tests
	cp tests/__init__.py tests/celery.py tests/databases.py tests/settings.py \
		tests/urls.py build/site/tests
	cp -r tests/tracked build/site/tests
	cd build/site && DATABASE_URL=sqlite:///site.sqlite3 \
		DJANGO_SETTINGS_MODULE=tests.settings sh -c '\
		../env/bin/python -m django migrate -v 0 && \
		../env/bin/python -m django check --fail-level WARNING && \
		../env/bin/python -m django makemigrations --check'

clean:  ## Remove what the other targets made
	rm -rf $(VENV) build dist docs/_build example/var htmlcov *.egg-info .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .tox
