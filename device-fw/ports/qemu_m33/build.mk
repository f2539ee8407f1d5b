# SPDX-License-Identifier: Apache-2.0
# Images for a Cortex-M33, in build/m33/ whatever MODE is. All of a program is compiled at once, at the link (-flto);
# the core for these, too.
M33 := build/m33
M33_PORT := device-fw/ports/qemu_m33
M33_CC := arm-none-eabi-gcc
M33_ARCH := -mcpu=cortex-m33 -mthumb -mfloat-abi=soft
# For size: as deps/build has it for Mbed TLS.
M33_SMALL := -Os -flto -fno-inline-small-functions -fno-move-loop-invariants -fno-tree-loop-im -fno-expensive-optimizations \
	-fno-guess-branch-probability -ffunction-sections -fdata-sections
M33_CFLAGS = -std=c11 -pedantic $(WARN) $(M33_ARCH) $(M33_SMALL) -g \
	-DFG_COAP_REQUEST_MAX=512 -DFG_COAP_BODY_MAX=256 -DFG_COAP_BLOCK_SZX=4 -DFG_WITH_MQTT=0
M33_LDFLAGS := $(M33_ARCH) $(M33_SMALL) -flto-partition=one -nostartfiles --specs=nano.specs -T $(M33_PORT)/m33.ld -Wl,--gc-sections

# The last word of "DEPS := DIRECTORY", which deps/build has written.
M33_DEPS = $(lastword $(file <$(M33)/deps.mk))
M33_CORE := $(patsubst %.c,$(M33)/%.o,$(wildcard device-fw/core/*.c))
M33_BOARD := $(patsubst %,$(M33)/$(M33_PORT)/%.o,startup string aes clock uart heap dtls main)
M33_IMAGES := $(patsubst %,$(M33)/%.elf,device device-log core agent)

.PHONY: m33-images
m33-images: $(M33_IMAGES)

$(M33)/%.o: %.c $(M33)/deps.mk $(M33_PORT)/build.mk
	@mkdir -p $(@D)
	$(call run,CC)$(M33_CC) -I. -isystem $(M33_DEPS)/mbedtls/include $(M33_CFLAGS) -MMD -MP -c -o $@ $<

$(M33)/%.o: %.S
	@mkdir -p $(@D)
	$(call run,AS)$(M33_CC) $(M33_ARCH) -c -o $@ $<

# Else the compiler makes calls of memcpy and memmove of what is in them.
$(M33)/$(M33_PORT)/string.o: M33_SMALL := -Os -fno-lto -fno-builtin -fno-tree-loop-distribute-patterns

# The same with what tests want to know.
$(M33)/log/%.o: %.c $(M33)/deps.mk $(M33_PORT)/build.mk
	@mkdir -p $(@D)
	$(call run,CC)$(M33_CC) -I. -isystem $(M33_DEPS)/mbedtls/include $(M33_CFLAGS) -DFG_M33_LOG=1 -MMD -MP -c -o $@ $<

# A device, and the same with a log.
$(M33)/device.elf: $(M33_BOARD) $(M33)/$(M33_PORT)/board.o $(M33_CORE)
$(M33)/device-log.elf: $(M33_BOARD) $(M33)/log/$(M33_PORT)/board.o $(M33)/$(M33_PORT)/log.o \
	$(M33)/$(M33_PORT)/semihosting.o $(M33_CORE)
# Parts of it, for their size.
$(M33)/core.elf $(M33)/agent.elf: $(M33)/%.elf: $(patsubst %,$(M33)/$(M33_PORT)/%.o,startup string footprint_%) $(M33_CORE)

$(M33_IMAGES): $(M33_PORT)/m33.ld
	$(call run,LINK)$(M33_CC) $(M33_LDFLAGS) -Wl,-Map=$(@:.elf=.map) -o $@ $(filter %.o,$^) \
		$(M33_DEPS)/mbedtls/lib/libmbedtls.a $(M33_DEPS)/mbedtls/lib/libmbedcrypto.a

-include $(shell find $(M33) -name '*.d' 2>/dev/null)
