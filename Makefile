# The front door. `make help` lists what there is (from the lines that hold "##" or begin with "#:").

#: PROFILE=embedded|paper  the specification: a small one without downloads (default), or the paper's
PROFILE ?= embedded
#: DEVKIT=FOLDER  data in VOC2007's format (default: generated; with PROFILE=paper what `make data` got)
DEVKIT ?= $(if $(filter paper,$(PROFILE)),data/voc2007/VOCdevkit)
#: WEIGHTS=FILE  the backbone (default: the shipped one; with PROFILE=paper what `make weights` got)
WEIGHTS ?= $(if $(filter paper,$(PROFILE)),data/weights/ResNet-101-model.caffemodel)
#: MEAN=FILE  a mean image, read with SET=features.mean=file alone (default: the profile's three means)
MEAN ?=
#: SET="section.key=value"  other values of the specification, parted by blanks
SET ?=
#: LIMIT=N  the first N images of each split, and a shorter training
LIMIT ?=
#: THREADS=N  CPU threads (default 0: all)
THREADS ?= 0
#: ENGINE=NAME  what computes the port's features, and, on a GPU or in bfloat16, its training: auto (default: the fastest that is installed), openvino ... (README, Speed)
ENGINE ?= auto
#: SEEDS=N  draws of `make seeds`, `make controls`, `make sensitivity` and `make precision` (default: 5)
SEEDS ?= 5
#: OF=features|features-and-training  what `make precision` has in bfloat16 (default: both)
OF ?=
#: NAME=voc2007|caltech101  the data set that `make data` gets
NAME ?= voc2007
#: FROM=keras|matconvnet|torch FILE=FILE  what `make weights` converts, in place of downloading
FROM ?=
FILE ?=
#: N1="256 512" N2="20 100"  what `make grid` trains (default: the paper's)
N1 ?=
N2 ?=
#: SCHEDULER=tcp://host:port  a Dask cluster for `make sensitivity`
SCHEDULER ?=
#: IMAGESETS=FOLDER  VOC2007's ImageSets/Main, for `make stand-in`
IMAGESETS ?=
#: PHOTOGRAPHS=FOLDER  a folder of photographs for each class, for `make train-backbone`
PHOTOGRAPHS ?=
#: CAFFE_RUNTIME=auto|docker|podman|chroot  what runs the container
CAFFE_RUNTIME ?= auto
#: PIP_ARGS=  for pip, when it installs the packages
PIP_ARGS ?=
# The runs of the embedded profile that have one of the files $(1), as name=run.
finished = $(foreach run,embedded embedded-caltech20-voc,$(if $(wildcard $(addprefix runs/$(run)/,$(1))),$(patsubst embedded-%,%,$(run))=runs/$(run)))
#: PAPER="name=run ..."  the runs that `make render` writes into docs/results/name (default: all finished ones)
PAPER ?= $(call finished,torch/09-metrics/manifest.json)
#: MEASURED="name=run ..."  the runs whose controls and sensitivity `make ledger` takes over (default: all)
MEASURED ?= $(call finished,controls/controls.json sensitivity/sensitivity.json)
#: TAKE="name=run ..."  the runs whose comparison `make results` takes over (default: all)
TAKE ?= $(call finished,compare.json)

#: WORKS="work ..."  what `make bench` measures (default: all)
WORKS ?=
#: REPORT="run ..."  the runs that `make report` shows (default: those compared, or RUN)
# By default those that were compared, or the one that is named or chosen.
ifeq ($(RUN)$(DEVKIT)$(LIMIT)$(PROFILE),embedded)
REPORT ?= $(foreach run,$(call finished,compare.json),$(lastword $(subst =, ,$(run))))
else
REPORT ?= $(RUN)
endif

#: RUN=FOLDER  the run's folder (default: runs/PROFILE[-name of DEVKIT][-limitN])
# Each data set has its own: runs/embedded, or runs/embedded-caltech20-voc with DEVKIT=.../caltech20-voc.
DEVKIT_NAME := $(notdir $(patsubst %/VOC2007,%,$(abspath $(DEVKIT))))
RUN ?= runs/$(PROFILE)$(if $(DEVKIT),-$(DEVKIT_NAME))$(if $(LIMIT),-limit$(LIMIT))
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
	$(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(MEAN),--mean '$(MEAN)') $(if $(LIMIT),--limit $(LIMIT)) $(foreach s,$(SET),--set '$(s)') --run
