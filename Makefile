# Everything sets up what it needs in .venv; Python 3.11 or newer and make are all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
CIFAR10 ?= $(DATA)

.PHONY: demo serve test fuzz lint results docs clean

demo: $(VENV)/.installed  ## Run the first recipe and say where its report lies
	$(BIN)/ddm run recipes/digits_convnet.yaml

serve: demo $(VENV)/.installed-app  ## The same run in the browser: what if some of its training data were gone?
	$(BIN)/ddm serve runs/digits_convnet

# Two threads that share a core with two more wait for one another, so each test process has one.
test: $(VENV)/.installed-test  ## Run the test suite, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

fuzz: $(VENV)/.installed-test  ## Ten times as many broken and hostile inputs as the test suite tries
	DDM_FUZZ=10 $(BIN)/python -m pytest tests/robustness $(ARGS)

lint: $(VENV)/.installed-lint  ## Format, style, types, and that the core imports no plugin
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

results: $(VENV)/.installed-test  ## Measure everything that README.md and docs/ state (some hours; wants a quiet machine)
	mkdir -p runs/results
	$(BIN)/ddm run recipes/digits_convnet.yaml --out runs/results/digits_convnet --fresh --json \
	  > benchmarks/results/digits_convnet.json
	$(BIN)/ddm run recipes/mnist_quick.yaml --set dataset.root=$(DATA) --out runs/results/mnist_quick --fresh --json \
	  > benchmarks/results/mnist_quick.json
	$(BIN)/python benchmarks/fidelity.py fidelity_digits
	$(BIN)/python benchmarks/fidelity.py fidelity_digits_rivals
	$(BIN)/python benchmarks/fidelity.py fidelity_mnist $(DATA) --seeds 0
	$(BIN)/python benchmarks/fidelity.py fidelity_mnist_rivals $(DATA) --seeds 0
	$(BIN)/python benchmarks/fidelity.py fidelity_cifar10 $(CIFAR10) --seeds 0
	$(BIN)/python benchmarks/steps.py $(DATA) $(CIFAR10)
	$(BIN)/python benchmarks/dial.py
	$(BIN)/python benchmarks/corrected.py
	$(BIN)/python benchmarks/members.py
	$(BIN)/python benchmarks/queries.py
	$(BIN)/python benchmarks/five_networks.py
	$(BIN)/python benchmarks/costs.py $(DATA)
	$(BIN)/python benchmarks/peers.py $(DATA)
	$(BIN)/python benchmarks/bank.py
	$(BIN)/python benchmarks/memory.py > benchmarks/results/memory.json
	$(BIN)/python benchmarks/memory.py --clusters $(DATA)
	$(BIN)/python benchmarks/matching.py $(DATA) $(CIFAR10)
	$(BIN)/python benchmarks/own_network.py
	$(BIN)/python benchmarks/backbones.py $(CIFAR10)
	DDM_TEST_DATA=$(DATA) $(BIN)/python benchmarks/audit.py digits mnist
	$(BIN)/python benchmarks/members.py
	$(BIN)/python benchmarks/queries.py
	$(BIN)/python benchmarks/readme.py
	$(BIN)/python benchmarks/figure.py

docs: $(VENV)/.installed  ## Write the references in docs/ from the code
	$(BIN)/python docs/reference.py

# Entry points are frozen at install, so a changed pyproject.toml means a new installation.
$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:  ## Remove the environment and everything built; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
