/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "tools/secret/tool.h"

int tool_fail(const char *what, const char *why)
{
	fprintf(stderr, "fieldgate-secret: %s: %s\n", what, why);
	return 1;
}

void tool_print_hex(char *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

size_t tool_parse_hex(uint8_t *out, size_t max, const char *hex, size_t len)
{
	if (len % 2 != 0 || len / 2 > max)
		return 0;
	for (size_t i = 0; i < len / 2; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return len / 2;
}
