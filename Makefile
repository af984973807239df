# The front door. `make help` lists what there is; the README says what it prints.

PROFILE ?= embedded
DEVKIT ?=
WEIGHTS ?=
MEAN ?=
SET ?=
THREADS ?= 0
CAFFE_RUNTIME ?= auto
PIP_ARGS ?=
PHOTOGRAPHS ?=
TAKE ?= $(foreach run,embedded embedded-caltech20-voc,$(if $(wildcard runs/$(run)/compare.json),$(patsubst embedded-%,%,$(run))=runs/$(run)))

# Each data set has its own run: runs/embedded, or runs/embedded-caltech20-voc with DEVKIT=.../caltech20-voc.
DEVKIT_NAME := $(notdir $(patsubst %/VOC2007,%,$(abspath $(DEVKIT))))
RUN ?= runs/$(PROFILE)$(if $(DEVKIT),-$(DEVKIT_NAME))
override RUN := $(abspath $(RUN))

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
GENERATED_DEVKIT := $(CURDIR)/data/embedded-devkit
export CAFFE_RUNTIME
export PYTHONUNBUFFERED := 1

# The embedded profile generates its devkit unless DEVKIT= brings one.
ifeq ($(PROFILE)$(DEVKIT),embedded)
devkit_target := devkit
devkit_path := $(GENERATED_DEVKIT)
else
devkit_path := $(DEVKIT)
endif

resolve = $(PY) -m experiment.resolve --profile '$(PROFILE)' $(if $(devkit_path),--devkit '$(devkit_path)') \
	$(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(MEAN),--mean '$(MEAN)') $(foreach s,$(SET),--set '$(s)') --run
# Make's lists are parted by blanks, so a path cannot hold one.
$(foreach name,DEVKIT WEIGHTS MEAN RUN PHOTOGRAPHS,$(if $(word 2,$($(name))),$(error $(name)=$($(name)) has a blank in it: rename the path, or link to it from one without)))
$(if $(filter-out 1,$(words $(THREADS)))$(shell printf '%s' '$(THREADS)' | tr -d 0-9),$(error THREADS=$(THREADS) must be a whole number; 0 is all))

# What the container must see besides the project: paths outside it that the user named.
reads = $(foreach path,$(DEVKIT) $(WEIGHTS) $(MEAN),--read '$(abspath $(path))')

.DEFAULT_GOAL := help
.NOTPARALLEL: # the port starts from what the Caffe side drew
.PHONY: help setup container devkit caffe-reproduce torch-reproduce compare test lint format prototxt train-backbone results clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'
	@echo 'Variables: PROFILE=embedded|paper DEVKIT= WEIGHTS= MEAN= SET="section.key=value ..." RUN= THREADS='
	@echo '           CAFFE_RUNTIME=auto|docker|podman|chroot PIP_ARGS= (for pip, when it installs the packages)'

setup: $(VENV)/.ready ## make the virtual environment with the pinned packages (the others do it by themselves)

$(VENV)/.ready: pyproject.toml docker/setup-venv
	docker/setup-venv '$(VENV)' $(PIP_ARGS)

container: ## prepare the container with the real Caffe and say which runtime is used
	docker/run --build

devkit: $(VENV)/.ready ## generate the embedded profile's devkit (VOC2007 layout) under data/
	$(PY) -m embedded.devkit '$(GENERATED_DEVKIT)'

caffe-reproduce: $(VENV)/.ready $(devkit_target) ## run the literal side: real Caffe in the container
	$(resolve) '$(RUN)/caffe'
	docker/run --write '$(RUN)/caffe' $(reads) -- python3 -m caffe_impl '$(RUN)/caffe' --threads $(THREADS)

torch-reproduce: $(VENV)/.ready $(devkit_target) ## run the PyTorch port (from the Caffe run's draws where there is one)
	$(resolve) '$(RUN)/torch'
	$(PY) -m torch_impl '$(RUN)/torch' --draws '$(RUN)/caffe' --threads $(THREADS)

compare: caffe-reproduce torch-reproduce ## run what is missing of both sides, and diff them stage by stage
	$(resolve) '$(RUN)/torch-isolated'
	$(PY) -m torch_impl '$(RUN)/torch-isolated' --inputs '$(RUN)/caffe' --draws '$(RUN)/caffe' --reuse '$(RUN)/torch' --threads $(THREADS)
	$(resolve) '$(RUN)/caffe-floor'
	docker/run --write '$(RUN)/caffe-floor' --read '$(RUN)/caffe' -- python3 -m caffe_impl '$(RUN)/caffe-floor' --floor \
		--inputs '$(RUN)/caffe' --draws '$(RUN)/caffe' --threads $(THREADS)
	$(PY) -m compare '$(RUN)/caffe' '$(RUN)/torch' --isolated '$(RUN)/torch-isolated' \
		--floor '$(RUN)/caffe-floor' --json '$(RUN)/compare.json'

test: $(VENV)/.ready container ## run the tests, with the real Caffe
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.ready ## check format, style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(VENV)/.ready ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

prototxt: $(VENV)/.ready ## write prototxt/*.prototxt again from the profiles
	$(PY) -m prototxt.generate

train-backbone: $(VENV)/.ready ## train the embedded backbone on PHOTOGRAPHS= (one folder a class)
	$(PY) -m embedded.train_backbone '$(PHOTOGRAPHS)'

results: $(VENV)/.ready ## put the figures of the finished runs into docs/results and the README (TAKE="name=run ...")
	$(PY) -m compare.results $(foreach t,$(TAKE),--take '$(t)')

clean: ## remove runs and generated data (not the environment, not the container)
	rm -rf runs data/embedded-devkit
