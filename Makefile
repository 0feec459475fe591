# Everything from Python 3.11, 3.12 or 3.13 and make. `make help` lists the targets.

# The first of these that runs; PYTHON=... chooses another.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null \
	&& echo $$python && break; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
STUDY ?= studies/quick.toml
# More options for the stages, such as ARGS="--photos DIR --weights DIR".
ARGS ?=
# For `make bench`: names of comparisons that are measured alone (python -m benchmarks --help).
ONLY ?=

# For `make fuzz`: descriptions of models, and damaged files of weights and of images.
TREES ?= 10000
FILES ?= 10000
SEED ?= 0

NOTEBOOKS := $(patsubst %.py,%.ipynb,$(wildcard notebooks/*.py))

.DEFAULT_GOAL := help
.PHONY: help install data train attack evaluate explain score report reproduce readings \
	test test-slow test-torch test-jax known fuzz torture lint hooks notebooks lab docs bench profile bench-revisions bench-gpu bench-ray bench-scanners scale dist lock resolve clean

help:  ## list the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## */\t/' | expand -t 14

# One stamp file for each set of packages, renewed when what it is made from changes.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Error: Expected Python 3.11, 3.12 or 3.13 on the PATH, or" \
		"PYTHON=... Received: none" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@

install: $(VENV)/.installed  ## .venv with gradcam-adv in it

data: $(VENV)/.installed  ## choose, check and split the photos
	$(BIN)/gradcam-adv data $(STUDY) $(ARGS)

train: $(VENV)/.installed  ## ... then train the heads
	$(BIN)/gradcam-adv train $(STUDY) $(ARGS)

attack: $(VENV)/.installed  ## ... then compute the FGSM signs of every test photo
	$(BIN)/gradcam-adv attack $(STUDY) $(ARGS)

evaluate: $(VENV)/.installed  ## ... then accuracy and PSNR at every epsilon
	$(BIN)/gradcam-adv evaluate $(STUDY) $(ARGS)

explain: $(VENV)/.installed  ## ... then the Grad-CAM heatmaps
	$(BIN)/gradcam-adv explain $(STUDY) $(ARGS)

score: $(VENV)/.installed  ## ... then NISSIM, MOD and VID
	$(BIN)/gradcam-adv score $(STUDY) $(ARGS)

report: $(VENV)/.installed  ## ... then the tables and figures
	$(BIN)/gradcam-adv report $(STUDY) $(ARGS)

reproduce: $(VENV)/.installed  ## the whole study (STUDY=studies/quick.toml)
	$(BIN)/gradcam-adv reproduce $(STUDY) $(ARGS)

readings: $(VENV)/.installed  ## the whole study, and the paper read in other ways (long)
	$(BIN)/gradcam-adv readings $(STUDY) $(ARGS)

# In two processes. The tests of a file stay together, since they share fixtures.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: $(VENV)/.installed-test  ## the tests
	$(PYTEST)

# The numeric tests, with Keras on another backend and the import of TensorFlow blocked.
NUMERIC := attacks backends backbones callback classifiers fgsm gradcam graph metrics numbers profiles \
	regions robustness training

# Each test goes to whichever process is free, since one file has nearly all the work.
test-torch: $(VENV)/.installed-torch  ## the numeric tests with Keras on PyTorch
test-jax: $(VENV)/.installed-jax  ## ... and on JAX
test-torch test-jax: $(VENV)/.installed-test
	KERAS_BACKEND=$(@:test-%=%) PYTHONPATH=tests $(PYTEST) --dist load -p without_tensorflow \
		-m "not slow and not tensorflow" $(NUMERIC:%=tests/test_%.py)

test-slow: $(VENV)/.installed-test $(VENV)/.installed-docs $(VENV)/.installed-notebooks $(VENV)/.installed-ray  ## the tests on real networks, on Ray, and of the site
	$(PYTEST) -m slow

known: $(VENV)/.installed-test  ## list Keras' classes again that a model file may name
	$(BIN)/python tests/known_classes.py

fuzz: $(VENV)/.installed-test  ## random and damaged models, weights and images (TREES=10000 FILES=10000 SEED=0)
	$(BIN)/python tests/fuzz/models.py --trees $(TREES) --files $(FILES) --seed $(SEED)
	$(BIN)/python tests/fuzz/images.py --count $(FILES) --seed $(SEED)

torture: $(VENV)/.installed-test  ## kill a study 50 times, resume, compare byte for byte
	$(BIN)/python tests/torture.py --kills 50

lint: $(VENV)/.installed-lint  ## ruff, mypy, and that imports point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

hooks: $(VENV)/.installed-lint $(VENV)/.installed-release  ## lint before every commit
	$(BIN)/pre-commit install

# In an empty environment and outside the tree, so that only what is installed is there.
dist: $(VENV)/.installed-release  ## wheel and sdist, installed into a new environment, and a study of two networks run
	rm -rf dist build/installed
	$(BIN)/python -m build --outdir dist
	mkdir -p build/installed
	$(PYTHON) -m venv build/installed/venv
	build/installed/venv/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cp tests/installed.toml build/installed/study.toml
	cd build/installed && venv/bin/gradcam-adv reproduce study.toml
	build/installed/venv/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.tar.gz
	cd build/installed && venv/bin/gradcam-adv status runs/installed

notebooks: $(NOTEBOOKS)  ## run the notebooks whose .py is newer than the .ipynb

# Cells keep their ids (--update), and no metadata but the language is kept, so a second run changes
# nothing. Notices of TensorFlow's C libraries go to the terminal, not into the outputs. A notebook
# that failed is run again next time.
notebooks/%.ipynb: notebooks/%.py | $(VENV)/.installed-notebooks
	$(BIN)/jupytext --quiet --update --to ipynb $<
	$(BIN)/jupyter-nbconvert --to notebook --inplace --execute $@ \
		--ExecutePreprocessor.extra_arguments=--IPKernelApp.capture_fd_output=False \
		--ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.preserve_nb_metadata_mask \
		"{'kernelspec', ('language_info', 'name')}" || { touch $<; exit 1; }

lab: $(VENV)/.installed-notebooks  ## open the notebooks in JupyterLab
	$(BIN)/jupyter-lab notebooks

docs: $(VENV)/.installed-docs $(VENV)/.installed-notebooks  ## the documentation's site, with the notebooks, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# torch-cam, a peer of the benchmarks. PyTorch and TensorFlow do not share an environment well.
$(VENV)-torch/.installed: benchmarks/torch-constraints.txt
	$(PYTHON) -m venv $(VENV)-torch
	$(VENV)-torch/bin/python -m pip install --quiet --constraint $< --requirement benchmarks/torch.in
	@touch $@

# modelscan and modelaudit, scanners of model files.
$(VENV)-scanners/.installed: benchmarks/scanners-constraints.txt
	$(PYTHON) -m venv $(VENV)-scanners
	$(VENV)-scanners/bin/python -m pip install --quiet --constraint $< --requirement benchmarks/scanners.in
	@touch $@

bench: $(VENV)/.installed-test $(VENV)-torch/.installed  ## measure the ratios of docs/benchmarks.md, or print some (ONLY=nissim)
	$(BIN)/python -m benchmarks $(ONLY)

profile: $(VENV)/.installed  ## where the time of a small study goes, by stage, beside the bound of its passes
	$(BIN)/python -m benchmarks.profiling $(ARGS)

bench-revisions: $(VENV)/.installed  ## a study by an older revision and by this one: seconds, files that differ (ARGS="main studies/quick.toml")
	$(BIN)/python -m benchmarks.revisions $(ARGS)

bench-ray: $(VENV)/.installed-test $(VENV)/.installed-ray  ## one and two Ray workers against this process
	$(BIN)/python -m benchmarks.engines

bench-scanners: $(VENV)/.installed-test $(VENV)-scanners/.installed  ## what we and two scanners say of published attacks (SECURITY.md)
	$(BIN)/python -m benchmarks.scanners

# KERAS_BACKEND=torch measures PyTorch, where that is installed.
bench-gpu: $(VENV)/.installed  ## photos per second on whatever device Keras finds, and a study's time
	$(BIN)/python -m benchmarks.throughput --study $(ARGS)

scale: $(VENV)/.installed  ## what large studies cost (docs/scale.md), by assumptions in ARGS
	$(BIN)/python -m benchmarks.scale $(ARGS)

lock: $(VENV)/.installed-lock  ## resolve setup.cfg's ranges again into constraints.txt
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-emit-options --no-header \
		--extra torch --extra jax --extra ray --extra attacks \
		--extra test --extra lint --extra notebooks --extra docs --extra release --extra lock \
		--output-file constraints.txt setup.cfg
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-emit-options --no-header \
		--output-file benchmarks/torch-constraints.txt benchmarks/torch.in
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-emit-options --no-header \
		--output-file benchmarks/scanners-constraints.txt benchmarks/scanners.in
	# An index may have its own build of PyTorch.
	sed -i.bak 's/+cpu//' constraints.txt benchmarks/torch-constraints.txt
	rm constraints.txt.bak benchmarks/torch-constraints.txt.bak

resolve: $(VENV)/.installed  ## check that constraints.txt resolves for newer Pythons
	for version in 3.12 3.13; do $(BIN)/python -m pip install --quiet --dry-run --ignore-installed \
		--python-version $$version --only-binary :all: --target build/resolved \
		--constraint constraints.txt ".[test,lint]" || exit 1; done

clean:  ## delete the study's run and models (as the tool recorded them), and caches
	if [ -x $(BIN)/gradcam-adv ]; then $(BIN)/gradcam-adv clean $(STUDY); fi
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist
