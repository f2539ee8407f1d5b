/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing run of bytes. Memory is kept over bytes_clear, so the steady state calls malloc never.
 * Running out of memory is remembered in `failed`: whoever builds something checks once, at its
 * end.
 */
#ifndef FG_STORE_BYTES_H
#define FG_STORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	unsigned char *data;
	size_t len, size;
	bool failed;
};

/* A piece of a struct bytes that may move while it grows: so an offset, not a pointer. */
struct span {
	uint32_t at, len;
};

/* Slow path of bytes_room. */
unsigned char *bytes_grow(struct bytes *b, size_t n);

/* n uninitialised bytes at the end; NULL (and b->failed) without memory. */
static inline unsigned char *bytes_room(struct bytes *b, size_t n)
{
	unsigned char *p;

	if (b->failed || n > b->size - b->len)
		return bytes_grow(b, n);
	p = b->data + b->len;
	b->len += n;
	return p;
}

static inline void bytes_put(struct bytes *b, const void *data, size_t n)
{
	unsigned char *p = bytes_room(b, n);

	if (p && n > 0)
		memcpy(p, data, n);
}

static inline void bytes_put_byte(struct bytes *b, unsigned char c)
{
	unsigned char *p = bytes_room(b, 1);

	if (p)
		*p = c;
}

static inline void bytes_put_string(struct bytes *b, const char *s)
{
	bytes_put(b, s, strlen(s));
}

static inline void bytes_clear(struct bytes *b)
{
	b->len = 0;
	b->failed = false;
}

void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The run from `at` to the end. */
static inline struct span bytes_since(const struct bytes *b, size_t at)
{
	return (struct span){(uint32_t)at, (uint32_t)(b->len - at)};
}

void bytes_free(struct bytes *b);

#endif
