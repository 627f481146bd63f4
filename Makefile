# Two commands: `make book` makes the site, `make test` runs the checks. `make help` lists all.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test results bench stress site serve clean

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

book: $(VENV)/.book  ## install, get the data, run the chapters that have changed, build the site
	@$(RUN) -m data_prep ml-100k
	@$(RUN) tools/build_book.py

test: book $(VENV)/.test  ## run the checks: style, types, unit, equation, site and notebook tests
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	DUET_PROGRESS=0 $(RUN) -m pytest -q --nbval-lax --nbval-current-env tests book

results: $(VENV)/.book  ## make the records of the full runs that are missing (more than a day of one core)
	$(RUN) -m duetlib.evidence.experiments --dataset ml-100k
	$(RUN) tools/measure_beyond.py
	$(RUN) -m duetlib.evidence.experiments --dataset faces
	$(RUN) -m duetlib.evidence.experiments --dataset ml-1m

bench: $(VENV)/.book  ## time the speed-critical parts of library, cloud and device (a quarter of an hour)
	$(RUN) tools/bench.py
	$(RUN) tools/bench_vision.py
	$(RUN) tools/bench_cloud.py

stress: $(VENV)/.test  ## run the long tests: soak, fuzz, all cells twice (20 minutes; last green 2026-12-01)
	$(RUN) -m pytest -q -m stress tests

serve: $(VENV)/.book  ## start the cloud of chapter 10 on http://127.0.0.1:8765 (trains its model the first time)
	$(RUN) -m duetlib.serving.export
	$(RUN) -m duetlib.serving.cloud

site: $(VENV)/.book  ## show the built site on http://127.0.0.1:8000
	@test -f _build/html/index.html || { echo "There is no site yet: run \`make book\` first." >&2; exit 1; }
	$(RUN) -m http.server --directory _build/html --bind 127.0.0.1 8000

clean:  ## remove what was built; the data, and what is installed in .venv, stay
	rm -rf _build .mypy_cache .pytest_cache .ruff_cache

# A stamp says that a step of the installation is done: pip is called again only when
# pyproject.toml or constraints.txt has changed.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one: make book PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, and $(PYTHON) is {v}. Name another: make book PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.book: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing the package and what builds the book (once, some minutes) ..."
	$(PIP) --editable '.[book,cloud]'
	$(PIP) --no-deps django-static-mathjax  # for its copy of MathJax: Django itself is not needed
	@touch $@

$(VENV)/.test: $(VENV)/.book
	@echo "Installing what the checks need (once) ..."
	$(PIP) --editable '.[book,cloud,test]'
	@touch $@
