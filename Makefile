# SPDX-License-Identifier: Apache-2.0
# The one entry. `make help` explains every target.
#
# A target that needs packages installs them first and then calls make again: build.mk asks pkg-config
# while it is read, so the make that installed pkg-config cannot be the one that compiles.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules --no-print-directory

include build.mk

# All cores, unless the caller said otherwise.
JOBS = $(if $(findstring -j,$(MAKEFLAGS))$(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: help run stop env settings build programs deps deps-present test unit unit-programs test-programs integration lint \
	fuzz fuzz-programs bench bench-coap tls-report crypto-speed crypto-speed-programs footprint m33 clean

#: Fieldgate: devices over MQTT and CoAP in, rows in PostgreSQL out.
#: On Debian 12 or 13 `make run` is all it takes: packages that are missing are installed.
#:
#: Targets
help: ## This text
	@awk -f bin/lib/help.awk $(firstword $(MAKEFILE_LIST))

run: ## Start a whole stack in the foreground, with a demo device; Ctrl-C stops it
	@bin/install-deps run
	@$(MAKE) $(JOBS) build
	@exec bin/fieldgate-stack run

stop: ## Stop the stack that `make run` started in another terminal
	@bin/fieldgate-stack stop

env: ## Print what scripts need of the running stack: eval "$(make env)"
	@bin/fieldgate-stack env

build: deps-present ## Compile everything into build/<MODE>/ (also plain `make`)
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk
	@$(MAKE) $(JOBS) programs

programs: $(LIB) $(PLUGIN) $(PROGRAMS) $(COAP_SERVER) $(DEVICE)

deps: ## Build Mbed TLS and libcoap for the CoAP server, once; they are kept outside of build/
	@bin/install-deps run
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk

test: ## Install what tests need, build, run all tests; the last line counts them
	@bin/install-deps test firmware
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk
	@$(MAKE) $(JOBS) build unit-programs test-programs
	@$(MAKE) m33
	@bin/lib/run-tests all $(MODE)

unit: ## Run the unit tests only; MODE=asan runs them under the sanitizers
	@bin/install-deps test
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk
	@$(MAKE) $(JOBS) unit-programs
	@bin/lib/run-tests unit $(MODE)

integration: ## Run the integration tests only; PYTEST_ARGS='-k name' picks some
	@bin/install-deps test firmware
	@$(MAKE) $(JOBS) build test-programs
	@$(MAKE) m33
	@bin/lib/run-tests integration $(MODE)

lint: ## clang-format, clang-tidy, cppcheck, shellcheck, SPDX lines
	@bin/install-deps test lint
	@bin/lib/lint

fuzz: ## Run each tests/fuzz/fuzz_*.c for FUZZ_SECONDS
	@bin/install-deps test fuzz
	@deps/build --mode fuzz --make build/fuzz/deps.mk
	@$(MAKE) MODE=fuzz $(JOBS) fuzz-programs
	@bin/lib/fuzz

bench: ## Measure; QUICK=1 takes less than a minute
	@bin/install-deps bench
	@$(MAKE) $(JOBS) build test-programs
	@exec tests/bench/run

bench-coap: ## Measure the CoAP server beside libcoap's own; QUICK=1 takes less than a minute
	@bin/install-deps bench
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk
	@$(MAKE) $(JOBS) build test-programs
	@exec /usr/bin/python3 tests/bench/bench_coap.py

tls-report: ## What testssl.sh finds in a broker with our TLS profile, by severity; fails above LOW
	@bin/install-deps test
	@$(MAKE) $(JOBS) build
	@exec bin/lib/tls-report

crypto-speed: ## Measure P-256 and SHA-256 with our hooks and with Mbed TLS's own code
	@bin/install-deps test
	@deps/build --mode $(DEPS_MODE) --make $(B)/deps.mk
	@$(MAKE) $(JOBS) crypto-speed-programs
	@for program in $(CRYPTO_SPEED); do echo "$$program"; $$program; done

footprint: ## ROM and RAM of the firmware on a Cortex-M33, as measured in an emulator; fails above the limits
	@bin/install-deps test firmware
	@$(MAKE) $(JOBS) build
	@$(MAKE) m33
	@exec /usr/bin/python3 tests/bench/footprint.py

settings: ## Print the settings of fieldgate.conf as README.md shows them
	@bin/install-deps run
	@$(MAKE) $(JOBS) $(B)/tools/print_settings >&2
	@$(B)/tools/print_settings

clean: ## Remove what was built (build/); the stack's data in run/ stays
	rm -rf build

#:
#: Settings: on make's command line or in the environment
#:   RUN_DIR             run      where a stack keeps its data, keys and logs; another one is another stack
#:   MQTT_PORT           8883     port of the broker
#:   COAP_PORT           5684     port of the CoAP server (UDP)
#:   PG_PORT             5433     port of the private PostgreSQL
#:   PSK_PORT                     port of an MQTT listener for devices with pre-shared keys; not set: there is none
#:   MODE                release  release, asan (address, undefined), tsan (threads) or fuzz
#:   FUZZ_SECONDS        30       how long `make fuzz` runs each target
#:   PYTEST_ARGS                  more arguments for pytest
#:   TEST_JOBS                    integration tests at the same time (default: processors and one more)
#:   DEPS_CACHE                   where `make deps` keeps what it built (default: ~/.cache/fieldgate/deps)
#:   FIELDGATE_SKIP_DEPS          1: do not look for Debian packages, everything needed is there

deps-present:
	@bin/install-deps --check run || { echo 'make run and make test install it.' >&2; exit 1; }

# Where its compiler cannot be installed (FIELDGATE_SKIP_DEPS), the tests of it are skipped, and say so.
m33:
	@command -v arm-none-eabi-gcc >/dev/null || { echo 'No arm-none-eabi-gcc: nothing is built for Cortex-M33.' >&2; exit 0; }; \
		deps/build --mode m33 --make build/m33/deps.mk && $(MAKE) $(JOBS) m33-images

unit-programs: deps-present $(UNIT_TESTS) $(DEPS_TESTS) $(COAP_TESTS) $(FIRMWARE_TESTS) $(POSIX_TESTS)

crypto-speed-programs: deps-present $(CRYPTO_SPEED)

test-programs: deps-present $(PROVISION_SHELL) $(MQTT_LOAD) $(COAP_CLIENT) $(TOOLS) $(BENCH_PROGRAMS)

fuzz-programs: $(FUZZ_PROGRAMS)
