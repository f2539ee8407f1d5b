/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/base64url.h"

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	return c == '_' ? 63 : -1;
}

bool base64url_char(char c)
{
	return value_of(c) >= 0;
}

bool base64url_decode(uint8_t *out, const char *text, size_t len)
{
	uint32_t held = 0;
	unsigned bits = 0;

	if (len % 4 == 1)
		return false;
	for (size_t i = 0; i < len; i++) {
		int value = value_of(text[i]);

		if (value < 0)
			return false;
		held = held << 6 | (uint32_t)value;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		*out++ = (uint8_t)(held >> bits);
		held &= (1u << bits) - 1;
	}
	return held == 0;
}
