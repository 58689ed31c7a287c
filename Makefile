# `make demo` and `make test` set up .venv first; `make` lists all targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-slurm fuzz kills bench results-page lint lock clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         trains on four small embedded categories and writes reports/demo/report.html"
	@echo "make test         runs the tests"
	@echo "make test-slurm   runs a small suite on a one-node Slurm with injected failures; skipped unless root"
	@echo "make fuzz         feeds 10,000 malformed inputs to each reader of untrusted files"
	@echo "make kills        kills a suite at 50 random moments and compares its results with an undisturbed run"
	@echo "make bench        measures the speed-up over a straightforward implementation (MVTEC=<folder> for bottle of MVTec AD)"
	@echo "make results-page stores what is measured and writes the tables of README.md and reports/README.md"
	@echo "make lint         runs ruff, snakefmt and mypy"
	@echo "make lock         updates requirements.lock from the ranges in pyproject.toml"
	@echo "make clean        removes results, resources and reports; keeps .venv"

demo: $(READY)
	@$(BIN)/python -m snakemake --cores all reports/demo/table.md reports/demo/report.html
	@echo
	@echo "The page:   $(CURDIR)/reports/demo/report.html"
	@echo "The table:  $(CURDIR)/reports/demo/table.md"
	@echo "The plots:  $(CURDIR)/reports/demo/*.png (and .svg)"

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

fuzz: $(READY)
	@BGAD_FUZZ=10000 $(BIN)/python -m pytest --numprocesses auto --dist load tests/test_fuzz.py

kills: $(READY)
	@$(BIN)/python benchmarks/kills.py

test-slurm: $(READY)
	@$(BIN)/python tests/slurm/run.py

bench: $(READY)
	@$(BIN)/python benchmarks/bench.py $(if $(MVTEC),--mvtec "$(MVTEC)")

results-page: $(READY)
	@$(BIN)/python -m bgad results-page

lint: $(READY)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m snakefmt --check Snakefile workflow
	@$(BIN)/python -m mypy

# The environment; updated when the lock file or the project's metadata changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: requirements.lock needs Python 3.11 to 3.13, and $(PYTHON) is another version; run make PYTHON=python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies into .venv (2 to 3 minutes, 6 GB, once)"
	@workflow/envs/install.sh $(BIN)/python
	@touch $@

lock:
	@rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	@.lock-venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.lock-venv/bin/uv pip compile --quiet --no-config --universal --fork-strategy fewest --python-version 3.11 \
		--extra dev --extra export pyproject.toml --format pylock.toml --output-file .lock-venv/pylock.toml
	@$(PYTHON) workflow/scripts/lock.py < .lock-venv/pylock.toml > requirements.lock.new
	@mv requirements.lock.new requirements.lock && rm -rf .lock-venv

clean:
	@rm -rf results resources .snakemake && git clean -fdXq reports
