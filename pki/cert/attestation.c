/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/attestation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/payload/cbor_token.h"

#define TAG_COSE_SIGN1	   18	 /* RFC 9052 section 2 */
#define TAG_SELF_DESCRIBED 55799 /* RFC 8949 section 3.4.6 */
#define SIGN1_ITEMS	   4
#define HEADERS_MAX	   8
#define CSR_MESSAGE_ID	   9
#define CSR_MESSAGE_ITEMS  5
#define ES256_SIGNATURE	   64 /* bytes: RFC 9053 section 2.1, with P-256 */

struct reader {
	const unsigned char *at, *end;
};

static int next(struct reader *r, struct cbor_token *t)
{
	size_t read;

	if (cbor_token_read(r->at, (size_t)(r->end - r->at), t, &read) != 0)
		return -EBADMSG;
	r->at += read;
	return 0;
}

static bool next_is(struct reader *r, enum cbor_token_type type, struct cbor_token *t)
{
	return next(r, t) == 0 && t->type == type;
}

/* A byte string of this length. */
static bool next_bytes(struct reader *r, size_t len, const char **data)
{
	struct cbor_token t;

	if (!next_is(r, CBOR_TOKEN_BYTES, &t) || t.u.text.len != len)
		return false;
	*data = t.u.text.data;
	return true;
}

/* A map of scalars, as headers are. */
static bool skip_headers(struct reader *r)
{
	struct cbor_token t;

	if (!next_is(r, CBOR_TOKEN_MAP, &t) || t.u.count > HEADERS_MAX)
		return false;
	for (uint64_t items = 2 * t.u.count; items > 0; items--) {
		if (next(r, &t) != 0 || (t.type != CBOR_TOKEN_INTEGER &&
					 t.type != CBOR_TOKEN_BYTES && t.type != CBOR_TOKEN_TEXT))
			return false;
	}
	return true;
}

static bool is_whole_map(const struct cbor_token *t)
{
	struct reader r = {(const unsigned char *)t->u.text.data,
			   (const unsigned char *)t->u.text.data + t->u.text.len};

	/* RFC 9052 section 3: no header at all may be an empty string. */
	return t->u.text.len == 0 || (skip_headers(&r) && r.at == r.end);
}

static bool read_message(struct attestation *out, const struct cbor_token *payload)
{
	const unsigned char *data = (const unsigned char *)payload->u.text.data;
	struct reader r = {data, data + payload->u.text.len};
	const char *uuid, *digest;
	struct cbor_token t;

	if (next(&r, &t) != 0)
		return false;
	if (t.type == CBOR_TOKEN_TAG && t.u.count == TAG_SELF_DESCRIBED && next(&r, &t) != 0)
		return false;
	if (t.type != CBOR_TOKEN_ARRAY || t.u.count != CSR_MESSAGE_ITEMS)
		return false;
	if (!next_is(&r, CBOR_TOKEN_INTEGER, &t) || t.u.integer != CSR_MESSAGE_ID)
		return false;
	if (!next_bytes(&r, ATTESTATION_UUID_LEN, &uuid) || !next_is(&r, CBOR_TOKEN_BYTES, &t) ||
	    !next_bytes(&r, ATTESTATION_DIGEST_LEN, &digest) ||
	    !next_is(&r, CBOR_TOKEN_BYTES, &t) || r.at != r.end)
		return false;
	memcpy(out->uuid, uuid, ATTESTATION_UUID_LEN);
	memcpy(out->digest, digest, ATTESTATION_DIGEST_LEN);
	out->present = true;
	return true;
}

static const char *fault_of(struct attestation *out, struct reader *r)
{
	struct cbor_token t, payload;
	const char *signature;

	if (!next_is(r, CBOR_TOKEN_TAG, &t) || t.u.count != TAG_COSE_SIGN1 ||
	    !next_is(r, CBOR_TOKEN_ARRAY, &t) || t.u.count != SIGN1_ITEMS)
		return "is no COSE_Sign1";
	if (!next_is(r, CBOR_TOKEN_BYTES, &t) || !is_whole_map(&t) || !skip_headers(r))
		return "has headers that are none of COSE";
	if (next(r, &payload) != 0 ||
	    (payload.type != CBOR_TOKEN_BYTES && payload.type != CBOR_TOKEN_NULL))
		return "has no payload";
	if (payload.type == CBOR_TOKEN_BYTES && !read_message(out, &payload))
		return "has a payload that is not a modem's message about a request";
	if (!next_bytes(r, ES256_SIGNATURE, &signature))
		return "has no ES256 signature: is the end missing?";
	return r->at == r->end ? NULL : "has bytes behind its end";
}

int attestation_read(struct attestation *out, const void *cose, size_t len, char *err,
		     size_t err_len)
{
	struct reader r = {cose, (const unsigned char *)cose + len};
	const char *fault;

	memset(out, 0, sizeof(*out));
	fault = fault_of(out, &r);
	if (!fault)
		return 0;
	snprintf(err, err_len, "the modem's attestation (behind the dot) %s", fault);
	return -EBADMSG;
}
