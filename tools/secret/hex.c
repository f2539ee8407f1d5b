/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "core/base/hex.h"
#include "tools/secret/tool.h"

int tool_fail(const char *what, const char *why)
{
	fprintf(stderr, "fieldgate-secret: %s: %s\n", what, why);
	return 1;
}

size_t tool_parse_hex(uint8_t *out, size_t max, const char *hex, size_t len)
{
	return len / 2 <= max && hex_parse(out, hex, len) ? len / 2 : 0;
}
