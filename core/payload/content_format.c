/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/content_format.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/payload/text.h"
#include "core/payload/value.h"

#define ARENA_CHUNK 4096
#define ARENA_RATIO 64 /* a decoded document is at most this many times its text */
#define DEPTH_MAX   64

static bool decodes(bool json, const void *data, size_t len)
{
	const struct decode_limits limits = {
		.max_bytes = len,
		.max_depth = DEPTH_MAX,
		.max_readings = UINT_MAX,
	};
	struct arena arena;
	struct value v;
	char reason[64];
	int rc;

	arena_init(&arena, ARENA_CHUNK, ARENA_CHUNK + len * ARENA_RATIO);
	rc = json ? json_decode(&arena, data, len, &limits, &v, reason, sizeof(reason))
		  : cbor_decode(&arena, data, len, &limits, &v, reason, sizeof(reason));
	arena_free(&arena);
	return rc == 0;
}

static bool is_text(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
			return false;
	}
	return text_is_valid(s, len);
}

enum content_format payload_content_format(const void *data, size_t len)
{
	if (len == 0)
		return CONTENT_FORMAT_NONE;
	if (decodes(true, data, len))
		return CONTENT_FORMAT_JSON;
	if (is_text(data, len))
		return CONTENT_FORMAT_TEXT;
	return decodes(false, data, len) ? CONTENT_FORMAT_CBOR : CONTENT_FORMAT_BYTES;
}
