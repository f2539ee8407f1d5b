/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NOR flash as on the nRF9160, in memory: words of 4 bytes that are written at most twice between
 * erases, writes that only clear bits, sectors. Power can be cut at any word or in the middle of an
 * erase, and each call can be made to fail. What a driver would do to hurt the flash fails the
 * test.
 */
#ifndef TESTS_FIRMWARE_FLASH_H
#define TESTS_FIRMWARE_FLASH_H

#include "device-fw/core/port.h"

#include <setjmp.h>

struct flash {
	struct fg_flash_geometry geometry;
	struct fg_port port; /* only its flash_... functions */
	uint8_t *bytes, *writes;
	uint32_t erases;

	jmp_buf *cut;	  /* where the test goes on when the power has failed */
	long cut_after;	  /* word writes and erases until then; negative: never */
	long fail_call;	  /* this call, counted down from here, fails; negative: none */
	long calls;	  /* since the test set it to 0 */
	long fail_length; /* how many calls in a row fail */
	uint32_t noise;	  /* what a half erased sector holds */
};

void flash_init(struct flash *f, uint32_t sector_size, uint32_t sectors);
void flash_free(struct flash *f);

#endif
