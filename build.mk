# SPDX-License-Identifier: Apache-2.0
# How things are compiled. MODE: release (default), asan, tsan, fuzz; each has its own directory under build/.
MODE ?= release
B := build/$(MODE)
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif

PKGS := jansson libcbor libpq libcrypto
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Werror
CPPFLAGS := -I. -D_GNU_SOURCE
CFLAGS := -std=c17 -g $(WARN) -fPIC -fvisibility=hidden -pthread
LDFLAGS := -pthread
ifeq ($(MODE),release)
CFLAGS += -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LDFLAGS += -Wl,-z,relro,-z,now
else ifeq ($(MODE),asan)
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS += -fsanitize=address,undefined
else ifeq ($(MODE),tsan)
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS += -fsanitize=thread
DEPS_MODE := release
else ifeq ($(MODE),fuzz)
CC := clang
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS += -fsanitize=address,undefined
else
$(error MODE=$(MODE): expected release, asan, tsan or fuzz)
endif
DEPS_MODE ?= $(MODE)

CORE_SRC := $(wildcard core/*/*.c)
CORE_OBJ := $(CORE_SRC:%.c=$(B)/%.o)
LIB := $(B)/libfieldgate.a

# fieldgate-secret, -cert and -modem are parts of pki/fleet, fieldgate-rule of bin/fieldgate; the other tools
# are for tests.
PROGRAMS := $(B)/tools/fieldgate-secret $(B)/tools/fieldgate-rule $(B)/pki/fieldgate-cert $(B)/pki/fieldgate-modem
TOOLS := $(patsubst %.c,$(B)/%,$(wildcard tools/*.c))

# Each tests/unit/test_x.c is a program of its own. A line `LINK: -Wl,--wrap=pwrite` in its head is
# added to its link command. The other files there are helpers, linked to each.
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_HELPERS := $(patsubst %.c,$(B)/%.o,$(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))
UNIT_TESTS := $(UNIT_SRC:%.c=$(B)/%)

# `make V=1` shows the commands.
run = $(if $(filter 1,$(V)),,@printf '  %-4s %s\n' $(1) $@ && )

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call run,CC)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(CORE_OBJ)
	@rm -f $@
	$(call run,AR)ar rcs $@ $^

$(UNIT_TESTS): $(B)/%: $(B)/%.o $(UNIT_HELPERS) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(PKG_LIBS) -lcmocka -lm \
		$(shell sed -n 's/^.*LINK: //p' $*.c)

# The load generator of benches and fault tests.
MQTT_LOAD := $(B)/mqtt-load
MQTT_LOAD_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard tests/tools/*.c))
$(MQTT_LOAD): $(MQTT_LOAD_OBJ) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ -lssl -lcrypto

# Benches in C are programs of one file each.
BENCH_PROGRAMS := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/*.c))

$(TOOLS) $(BENCH_PROGRAMS): $(B)/%: $(B)/%.o $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

$(B)/tools/fieldgate-secret: $(patsubst %.c,$(B)/%.o,$(wildcard tools/secret/*.c)) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

$(B)/tools/fieldgate-rule: $(patsubst %.c,$(B)/%.o,$(wildcard tools/rule/*.c)) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

# Keys, certificates and requests, for pki/fleet.
$(B)/pki/fieldgate-cert: $(patsubst %.c,$(B)/%.o,$(wildcard pki/cert/*.c)) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

# Talks to modems, for pki/fleet.
$(B)/pki/fieldgate-modem: $(patsubst %.c,$(B)/%.o,$(wildcard pki/modem/*.c)) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# The device's core: C11, nothing of ours or others' in it. tests/firmware/test_x.c are cmocka programs on top of it;
# the other files there are helpers, linked to each.
DEVICE_LIB := $(B)/libfieldgate-device.a
DEVICE_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard device-fw/core/*.c))
$(DEVICE_OBJ): CFLAGS := $(patsubst -std=%,-std=c11 -pedantic,$(CFLAGS))
$(DEVICE_LIB): $(DEVICE_OBJ)
	@rm -f $@
	$(call run,AR)ar rcs $@ $^

$(B)/tests/bench/message_sizes: $(DEVICE_LIB)

FIRMWARE_TEST_SRC := $(wildcard tests/firmware/test_*.c)
FIRMWARE_TEST_HELPERS := $(patsubst %.c,$(B)/%.o,$(filter-out $(FIRMWARE_TEST_SRC),$(wildcard tests/firmware/*.c)))
# Of the Zephyr port what needs nothing of Zephyr's.
FIRMWARE_TEST_HELPERS += $(patsubst %,$(B)/device-fw/ports/zephyr/src/%.o,console encode gesture jws thingy52)
FIRMWARE_TESTS := $(FIRMWARE_TEST_SRC:%.c=$(B)/%)
$(FIRMWARE_TESTS): $(B)/%: $(B)/%.o $(FIRMWARE_TEST_HELPERS) $(DEVICE_LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(DEVICE_LIB) $(PKG_LIBS) -lcmocka -lm \
		$(shell sed -n 's/^.*LINK: //p' $*.c)
$(B)/tests/firmware/test_m33_heap: $(B)/device-fw/ports/qemu_m33/heap.o

# Its provisioning shell between two terminals.
PROVISION_SHELL := $(B)/tests/harness/provision_shell
$(PROVISION_SHELL): $(B)/tests/harness/provision_shell.o $(B)/device-fw/ports/zephyr/src/console.o
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^

# What these test is no part of libfieldgate.a.
$(B)/tests/unit/test_plugin_sessions: $(B)/plugin/sessions.o
$(B)/tests/unit/test_plugin_log: $(B)/plugin/log_bridge.o
CSR_OBJ := $(patsubst %,$(B)/pki/cert/%.o,csr attestation spki)
$(B)/tests/unit/test_csr: $(CSR_OBJ)

# The Mosquitto plugin. It exports mosquitto_plugin_* and nothing else; the broker's own functions are
# found when it is loaded. It stays in memory when the broker unloads it: OpenSSL knows functions of it (plugin/tls.c).
PLUGIN := $(B)/fieldgate.so
PLUGIN_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard plugin/*.c))
$(PLUGIN): $(PLUGIN_OBJ) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -shared -Wl,--exclude-libs,ALL -Wl,-z,nodelete -o $@ $(PLUGIN_OBJ) $(LIB) \
		$(PKG_LIBS) -lssl -lm

# What is built against Mbed TLS and libcoap (deps/), by `make test`. deps.mk says where they are; it is written
# by deps/build and changes when they do. Everything is built twice: with the Mbed TLS that calls
# coap-server/crypto, and with mbedtls-plain, which does not.
-include $(B)/deps.mk
MBEDTLS_LIBS := libmbedtls.a libmbedx509.a libmbedcrypto.a
CRYPTO_OBJ := $(patsubst %.c,$(B)/mbedtls/%.o,$(wildcard coap-server/crypto/*.c))
DEPS_TEST_OBJ := $(patsubst %.c,%.o,$(wildcard tests/deps/test_*.c))
DEPS_TESTS :=
CRYPTO_SPEED :=

define mbedtls_flavour
$(B)/$(1)/%.o: %.c $(B)/deps.mk
	@mkdir -p $$(@D)
	$$(call run,CC)$$(CC) $$(CPPFLAGS) -isystem $$(DEPS)/$(1)/include -isystem $$(DEPS)/libcoap/include \
		$$(PKG_CFLAGS) $$(CFLAGS) -MMD -MP -c -o $$@ $$<

$(DEPS_TEST_OBJ:%.o=$(B)/$(1)/%) $(B)/$(1)/tests/deps/crypto_speed: %: %.o $(B)/$(1)/tests/deps/p256_calls.o \
		$(2) $(B)/reference_calls.o $(LIB)
	$$(call run,LINK)$$(CC) $$(LDFLAGS) -o $$@ $$^ $$(MBEDTLS_LIBS:%=$$(DEPS)/$(1)/lib/%) \
		$$(DEPS)/libcoap/lib/libcoap-3.a $$(PKG_LIBS) -lcmocka -lm

DEPS_TESTS += $(DEPS_TEST_OBJ:%.o=$(B)/$(1)/%)
CRYPTO_SPEED += $(B)/$(1)/tests/deps/crypto_speed
endef
$(eval $(call mbedtls_flavour,mbedtls,$(CRYPTO_OBJ)))
$(eval $(call mbedtls_flavour,mbedtls-plain,))

# The same core on Linux: one device, or thousands. Everything but its main file is an archive, so that tests link
# what they test.
DEVICE := $(B)/fieldgate-device
DEVICE_PORT_LIB := $(B)/libfieldgate-device-posix.a
DEVICE_PORT_OBJ := $(patsubst %.c,$(B)/mbedtls-plain/%.o,$(wildcard device-fw/ports/posix/*.c))
DEVICE_MAIN_OBJ := $(B)/mbedtls-plain/device-fw/ports/posix/main.o
DEVICE_DEPS_LIBS = $(MBEDTLS_LIBS:%=$(DEPS)/mbedtls-plain/lib/%)
$(DEVICE_PORT_LIB): $(filter-out $(DEVICE_MAIN_OBJ),$(DEVICE_PORT_OBJ))
	@rm -f $@
	$(call run,AR)ar rcs $@ $^

$(DEVICE): $(DEVICE_MAIN_OBJ) $(DEVICE_PORT_LIB) $(DEVICE_LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(DEVICE_DEPS_LIBS) -ljansson -lm

# Each tests/posix/test_x.c is a cmocka program on top of it; the other files there are linked to each.
POSIX_TEST_SRC := $(wildcard tests/posix/test_*.c)
POSIX_TEST_HELPERS := $(patsubst %.c,$(B)/mbedtls-plain/%.o,$(filter-out $(POSIX_TEST_SRC),$(wildcard tests/posix/*.c)))
POSIX_TESTS := $(POSIX_TEST_SRC:%.c=$(B)/mbedtls-plain/%)
$(POSIX_TESTS): %: %.o $(POSIX_TEST_HELPERS) $(DEVICE_PORT_LIB) $(DEVICE_LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(DEVICE_PORT_LIB) $(DEVICE_LIB) $(DEVICE_DEPS_LIBS) \
		$(PKG_LIBS) -lcmocka -lm $(shell sed -n 's/^.*LINK: //p' $(patsubst $(B)/mbedtls-plain/%,%.c,$@))

# The same core on a bare Cortex-M33.
include device-fw/ports/qemu_m33/build.mk

# fieldgate-coap. Everything but its main file is an archive, so that tests link what they test.
COAP_LIB := $(B)/libfieldgate-coap.a
COAP_LIB_OBJ := $(patsubst %.c,$(B)/mbedtls/%.o,$(wildcard coap-server/*/*.c))
COAP_SERVER := $(B)/fieldgate-coap
DEPS_LIBS = $(MBEDTLS_LIBS:%=$(DEPS)/mbedtls/lib/%) $(DEPS)/libcoap/lib/libcoap-3.a
COAP_LIBS := $(PKG_LIBS) -lmosquitto -lssl $(shell pkg-config --libs libjwt 2>/dev/null) -lm

