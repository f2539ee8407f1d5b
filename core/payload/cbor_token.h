/* SPDX-License-Identifier: Apache-2.0 */
/* One head of CBOR at a time, with the text or bytes behind it. Stateless; any thread. */
#ifndef FG_PAYLOAD_CBOR_TOKEN_H
#define FG_PAYLOAD_CBOR_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cbor_token_type {
	CBOR_TOKEN_INTEGER,
	CBOR_TOKEN_NUMBER, /* also an integer outside int64 */
	CBOR_TOKEN_TEXT,
	CBOR_TOKEN_TEXT_START, /* ..._START: of indefinite length */
	CBOR_TOKEN_BYTES,
	CBOR_TOKEN_BYTES_START,
	CBOR_TOKEN_ARRAY,
	CBOR_TOKEN_ARRAY_START,
	CBOR_TOKEN_MAP,
	CBOR_TOKEN_MAP_START,
	CBOR_TOKEN_TAG,
	CBOR_TOKEN_BOOL,
	CBOR_TOKEN_NULL, /* or undefined */
	CBOR_TOKEN_BREAK,
};

struct cbor_token {
	enum cbor_token_type type;
	union {
		int64_t integer;
		double number;
		uint64_t count; /* items announced, or the tag */
		bool boolean;
		struct {
			const char *data;
			size_t len;
		} text;
	} u;
};

/*
 * Read the token at data; *read says how many bytes it has. Text points into data. 0; -ENODATA: len
 * bytes do not hold it; -EBADMSG: a reserved head, or a simple value that nobody has assigned.
 */
int cbor_token_read(const unsigned char *data, size_t len, struct cbor_token *t, size_t *read);

#endif
