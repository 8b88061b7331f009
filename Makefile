# Everything needs only make and a Python 3.11 or later; uv is used when it is there. The second time is quick.

VENV := .venv
PYTHON := $(VENV)/bin/python

# Without their bytecode, programs that tests start would be compiled again each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run demo test test-fast lint format docs bench lock dist changelog clean

help:
	@echo "make run        serve Files/ on http://127.0.0.1:8000"
	@echo "make demo       the tour on real data: cut, paused, killed, resumed, and nothing lost"
	@echo "make test       every test, with coverage, on this Python; the fast ones on each later Python found"
	@echo "make test-fast  the tests that take less than a quarter of a second each"
	@echo "make lint       ruff, ruff format, mypy --strict, import rules"
	@echo "make docs       the documentation as a site, in build/site"
	@echo "make bench      the benchmarks, with their peers in the same run (BENCH=--quick for a glance)"
	@echo "make lock       write .ci/versions.txt anew: the newest versions of all that development and CI install"
	@echo "make dist       wheel and sdist in dist/, checked and tried in an empty environment"
	@echo "make changelog  build CHANGELOG.md from the fragments in changelog.d/"
	@echo "make clean      remove what these make, but for Files/ and .holdfast/"

run: $(VENV)/.has-demo
	exec $(PYTHON) -P -m tornado_app

demo: $(VENV)/.has-demo
	$(PYTHON) -P -m holdfast_examples.tour

test: $(VENV)/.has-dev
	.ci/test

test-fast: $(VENV)/.has-dev
	.ci/test-fast $(PYTHON)

lint: $(VENV)/.has-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.has-dev
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

docs: $(VENV)/.has-docs
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

bench: $(VENV)/.has-bench
	for figures in $$(grep -l 'main(__name__' benchmarks/*.py | sed 's,.*/\(.*\)\.py,\1,'); do \
		$(PYTHON) -m benchmarks.$$figures $(BENCH) || exit 1; done

lock:
	.ci/lock

dist: $(VENV)/.has-dev
	.ci/dist

changelog: $(VENV)/.has-dev
	$(PYTHON) -m towncrier build --yes --version "$$($(PYTHON) -c 'import holdfast; print(holdfast.__version__)')"

clean:
	rm -rf .venv .venv-* build dist *.egg-info sdk/*.egg-info .coverage .coverage.* \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.has-%: setup.py .ci/environment .ci/versions.txt
	@.ci/environment $(VENV) $*
