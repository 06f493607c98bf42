# Two commands do all the set-up on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
# Each environment is installed once and stamped with a hash of what defines it; nothing changed, nothing runs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
DEPLOY := hardware/deploy
LLAMA_VERSION := $(shell sed -n 's/^llama-cpp-python==//p' constraints.txt)
KEY := $(shell { cat pyproject.toml constraints.txt $(DEPLOY)/*.sh; echo '$(LLAMA_CMAKE_ARGS)'; } | sha256sum | cut -c1-16)
ROBOT := $(VENV)/.stamps/robot-$(KEY)
WORKSTATION := $(VENV)/.stamps/workstation-$(KEY)
PIP_INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

# The main job: the live loop on the shipped clip. `make demo-clip` renders the clip anew and writes down which pixels
# are right for these instructions; `python -m train.simulator.clip $(CLIP) --seed N --list` shows what can be asked.
CLIP := models/nano/demo
CLIP_SEED := 21
INSTRUCTIONS := "Point to the green toy plane." \
	"Point to the third shoe from the left." \
	"Point to the clear space between the white flower pot and the yellow shoe."
MAIN_JOB = $(BIN)/roborefer-edge run --camera $(CLIP) --out runs/demo.png $(INSTRUCTIONS)

.PHONY: help demo demo-clip train-nano ship-nano test test-slow test-all check check-wheels check-service readme wheel clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(ROBOT) ## robot dependencies only, then the main job on the embedded default bundle
	@mkdir -p runs
	$(MAIN_JOB)

demo-clip: $(WORKSTATION) ## render the clip of the demo anew, and the truth its test needs
	$(BIN)/python -m train.simulator.clip $(CLIP) --seed $(CLIP_SEED) --truth tests/flow/demo_truth.npz --ask $(INSTRUCTIONS)

# Training takes hours. A session ends after SESSION minutes with everything saved and the next one begins by itself;
# after Ctrl-C, or a crash, the same command goes on. Exit code 75: go on. SMOKE=1: two minutes, does everything run?
SESSION ?= 100
NANO_WORK ?= runs/nano$(if $(SMOKE),-smoke)
SHIP_TO ?= $(if $(SMOKE),$(NANO_WORK)/shipped,models/nano)
TRAIN_NANO = $(BIN)/python -m train.nano --workdir $(NANO_WORK) $(if $(SMOKE),--smoke,--session-minutes $(SESSION))

train-nano: $(WORKSTATION) ## train nano from nothing (hours; resumes); SMOKE=1: two minutes
	until $(TRAIN_NANO) $(NANO_OPTIONS); do code=$$?; [ $$code -eq 75 ] || exit $$code; done

ship-nano: $(WORKSTATION) ## from the trained checkpoint to models/nano: export, quantize, sim bench, report
	PATH="$(abspath $(BIN)):$$PATH" models/nano/ship.sh $(NANO_WORK)/checkpoint $(NANO_WORK) $(SHIP_TO)

test: $(WORKSTATION) ## the default tests: no device, no network, no weights of others
	$(BIN)/python -m pytest -m "not slow and not hardware"

test-slow: $(WORKSTATION) ## what `make test` leaves out
	$(BIN)/python -m pytest -m "slow and not hardware" || test $$? -eq 5 # 5: none is marked slow

test-all: $(WORKSTATION) ## every test that needs no device
	$(BIN)/python -m pytest -m "not hardware"

check: $(WORKSTATION) ## format, lint, types, import rules, and that docs and house rules are in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/contracts -m "not slow"

check-wheels: $(ROBOT) ## do the robot's dependencies have aarch64 wheels for Python 3.10 and 3.12? (needs network)
	$(BIN)/python tests/contracts/check_wheels.py

check-service: $(WORKSTATION) ## boot, kill, hang, reload, uninstall: the service under a real systemd in a container (root)
	$(BIN)/python -m pytest -m "not hardware" tests/flow/test_service_boot.py

check-aarch64: $(WORKSTATION) ## refer and check on an emulated aarch64 board against this machine (network, half an hour)
	$(BIN)/python -m tests.aarch64.check

readme: $(WORKSTATION) ## bring the tree in README.md up to date with the disk
	$(BIN)/python tests/contracts/readme_tree.py

wheel: $(WORKSTATION) ## dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## caches and build outputs; the environment stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

$(ROBOT):
	@echo "Setting up $(VENV) for the robot side"
	$(DEPLOY)/system_packages.sh robot $(PYTHON)
	$(DEPLOY)/make_venv.sh $(PYTHON) $(VENV)
	$(DEPLOY)/build_llama.sh $(BIN)/python $(LLAMA_VERSION)
	$(PIP_INSTALL) -e .
	@mkdir -p $(@D) && rm -f $(@D)/robot-* && touch $@

$(WORKSTATION): $(ROBOT)
	@echo "Adding the workstation side (torch, cameras, test tools) to $(VENV)"
	$(DEPLOY)/system_packages.sh workstation $(PYTHON)
	$(PIP_INSTALL) -e '.[dev]'
	@rm -f $(@D)/workstation-* && touch $@
