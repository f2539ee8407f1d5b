/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/firmware/flash.h"

#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t noise(struct flash *f)
{
	f->noise ^= f->noise << 13;
	f->noise ^= f->noise >> 17;
	f->noise ^= f->noise << 5;
	return f->noise;
}

static size_t size_of(const struct flash *f)
{
	return (size_t)f->geometry.sector_size * f->geometry.sectors;
}

static bool fails(struct flash *f)
{
	long call = f->calls++;

	return f->fail_call >= 0 && call >= f->fail_call && call < f->fail_call + f->fail_length;
}

static bool power_fails(struct flash *f)
{
	return f->cut_after >= 0 && f->cut_after-- == 0;
}

static int flash_read(void *ctx, uint32_t offset, void *out, size_t length)
{
	struct flash *f = ctx;

	assert_true(offset <= size_of(f) && length <= size_of(f) - offset);
	if (fails(f))
		return -EIO;
	memcpy(out, f->bytes + offset, length);
	return 0;
}

static int flash_write(void *ctx, uint32_t offset, const void *bytes, size_t length)
{
	struct flash *f = ctx;
	const uint8_t *from = bytes;

	assert_true(offset <= size_of(f) && length <= size_of(f) - offset);
	assert_int_equal(offset % 4, 0);
	assert_int_equal(length % 4, 0);
	assert_true(offset / f->geometry.sector_size ==
		    (offset + length - 1) / f->geometry.sector_size);
	if (fails(f)) {
		/* It may have got anywhere. */
		length = noise(f) % (length + 1) & ~(size_t)3;
		for (size_t i = 0; i < length; i++)
			f->bytes[offset + i] &= from[i];
		return -EIO;
	}
	for (size_t i = 0; i < length; i += 4) {
		if (power_fails(f))
			longjmp(*f->cut, 1);
		assert_in_range(++f->writes[(offset + i) / 4], 1, 2);
		for (size_t k = 0; k < 4; k++)
			f->bytes[offset + i + k] &= from[i + k];
	}
	return 0;
}

static int flash_erase(void *ctx, uint32_t offset)
{
	struct flash *f = ctx;
	const uint32_t size = f->geometry.sector_size;
	bool cut, failed;

	assert_int_equal(offset % size, 0);
	assert_true(offset < size_of(f));
	failed = fails(f);
	cut = power_fails(f);
	if (failed && noise(f) % 2 == 0)
		return -EIO;
	memset(f->writes + offset / 4, 0, size / 4);
	f->erases++;
	if (!cut && !failed) {
		memset(f->bytes + offset, 0xff, size);
		return 0;
	}
	/* Erasing sets bits, in no order that anybody promises. */
	for (uint32_t i = 0; i < size; i++) {
		uint32_t how = noise(f) % 4;

		if (how == 0)
			f->bytes[offset + i] |= (uint8_t)noise(f);
		else if (how == 1)
			f->bytes[offset + i] = 0xff;
		else if (how == 2)
			f->bytes[offset + i] = (uint8_t)noise(f);
	}
	if (cut)
		longjmp(*f->cut, 1);
	return -EIO;
}

void flash_init(struct flash *f, uint32_t sector_size, uint32_t sectors)
{
	*f = (struct flash){.geometry = {.sector_size = sector_size,
					 .sectors = sectors,
					 .write_size = 4,
					 .erased = 0xff},
			    .port = {.flash_read = flash_read,
				     .flash_write = flash_write,
				     .flash_erase = flash_erase},
			    .cut_after = -1,
			    .fail_call = -1,
			    .fail_length = 1,
			    .noise = 2463534242u};
	f->port.flash = &f->geometry;
	f->bytes = malloc(size_of(f));
	f->writes = calloc(size_of(f) / 4, 1);
	assert_non_null(f->bytes);
	assert_non_null(f->writes);
	memset(f->bytes, 0xff, size_of(f));
}

void flash_free(struct flash *f)
{
	free(f->bytes);
	free(f->writes);
}
