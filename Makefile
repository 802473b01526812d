# One target per thing a person does here; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NUMPY126_VENV := $(VENV)-numpy126
PERCEPTION_NODES_DATA ?= ../shared/data
SOURCE ?= 0
PYTEST_FLAGS ?= -q

REQUIREMENTS := $(wildcard requirements/*)
INTERFACES := $(wildcard interfaces/*.* interfaces/builder/*.py interfaces/*_msgs/package.xml interfaces/*_msgs/msg/*)
PACKAGING := setup.py setup.cfg package.xml pyproject.toml $(wildcard launch/* config/* models/*)
# Set-up depends on the ROS 2 that is sourced, so each has stamps of its own.
STAMP := $(VENV)/.set-up-with-$(or $(ROS_DISTRO),wheels)
MAKE_VENV := $(PYTHON) requirements/make_venv.py $(VENV)

export PERCEPTION_NODES_DATA
.DELETE_ON_ERROR:
.PHONY: help venv test test-unit test-slow test-graph test-numpy126 run-numpy126 lint demo webcam bench eval-voc50 eval-vision colcon docs clean bench-simulation bench-backends bench-map bench-grasp bench-navigation train-navigation-report bench-places bench-regions bench-enhancement soak

.DEFAULT:
	@echo "There is no target '$@'; 'make help' lists them." >&2; exit 2

help: ## print this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 25

venv: $(STAMP)-project ## set up the Python environment in .venv (VENV= for another folder)

$(STAMP)-requirements: $(REQUIREMENTS)
	@$(MAKE_VENV) requirements
	@touch $@

$(STAMP)-interfaces: $(STAMP)-requirements $(INTERFACES)
	@$(MAKE_VENV) interfaces
	@touch $@

$(STAMP)-project: $(STAMP)-interfaces $(PACKAGING)
	@$(MAKE_VENV) project
	@touch $@

test: test-unit test-slow test-graph test-numpy126 lint ## run every check

test-unit: venv ## run the quick tests, which need no ROS graph and no browser (under a minute)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -n 2 -m 'not graph and not browser and not slow'

test-slow: venv ## run the tests of whole foreign networks, of builds, of several processes
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -n 2 -m 'slow and not graph'

test-graph: venv ## run the tests over a real ROS graph and in a browser
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -n 2 -m 'graph or browser'

lint: venv ## run ruff and mypy
	$(BIN)/ruff check -q .
	$(BIN)/mypy

# The message packages of apt's ROS 2 Jazzy are compiled against NumPy 1.26, which knows Python up to 3.12.
test-numpy126: ## run the core and conversion tests with NumPy 1.26, without ROS and torch
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; \
	then $(MAKE) --no-print-directory run-numpy126; \
	else echo 'Skipped: NumPy 1.26 has no wheels for this Python.'; fi

run-numpy126: $(NUMPY126_VENV)/.requirements
	PYTHONPATH=. $(NUMPY126_VENV)/bin/python -m pytest $(PYTEST_FLAGS) -m 'not graph and not slow' $(wildcard test/core test/conversions)

$(NUMPY126_VENV)/.requirements: $(REQUIREMENTS)
	@echo 'Python packages with NumPy 1.26 ...'
	@$(PYTHON) -m venv $(NUMPY126_VENV)
	@$(NUMPY126_VENV)/bin/pip --disable-pip-version-check install -q pytest pytest-timeout \
	  -r requirements/base.txt -c requirements/constraints.txt -c requirements/constraints-numpy1.txt
	@touch $@

demo: venv ## real photos and a simulated robot over ROS topics; writes out/demo/report.html
	$(BIN)/perception demo --out out/demo

webcam: venv ## camera, detection and live view in the browser (SOURCE=0, a video file or a URL)
	$(BIN)/perception webcam $(SOURCE)

bench: venv ## measure images between processes and through the nodes; writes out/bench/bench.json
	$(BIN)/perception benchmark graph --out out/bench/bench.json

bench-backends: venv ## measure the runtimes of the shipped networks on this CPU; writes out/bench/backends.json
	$(BIN)/perception benchmark backends --out out/bench/backends.json

soak: venv ## run nodes while everything about them goes wrong (MINUTES=10, SEED=); writes out/bench/soak.json
	$(BIN)/perception soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) --out out/bench/soak.json

bench-grasp: venv ## clear clutter by grasping in the simulator (ROUNDS=, SEED=); writes out/bench/grasp.json
	$(BIN)/perception benchmark grasp $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) --out out/bench/grasp.json

bench-map: venv ## measure obstacle maps beside the rules of others; writes out/bench/map.json
	$(BIN)/perception benchmark map --out out/bench/map.json

bench-navigation: venv ## drive to goals in BARN's worlds and rooms (WORLDS=, TRIALS=, SEED=); writes out/bench/navigation.json
	$(BIN)/perception benchmark navigation $(if $(WORLDS),--worlds $(WORLDS)) $(if $(TRIALS),--trials $(TRIALS)) --seed $(or $(SEED),0) --out out/bench/navigation.json

bench-places: venv ## recognise simulated places in other light; writes out/bench/places.json
	$(BIN)/perception benchmark places --out out/bench/places.json

bench-regions: venv ## sliding windows, region proposals and detectors on 50 photos; writes out/bench/regions.json
	$(BIN)/perception benchmark regions $(PERCEPTION_NODES_DATA)/datasets/voc50 --map '$(VOC_TO_COCO)' --out out/bench/regions.json

bench-enhancement: venv ## train a network against blur and noise, and see whether detectors gain; writes out/bench/enhancement.json
	$(BIN)/perception dataset out/datasets/enhancement --train 3000 --val 120 --test 120 --seed 6
	$(BIN)/perception train enhancement out/datasets/enhancement --out out/train/enhancement
	$(BIN)/perception benchmark enhancement out/datasets/enhancement out/train/enhancement/enhancement.safetensors \
	  --photos $(PERCEPTION_NODES_DATA)/datasets/voc50 --map '$(VOC_TO_COCO)' --out out/bench/enhancement.json

train-navigation-report: venv ## train the navigation policy from three seeds (SEEDS=) and measure all; writes out/bench/navigation_seeds.md
	$(BIN)/perception train navigation --out out/train/navigation --seeds $(or $(SEEDS),0 1 2)
	$(BIN)/perception benchmark navigation-seeds out/train/navigation --out out/bench/navigation_seeds.json

bench-simulation: venv ## measure the simulator and its renderers; writes out/bench/simulation.json
	$(BIN)/perception benchmark simulation --out out/bench/simulation.json

# PASCAL VOC and COCO have other names for six classes.
VOC_TO_COCO := aeroplane=airplane,diningtable=dining table,motorbike=motorcycle,pottedplant=potted plant,sofa=couch,tvmonitor=tv
eval-voc50: venv ## score the shipped detector on 50 photos, directly and through ROS
	$(BIN)/perception evaluate-model coco_ssdlite_mobilenet_v2 $(PERCEPTION_NODES_DATA)/datasets/voc50 \
	  --map '$(VOC_TO_COCO)' --score-threshold 0.01 --nms-iou 0.6 --through-ros --out out/eval/voc50.json

eval-vision: venv ## score boxes and masks in fresh simulated scenes (SEED=, FRAMES=); writes out/eval/vision.json
	$(BIN)/perception benchmark vision --seed $(or $(SEED),2026) --frames $(or $(FRAMES),600) --out out/eval/vision.json

COLCON := --build-base out/colcon/build --install-base out/colcon/install
colcon: venv ## build and test as a colcon workspace package, in out/colcon
	$(BIN)/python -m colcon --log-base out/colcon/log build --base-paths . $(COLCON)
	$(BIN)/python -m colcon --log-base out/colcon/log test --base-paths . $(COLCON) --event-handlers console_direct+ --return-code-on-test-failure

docs: venv ## write the generated pages in docs/ again
	$(BIN)/perception parameters > docs/parameters.md

clean: ## delete what targets wrote, except the Python environment
	rm -rf out build *.egg-info interfaces/build interfaces/*.egg-info
