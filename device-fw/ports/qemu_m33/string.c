/* SPDX-License-Identifier: Apache-2.0 */
/* What the compiler, the core and Mbed TLS need of <string.h>, as short as it can be: newlib's is
 * made for speed, and takes 800 bytes. */
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
	return memmove(to, from, length);
}

void *memmove(void *to, const void *from, size_t length)
{
	unsigned char *out = to;
	const unsigned char *in = from;

	if (out <= in)
		while (length-- > 0)
			*out++ = *in++;
	else
		while (length-- > 0)
			out[length] = in[length];
	return to;
}

void *memset(void *to, int value, size_t length)
{
	unsigned char *out = to;

	while (length-- > 0)
		*out++ = (unsigned char)value;
	return to;
}

int memcmp(const void *left, const void *right, size_t length)
{
	const unsigned char *a = left, *b = right;

	for (; length > 0; a++, b++, length--)
		if (*a != *b)
			return *a - *b;
	return 0;
}

size_t strlen(const char *text)
{
	const char *end = text;

	while (*end != '\0')
		end++;
	return (size_t)(end - text);
}