$(COAP_LIB): $(COAP_LIB_OBJ)
	@rm -f $@
	$(call run,AR)ar rcs $@ $^

# Mbed TLS, which comes last, calls CRYPTO_OBJ: the linker must not have passed it over by then.
$(COAP_SERVER): $(B)/mbedtls/coap-server/main.o $(CRYPTO_OBJ) $(COAP_LIB) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(DEPS_LIBS) $(COAP_LIBS)

# Each tests/coap/test_x.c is a cmocka program on top of that archive; the other files there, and the helpers of
# tests/unit, are linked to each.
COAP_TEST_SRC := $(wildcard tests/coap/test_*.c)
COAP_TEST_HELPERS := $(patsubst %.c,$(B)/mbedtls/%.o,$(filter-out $(COAP_TEST_SRC),$(wildcard tests/coap/*.c)))
COAP_TESTS := $(COAP_TEST_SRC:%.c=$(B)/mbedtls/%)
$(COAP_TESTS): %: %.o $(COAP_TEST_HELPERS) $(UNIT_HELPERS) $(CRYPTO_OBJ) $(COAP_LIB) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(COAP_LIB) $(LIB) $(DEPS_LIBS) $(COAP_LIBS) -lcmocka \
		$(shell sed -n 's/^.*LINK: //p' $(patsubst $(B)/mbedtls/%,%.c,$@))

# Each tests/fuzz/fuzz_x.c holds one LLVMFuzzerTestOneInput, on top of both archives and of what the tests of
# the CoAP server share; they are built with MODE=fuzz only.
FUZZ_PROGRAMS := $(patsubst %.c,$(B)/mbedtls/%,$(wildcard tests/fuzz/fuzz_*.c))
$(FUZZ_PROGRAMS): %: %.o $(COAP_TEST_HELPERS) $(CRYPTO_OBJ) $(COAP_LIB) $(LIB) $(DEVICE_LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(COAP_LIB) $(LIB) $(DEVICE_LIB) \
		$(DEPS_LIBS) $(COAP_LIBS) -lcmocka \
		$(shell sed -n 's/^.*LINK: //p' $(patsubst $(B)/mbedtls/%,%.c,$@))

$(B)/mbedtls/tests/fuzz/fuzz_csr: $(CSR_OBJ)

# The client of integration tests and benches: one or many devices with DTLS and CoAP, driven over stdin.
COAP_CLIENT := $(B)/coap-client
COAP_CLIENT_OBJ := $(patsubst %.c,$(B)/mbedtls/%.o,$(wildcard tests/coap-client/*.c))
$(COAP_CLIENT): $(COAP_CLIENT_OBJ) $(CRYPTO_OBJ) $(LIB)
	$(call run,LINK)$(CC) $(LDFLAGS) -o $@ $^ $(DEPS_LIBS) $(COAP_LIBS)

# The plain Mbed TLS for a program that has the other one too: one object, of which only one name is seen.
$(B)/reference_calls.o: $(B)/mbedtls-plain/tests/deps/p256_calls.o
	$(call run,LINK)$(LD) -r -o $@.new $< $(DEPS)/mbedtls-plain/lib/libmbedcrypto.a && \
		objcopy --keep-global-symbol=p256_calls $@.new && \
		objcopy --redefine-sym p256_calls=reference_calls $@.new && mv $@.new $@

-include $(shell find $(B) -name '*.d' 2>/dev/null)