# Make's lists are parted by blanks, so a path cannot hold one.
$(foreach name,DEVKIT WEIGHTS MEAN RUN PHOTOGRAPHS FILE,$(if $(word 2,$($(name))),$(error $(name)=$($(name)) has a blank in it: rename the path, or link to it from one without)))
$(if $(wildcard $(RUN)),$(if $(wildcard $(RUN)/.),,$(error RUN=$(RUN) is a file: name a folder)))
# $(1): a variable, $(2): the pattern that its value must match, $(3): what that means.
must = $(if $(shell printf '%s' '$(subst ','\'',$($(1)))' | grep -xE '$(2)'),,$(error $(1)=$($(1)) must be $(3)))
$(call must,THREADS,[0-9]+,a whole number; 0 is all)
$(call must,SEEDS,0*[1-9][0-9]*,a whole number above 0)
$(call must,NAME,voc2007|caltech101,voc2007 or caltech101)
$(call must,ENGINE,auto|eager|onnxruntime|(openvino|folded|cuda)(-bfloat16)?,one of auto openvino onnxruntime folded eager cuda openvino-bfloat16 folded-bfloat16 cuda-bfloat16)
# Before RUN/torch is made by it.
$(if $(filter precision,$(MAKECMDGOALS)),$(call must,ENGINE,auto|openvino|folded|cuda,one that has a bfloat16: openvino folded cuda))
$(if $(OF),$(call must,OF,features(-and-training)?,features or features-and-training))
$(if $(LIMIT),$(call must,LIMIT,0*[1-9][0-9]*,a number of images above 0))
$(foreach n,N1 N2,$(if $($(n)),$(call must,$(n),( *[1-9][0-9]* *)+,numbers above 0 with blanks between them)))
$(if $(FROM),$(call must,FROM,keras|matconvnet|torch,one of keras matconvnet torch))
$(if $(SCHEDULER),$(call must,SCHEDULER,[a-z]+://[^/[:space:]]+:[0-9]+,an address such as tcp://host:8786))
# $(1): a target, $(2): the variable that it needs, $(3): what that is.
needs = $(if $(filter $(1),$(MAKECMDGOALS)),$(if $(strip $($(2))),,$(error make $(1) needs $(2)=<$(3)>)))
$(call needs,stand-in,IMAGESETS,the folder ImageSets/Main of a VOC2007 devkit)
$(call needs,train-backbone,PHOTOGRAPHS,a folder that holds a folder of JPEGs for each class)

# What the container must see besides the project: paths outside it that the user named.
reads = $(foreach path,$(DEVKIT) $(WEIGHTS) $(MEAN),--read '$(abspath $(path))')

.DEFAULT_GOAL := help
.NOTPARALLEL: # the port starts from what the Caffe side drew
.PHONY: help setup container data weights devkit caffe-reproduce torch-reproduce compare compare-afresh compare-selftest seeds table1 grid figures render controls sensitivity ledger report stand-in bench precision test lint format prototxt train-backbone results clean

help: ## list the commands and the variables
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables, as in `make compare DEVKIT=data/mine`:'
	@awk -F '  +' '/^#: / { printf "  %-40s %s\n", substr($$1, 4), $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make the virtual environment with the pinned packages (the others do it by themselves)

$(VENV)/.ready: pyproject.toml docker/setup-venv
	docker/setup-venv '$(VENV)' $(PIP_ARGS)

container: ## prepare the container with the real Caffe and say which runtime is used
	docker/run --build

data: $(VENV)/.ready ## get a data set into data/NAME: NAME=voc2007 (PROFILE=paper needs it) or caltech101
	$(PY) -m fetch.$(NAME) '$(CURDIR)/data/$(NAME)'

weights: $(VENV)/.ready ## get the Model Zoo's ResNet-101, or convert a descendant of it (FROM=keras|matconvnet|torch FILE=)
	$(PY) -m fetch.weights '$(CURDIR)/data/weights' $(if $(FROM),--from '$(FROM)') $(if $(FILE),--file '$(FILE)')

devkit: $(VENV)/.ready ## generate the embedded profile's devkit (VOC2007 layout) under data/
	$(PY) -m embedded.devkit '$(GENERATED_DEVKIT)'

caffe-reproduce: $(VENV)/.ready $(devkit_target) ## run the literal side: real Caffe in the container
	$(resolve) '$(RUN)/caffe'
	docker/run --write '$(RUN)/caffe' $(reads) -- python3 -m caffe_impl '$(RUN)/caffe' --plan --threads $(THREADS)

torch-reproduce: $(VENV)/.ready $(devkit_target) ## run the PyTorch port (from the Caffe run's draws where there is one)
	$(resolve) '$(RUN)/torch'
	$(PY) -m torch_impl '$(RUN)/torch' --draws '$(RUN)/caffe' --plan --threads $(THREADS) --engine '$(ENGINE)'

# One side run otherwise, fed by the Caffe side's run: the port in float64, which is the reference, and what the noise
# floor is made of (experiment/stages.py says what each changes). $(1): the variation, $(2): the option for threads.
from_caffe = --inputs '$(RUN)/caffe' --draws '$(RUN)/caffe'
vary_torch = $(resolve) '$(RUN)/torch-$(1)' && $(PY) -m torch_impl '$(RUN)/torch-$(1)' --vary $(1) $(from_caffe) $(2) --engine '$(ENGINE)'
vary_caffe = $(resolve) '$(RUN)/caffe-$(1)' && docker/run --write '$(RUN)/caffe-$(1)' --read '$(RUN)/caffe' $(reads) -- \
	python3 -m caffe_impl '$(RUN)/caffe-$(1)' --vary $(1) $(from_caffe) $(2)

define isolated_runs
	$(resolve) '$(RUN)/torch-isolated'
	$(PY) -m torch_impl '$(RUN)/torch-isolated' $(from_caffe) --reuse '$(RUN)/torch' --threads $(THREADS) --engine '$(ENGINE)'
	$(call vary_torch,reference,--threads $(THREADS))
	$(call vary_torch,threads,--threads $$($(PY) -m experiment.threads '$(RUN)/torch-isolated'))
	$(call vary_torch,layout,--threads $(THREADS))
	$(call vary_caffe,threads,--threads $$($(PY) -m experiment.threads '$(RUN)/caffe'))
	$(call vary_caffe,batch,--threads $(THREADS))
	$(call vary_caffe,last-bit,--threads $(THREADS))
endef

# What `make compare` is asked for. Where that and all that it goes by is as it was, its last report still stands.
asked = $(foreach name,PROFILE DEVKIT WEIGHTS MEAN SET LIMIT THREADS ENGINE SEEDS CAFFE_RUNTIME,$(name)=$($(name)))

compare: $(VENV)/.ready $(devkit_target) ## run what is missing of both sides, and diff them stage by stage
	@$(PY) -m compare.kept '$(RUN)' '$(asked)' || { [ $$? = 3 ] && mkdir -p '$(RUN)' && \
		touch '$(RUN)/.compare-began' && $(MAKE) --no-print-directory compare-afresh; }

compare-afresh: caffe-reproduce torch-reproduce ## the same, also where nothing was touched since the last time
	$(isolated_runs)
	$(PY) -m compare '$(RUN)/caffe' '$(RUN)/torch' --isolated '$(RUN)/torch-isolated' --reference '$(RUN)/torch-reference' \
		$(foreach v,threads batch last-bit,--varied-a '$(RUN)/caffe-$(v)') \
		$(foreach v,threads layout,--varied-b '$(RUN)/torch-$(v)') \
		$(if $(wildcard $(RUN)/seeds),--seeds $(foreach n,$(shell ls '$(RUN)/seeds' | sort -n),'$(RUN)/seeds/$(n)')) --json '$(RUN)/compare.json' --junit '$(RUN)/compare.xml' \
		--keep '$(RUN)' '$(asked)'

# All stages but the probe, from other draws: what the seed does not touch is taken over from the main runs.
seed_stages := $(foreach s,index images features clusters pseudo_labels transfer transfer_features svm metrics,--only $(s))
define seed_runs
	$(resolve) '$(RUN)/seeds/$(1)/caffe' --set run.seed=$(1)
	docker/run --write '$(RUN)' $(reads) -- \
		python3 -m caffe_impl '$(RUN)/seeds/$(1)/caffe' --reuse '$(RUN)/caffe' $(seed_stages) --threads $(THREADS)
	$(resolve) '$(RUN)/seeds/$(1)/torch' --set run.seed=$(1)
	$(PY) -m torch_impl '$(RUN)/seeds/$(1)/torch' --reuse '$(RUN)/torch' $(seed_stages) --threads $(THREADS) --engine '$(ENGINE)'

endef

seeds: caffe-reproduce torch-reproduce ## run both sides from SEEDS other draws each; `make compare` then tells the spread
	$(foreach n,$(shell seq $(SEEDS)),$(call seed_runs,$(n)))

table1: caffe-reproduce torch-reproduce ## Table 1 of both sides beside the paper's
	$(PY) -m paper.table1 '$(RUN)'

grid: torch-reproduce ## train every N1 x N2 with the port, and print Table 2 beside the paper's (N1="256 512" N2=)
	$(PY) -m paper.grid '$(RUN)' $(if $(N1),--n1 $(N1)) $(if $(N2),--n2 $(N2)) --threads $(THREADS)

figures: torch-reproduce ## figures 1 and 3 by t-SNE, with kNN accuracy and silhouette beside them
	$(PY) -m paper.figures '$(RUN)'

render: $(VENV)/.ready ## write tables and figures of the finished runs into docs/results (PAPER="name=run ...")
	$(if $(strip $(PAPER)),,$(error no run is finished yet: run `make torch-reproduce` first or name one by PAPER="name=run"))
	$(PY) -m paper.render $(foreach p,$(PAPER),'$(p)') --threads $(THREADS)

controls: torch-reproduce ## what else would reach the same mAP: the controls that the paper lacks
	$(PY) -m audit.controls.controls '$(RUN)' --seeds $(SEEDS) --threads $(THREADS)

sensitivity: torch-reproduce ## what each decision of the ledger does to mAP, by Dask (SCHEDULER=tcp://host:port for a cluster)
	$(PY) -m audit.decisions.sensitivity '$(RUN)' --seeds $(SEEDS) $(if $(MEAN),--mean '$(MEAN)') $(if $(SCHEDULER),--scheduler '$(SCHEDULER)')

ledger: $(VENV)/.ready ## write docs/ledger.md from the decisions and what the finished runs measured of them (MEASURED="name=run ...")
	$(if $(strip $(MEASURED)),,$(info no run has been measured yet (`make controls sensitivity`): docs/results stays as it is))
	$(PY) -m audit.decisions.ledger $(foreach m,$(MEASURED),--take '$(m)')

report: $(VENV)/.ready ## write report/index.html, the page for a reviewer, of the finished runs, or of RUN=
	$(if $(strip $(REPORT)),,$(error no run has been compared yet: run `make compare` first or name one by RUN=))
	$(PY) -m audit.page.report $(foreach run,$(REPORT),'$(run)')

stand-in: $(VENV)/.ready ## draw stand-ins for VOC2007 and ResNet-101's weights, from the real lists in IMAGESETS=
	$(PY) -m embedded.standin '$(IMAGESETS)' '$(CURDIR)/data/stand-in'

bench: $(VENV)/.ready ## time the port beside its peers into bench/results.json (WORKS="resnet101 ...", all by default)
	$(PY) -m bench $(addprefix --only ,$(WORKS))

precision: torch-reproduce ## what bfloat16 costs in mAP, over SEEDS draws (ENGINE=openvino; default: folded)
	$(PY) -m bench.precision '$(RUN)' $(if $(filter-out auto,$(ENGINE)),--engine '$(ENGINE)') $(if $(OF),--of '$(OF)') --seeds $(SEEDS) --threads $(THREADS)

# A small data set and training, on which mistakes are planted in the port. A batch of 32 of 80 rows wraps in the third
# step; neighbouring snapshots make single steps of it and of the steps before and after each drop of the rate. One
# thread, since two entries are tried at once. The mistakes are in the port's own net, so that this is the engine.
compare-selftest: override PROFILE := embedded
compare-selftest: override RUN := $(CURDIR)/runs/selftest
compare-selftest: override SET := clusters.k=20 transfer.n1=128 transfer.n2=20 transfer.batch_size=32 \
	transfer.max_iter=300 transfer.stepsize=140 transfer.snapshots=[1,2,3,60,139,140,141,200,279,280,281,300] \
	features.blob_images=2 resnet101.crops=[["china.jpg",0,0],["flower.jpg",0,0]]
compare-selftest: devkit_path := $(CURDIR)/data/selftest-devkit
compare-selftest: override THREADS := 1
compare-selftest: override ENGINE := eager
compare-selftest: $(VENV)/.ready ## plant porting mistakes in the port, and see whether the comparison names each
	$(PY) -m embedded.devkit '$(devkit_path)' --trainval 80 --test 80
	$(resolve) '$(RUN)/caffe'
	docker/run --write '$(RUN)/caffe' -- python3 -m caffe_impl '$(RUN)/caffe' --threads $(THREADS)
	$(isolated_runs)
	$(PY) -m tests.selftest '$(RUN)' --json '$(RUN)/selftest.json'

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
	$(if $(strip $(TAKE)),,$(info no run has been compared yet (`make compare`): docs/results stays as it is))
	$(PY) -m compare.results $(foreach t,$(TAKE),--take '$(t)') $(addprefix --selftest ,$(wildcard runs/selftest/selftest.json))

clean: ## remove runs and generated data (not the environment, not the container)
	rm -rf runs data/embedded-devkit data/selftest-devkit
