# Everything runs in .venv, made here with python3 (another one: make PYTHON=python3.12 …), of the versions that
# constraints.txt names (others: make CONSTRAINTS=oldest.txt …, a file that tools/oldest.py prints).
PYTHON ?= python3
ARGS   ?=
CONSTRAINTS ?= constraints.txt
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c $(CONSTRAINTS)
CONFIG := setup.py settings.ini $(CONSTRAINTS)

.PHONY: help compare test test-browser soak fuzz audit mutate notebooks style readme docs docs-serve lab app experiments bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

compare: $(VENV)/installed ## compare three models on the digits; options of the command: make compare ARGS="--seed 1"
	$(BIN)/mnist_cmp --models mlp,cnn,deep_mlp --seeds 5 $(ARGS)

test: $(VENV)/installed-dev ## run all tests but those in a browser; some: ARGS="-k ledger"
	$(BIN)/python -m pytest -n auto --dist worksteal -q -rsfE --durations 20 $(ARGS)

test-browser: $(VENV)/installed-dev ## run the notebooks, panel, pad, chime, app and site in a real browser; some: ARGS="-k 'chime or pad'"
	$(BIN)/python -m pytest tests/browser -m browser -n auto --dist worksteal -q -rsfE --durations 20 $(ARGS)

soak: $(VENV)/installed-dev ## kill runs, fail their file calls, cut the power, damage files, run for long (hours); a part: make soak ARGS="-k test_faults --sample 500"
	$(BIN)/python -m pytest tests/soak tests/test_faults.py tests/test_dask_waits.py -m "slow or soak" -v -s --timeout 0 \
	  --kills 100 --sample all --examples 1000 --mutations 100000 $(ARGS)

fuzz: $(VENV)/installed-dev ## odd arguments and damaged files; some: make fuzz ARGS="-k damaged --mutations 1000000 --seed 1"
	$(BIN)/python -m pytest tests/soak/test_oddities.py -n auto --dist worksteal -q -rsfE --examples 1000 --mutations 100000 $(ARGS)

mutate: $(VENV)/installed-dev ## break functions on purpose and count which tests notice (hours); some: ARGS="--sample 5"
	$(BIN)/python tools/mutate.py $(ARGS)

audit: $(VENV)/installed ## ask PyPI for known vulnerabilities of what is installed in .venv (needs the network)
	$(PIP) pip-audit
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > $(VENV)/audit.txt   # PyPI's versions have no +cpu
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(VENV)/audit.txt || { echo "make audit:" \
	  "a vulnerability was found, or PyPI could not be asked about each package (offline?): see above."; exit 1; }

notebooks: $(VENV)/installed-dev ## export the modules, then refresh all outputs, or those of ARGS=nbs/01_data.ipynb
	$(BIN)/nbdev_export
	$(BIN)/python tools/execute.py $(ARGS)
	$(BIN)/nbdev_clean

style: $(VENV)/installed-dev ## put notebooks and files into the form that ruff.toml asks for, and export
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbdev_export

readme: $(VENV)/installed-dev ## make README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

docs: $(VENV)/installed-dev ## build the site in _docs, with Quarto where it is installed, else with Sphinx
	$(BIN)/python tools/site/build.py $(ARGS)
	$(BIN)/python -m pytest tests/browser/test_site.py -q --site _docs

docs-serve: docs ## build the site and show it at http://127.0.0.1:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _docs

lab: $(VENV)/installed-dev ## open the notebooks in JupyterLab, on this machine only and with a token
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=nbs $(ARGS)

app: $(VENV)/installed-dev ## serve panel and pad as an app, on this machine only and with a token
	cd nbs && JUPYTER_PATH=share ../$(BIN)/voila app.ipynb --Voila.auto_token=True $(ARGS)

experiments: $(VENV)/installed-dev ## run the experiments behind the tutorials again (hours); one: ARGS=digits
	$(BIN)/python tools/experiments.py $(ARGS)

bench: $(VENV)/installed-dev ## measure speed beside other libraries, ledger, search and coverage (two hours, on an idle machine)
	$(PIP) --editable '.[dev,bench]'
	$(BIN)/python benchmarks/speed.py --threads 2 $(ARGS)
	$(BIN)/python benchmarks/speed.py --threads 1 --parts jobs scoring $(ARGS)
	$(BIN)/python benchmarks/studies.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/coverage_metrics.py
	$(BIN)/python benchmarks/looks.py
	$(BIN)/python benchmarks/judge.py
	$(BIN)/python benchmarks/gpu.py

clean: ## remove .venv and all that was built; runs/ stays
	rm -rf $(VENV) build dist *.egg-info _proc _docs nbs/nbdev.yml
	find mnist_cmp nbs tools \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mnist_cmp needs Python 3.11 or newer;" \
	  "this is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(CONFIG) | $(BIN)/pip
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(CONFIG) | $(BIN)/pip
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed
