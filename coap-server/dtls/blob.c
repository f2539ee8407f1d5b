/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/blob.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { /* from the end */
       TOP_AT = 28,
       WINDOW_AT = 20,
       OUT_AT = 11,
       ALPN_AT = 1,
};

static uint64_t get_64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return be64toh(n);
}

static void put_64(uint8_t *p, uint64_t n)
{
	n = htobe64(n);
	memcpy(p, &n, sizeof(n));
}

static int check_tail(const uint8_t *blob, size_t len)
{
	return len < BLOB_TAIL_LEN || blob[len - ALPN_AT] != 0 ? -EINVAL : 0;
}

int blob_counters(const uint8_t *blob, size_t len, struct blob_counters *out)
{
	int rc = check_tail(blob, len);

	if (rc)
		return rc;
	out->out = get_64(blob + len - OUT_AT);
	out->top = get_64(blob + len - TOP_AT);
	out->window = get_64(blob + len - WINDOW_AT);
	return 0;
}

int blob_patch(uint8_t *blob, size_t len, const struct blob_counters *c)
{
	int rc = check_tail(blob, len);

	if (rc)
		return rc;
	put_64(blob + len - OUT_AT, c->out);
	put_64(blob + len - TOP_AT, c->top);
	put_64(blob + len - WINDOW_AT, c->window);
	return 0;
}

void blob_received(struct blob_counters *c, uint64_t seq)
{
	seq &= RECORD_SEQUENCE_MASK;
	if (seq > c->top) {
		uint64_t shift = seq - c->top;

		c->window = shift >= 64 ? 1 : c->window << shift | 1;
		c->top = seq;
	} else if (c->top - seq < 64) {
		c->window |= UINT64_C(1) << (c->top - seq);
	}
}
