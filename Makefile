# SPDX-License-Identifier: Apache-2.0
# The one entry. `make help` explains every target.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules

include build.mk

.PHONY: build unit clean
build: $(LIB) ## Compile everything
unit: $(UNIT_TESTS) ## Build and run the unit tests
	@for t in $(UNIT_TESTS); do echo "== $$t"; $$t; done

clean: ## Remove what was built
	rm -rf build
