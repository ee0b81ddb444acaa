# make demo   installs what running needs into .venv, and renders a packaged scene on the CPU
# make test   installs the development tools as well, and runs the tests
# make check  format, lint, types, tests: what CI runs
# make check-browser  the tests that drive a browser; they need Chromium (Debian: apt-get install chromium)
# make bench  figures of speed
# make faults commands killed and stopped at random moments, and disks that are full at every write
# make flat   memory of ten times the work against that of a tenth
# make docs   builds the documentation site into out/site, without a network; warnings are errors
# make fuzz   20 000 damaged files for every reader, in about ten minutes

PYTHON ?= python3.11
BIN := .venv/bin
# One thread a test process: with more, the processes of pytest-xdist fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

INSTALL = $(PYTHON) -m venv .venv && $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: install demo test check check-browser format bench faults flat fuzz docs

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(INSTALL) ".[dev]"
	touch .venv/demo $@

# The packages that running needs, and no more; the development install counts as one.
.venv/demo: pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

demo: .venv/demo
	$(BIN)/mvguide demo --out out/demo

test: install
	$(PYTEST)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

check-browser: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m browser

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	# A process for each: what one leaves in memory must not slow the next.
	for name in search warp loop preview post batch workers; do $(BIN)/python -m tools.bench $$name --out out/bench_$$name.json || exit 1; done

fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.fuzz --cases 20000

faults: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.faults
	$(PYTEST) -m "faults or not faults" tests/commands/test_faults.py tests/commands/test_resume.py tests/files

flat: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.flat

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f tools/site/mkdocs.yml
