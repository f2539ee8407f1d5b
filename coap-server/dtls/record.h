/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in clear in a datagram: DTLS record headers (RFC 6347 section 4.1, RFC 9146 section
 * 4) and the beginning of a ClientHello (RFC 6347 section 4.2). Nothing of it is authentic. Pure
 * functions: any thread.
 */
#ifndef FG_DTLS_RECORD_H
#define FG_DTLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/dtls/endpoint.h"

enum {
	RECORD_CHANGE_CIPHER_SPEC = 20,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_APPLICATION_DATA = 23,
	RECORD_CID = 25,
};

#define RECORD_HEADER_LEN     13
#define RECORD_CID_HEADER_LEN (RECORD_HEADER_LEN + DTLS_CID_LEN)
#define HELLO_RANDOM_LEN      32
#define HELLO_COOKIE_MAX      64 /* ours have 32 bytes */
#define HELLO_VERIFY_MAX      (RECORD_HEADER_LEN + 12 + 3 + HELLO_COOKIE_MAX)

struct record {
	uint8_t type;
	uint16_t epoch;
	uint64_t number;    /* epoch and sequence number, big-endian 64 bits taken as a number */
	const uint8_t *cid; /* DTLS_CID_LEN bytes, or NULL */
	const uint8_t *body;
	size_t body_len;
	const uint8_t *bytes; /* all of it */
	size_t len;
};

/* The record at the beginning of a datagram's rest. 0; -EBADMSG: there is none that is whole. */
int dtls_record_parse(struct record *out, const uint8_t *data, size_t len);

/* Is it the clear beginning of a handshake message of this client's hello? */
bool record_is_hello(const struct record *r);

struct hello {
	bool first; /* the fragment that begins the message; else the rest of this is not set */
	bool whole; /* and ends it */
	const uint8_t *random; /* HELLO_RANDOM_LEN bytes */
	const uint8_t *cookie;
	size_t cookie_len;
	bool extended_master_secret; /* RFC 7627; known of whole ones only */
};

/* 0; -EBADMSG: malformed, or the first fragment ends before the cookie does (RFC 6347 section
 * 4.2.1: such a one cannot be answered without keeping something of it). */
int hello_parse(struct hello *out, const struct record *r);

/* HelloVerifyRequest, the answer to that record, with this cookie (at most HELLO_COOKIE_MAX bytes).
 * The length. */
size_t hello_verify_request(uint8_t out[HELLO_VERIFY_MAX], const struct record *r,
			    const uint8_t *cookie, size_t cookie_len);

#endif
