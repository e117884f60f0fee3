# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every command of this project. Nothing else hides one.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
LAB ?= lab
SCENARIO ?= default
ARGS ?=
export LAB PROFILE N SET BASELINE

.PHONY: help bootstrap venv images lab lab-up lab-converge lab-down test lint unit sanity lab-test faults molecule bench build docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

bootstrap: ## Python environment and Docker engine
	@tools/bootstrap

venv:
	@tools/bootstrap --no-docker

images: bootstrap ## build the container images whose inputs changed
	@$(PYTHON) tools/images build

lab: bootstrap ## a real Odoo over HTTPS on this machine (PROFILE=single|ha, LAB=name)
	@$(PYTHON) tools/lab up
	@$(PYTHON) tools/lab converge $(ARGS)
	@$(PYTHON) tools/lab tell

lab-up: bootstrap ## the lab's hosts and services, without running the playbook
	@$(PYTHON) tools/lab up

lab-converge: bootstrap ## only the playbook, on the lab that is there (ARGS='--tags odoo')
	@$(PYTHON) tools/lab converge $(ARGS)

lab-down: bootstrap ## remove everything that `make lab` made
	@$(PYTHON) tools/lab down

test: bootstrap ## everything: lint, unit, sanity, build, lab
	@tools/test

lint: venv ## all static checks
	@tools/lint

unit: venv ## unit tests
	@tools/unit $(ARGS)

sanity: venv ## ansible-test sanity
	@tools/sanity

build: venv ## the collection archive, built and installed into an empty place
	@tools/build-test

lab-test: bootstrap ## the proofs on the running lab
	@$(PYTHON) -m pytest tests/lab $(ARGS)

faults: bootstrap ## every fault experiment on the running HA lab (N=repetitions, SET=fast|all, ARGS='names')
	@tools/faults $(ARGS)

molecule: bootstrap ## SCENARIO=default|ha
	@tools/molecule $(SCENARIO)

bench: bootstrap ## measure the running lab; writes build/$(LAB)/bench.json
	@$(PYTHON) tests/bench/run.py $(ARGS)

docs: venv ## make docs/reference anew from the code
	@tools/docs

clean: ## what can be made anew, but not the lab (`make lab-down`)
	rm -rf .venv build/collections build/sanity build/*.tar.gz .*_cache
