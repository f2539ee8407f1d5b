/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/record.h"

#include <errno.h>
#include <string.h>

enum {
	VERSION_MAJOR = 0xfe, /* DTLS 1.x */
	VERSION_DTLS10_MINOR = 0xff,
	MESSAGE_HEADER_LEN = 12,
	MESSAGE_CLIENT_HELLO = 1,
	MESSAGE_HELLO_VERIFY_REQUEST = 3,
	SESSION_ID_MAX = 32,
	EXTENSION_EXTENDED_MASTER_SECRET = 23, /* RFC 7627 */
};

static size_t get_16(const uint8_t *p)
{
	return (size_t)p[0] << 8 | p[1];
}

static size_t get_24(const uint8_t *p)
{
	return (size_t)p[0] << 16 | get_16(p + 1);
}

static uint64_t get_64(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

static void put_16(uint8_t *p, size_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

int dtls_record_parse(struct record *out, const uint8_t *data, size_t len)
{
	size_t header = RECORD_HEADER_LEN;

	if (len < RECORD_HEADER_LEN || data[1] != VERSION_MAJOR)
		return -EBADMSG;
	memset(out, 0, sizeof(*out));
	out->type = data[0];
	if (out->type == RECORD_CID) {
		header = RECORD_CID_HEADER_LEN;
		out->cid = data + 11;
	} else if (out->type < RECORD_CHANGE_CIPHER_SPEC || out->type > RECORD_APPLICATION_DATA) {
		return -EBADMSG;
	}
	if (len < header)
		return -EBADMSG;
	out->epoch = (uint16_t)get_16(data + 3);
	out->number = get_64(data + 3);
	out->body = data + header;
	out->body_len = get_16(data + header - 2);
	out->bytes = data;
	out->len = header + out->body_len;
	return out->body_len == 0 || out->len > len ? -EBADMSG : 0;
}

bool record_is_hello(const struct record *r)
{
	return r->type == RECORD_HANDSHAKE && r->epoch == 0 && r->body[0] == MESSAGE_CLIENT_HELLO;
}

/* Takes a vector with a length of one or two bytes off the front. */
static int take_vector(const uint8_t **p, const uint8_t *end, size_t length_len,
		       const uint8_t **vector, size_t *len)
{
	if ((size_t)(end - *p) < length_len)
		return -EBADMSG;
	*len = length_len == 1 ? (*p)[0] : get_16(*p);
	*p += length_len;
	if ((size_t)(end - *p) < *len)
		return -EBADMSG;
	*vector = *p;
	*p += *len;
	return 0;
}

static bool has_extension(const uint8_t *p, const uint8_t *end, size_t wanted)
{
	const uint8_t *extensions, *data;
	size_t len, data_len;

	if (take_vector(&p, end, 2, &extensions, &len))
		return false;
	for (p = extensions, end = extensions + len; end - p >= 4;) {
		size_t type = get_16(p);

		p += 2;
		if (take_vector(&p, end, 2, &data, &data_len))
			return false;
		if (type == wanted)
			return true;
	}
	return false;
}

int hello_parse(struct hello *out, const struct record *r)
{
	const uint8_t *p = r->body, *end = r->body + r->body_len, *vector;
	size_t offset, len, total, ignored;

	memset(out, 0, sizeof(*out));
	if (r->body_len < MESSAGE_HEADER_LEN)
		return -EBADMSG;
	total = get_24(p + 1);
	offset = get_24(p + 6);
	len = get_24(p + 9);
	if (len != r->body_len - MESSAGE_HEADER_LEN || offset + len > total)
		return -EBADMSG;
	out->first = offset == 0;
	out->whole = len == total;
	if (!out->first)
		return 0;

	p += MESSAGE_HEADER_LEN;
	if (len < 2 + HELLO_RANDOM_LEN)
		return -EBADMSG;
	out->random = p + 2;
	p += 2 + HELLO_RANDOM_LEN;
	if (take_vector(&p, end, 1, &vector, &ignored) || ignored > SESSION_ID_MAX ||
	    take_vector(&p, end, 1, &out->cookie, &out->cookie_len))
		return -EBADMSG;
	if (out->whole && take_vector(&p, end, 2, &vector, &ignored) == 0 &&
	    take_vector(&p, end, 1, &vector, &ignored) == 0)
		out->extended_master_secret =
			has_extension(p, end, EXTENSION_EXTENDED_MASTER_SECRET);
	return 0;
}

/*
 * The record has the number of the one it answers, so that nothing needs to be kept (RFC 6347
 * section 4.2.1), and the version is DTLS 1.0, whatever will be negotiated (the same section).
 */
size_t hello_verify_request(uint8_t out[HELLO_VERIFY_MAX], const struct record *r,
			    const uint8_t *cookie, size_t cookie_len)
{
	size_t body = 3 + cookie_len;
	uint8_t *p = out + RECORD_HEADER_LEN;

	memset(out, 0, RECORD_HEADER_LEN + MESSAGE_HEADER_LEN);
	out[0] = RECORD_HANDSHAKE;
	out[1] = VERSION_MAJOR;
	out[2] = VERSION_DTLS10_MINOR;
	memcpy(out + 3, r->bytes + 3, 8);
	put_16(out + 11, MESSAGE_HEADER_LEN + body);

	p[0] = MESSAGE_HELLO_VERIFY_REQUEST;
	put_16(p + 2, body);
	put_16(p + 10, body);
	p += MESSAGE_HEADER_LEN;
	p[0] = VERSION_MAJOR;
	p[1] = VERSION_DTLS10_MINOR;
	p[2] = (uint8_t)cookie_len;
	memcpy(p + 3, cookie, cookie_len);
	return RECORD_HEADER_LEN + MESSAGE_HEADER_LEN + body;
}
