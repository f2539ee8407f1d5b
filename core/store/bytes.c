/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES_FIRST 4096
#define BYTES_MAX   UINT32_MAX /* struct span; PostgreSQL takes 1 GiB at once in any case */

unsigned char *bytes_grow(struct bytes *b, size_t n)
{
	size_t size = b->size ? b->size : BYTES_FIRST;
	unsigned char *data;

	if (b->failed || n > BYTES_MAX - b->len) {
		b->failed = true;
		return NULL;
	}
	while (size - b->len < n)
		size *= 2;
	data = realloc(b->data, size);
	if (!data) {
		b->failed = true;
		return NULL;
	}
	b->data = data;
	b->size = size;
	b->len += n;
	return data + b->len - n;
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
	va_list ap, again;
	unsigned char *p;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = n < 0 ? NULL : bytes_room(b, (size_t)n + 1);
	if (p) {
		vsnprintf((char *)p, (size_t)n + 1, fmt, again);
		b->len--; /* the NUL */
	} else {
		b->failed = true;
	}
	va_end(again);
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){0};
}
