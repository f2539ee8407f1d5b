/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an nRF91 modem says of itself beside a request (AT%KEYGEN): a COSE_Sign1 (RFC 9052 section
 * 4.2) whose payload is an array of message id 9, the modem's UUID, the security tag (as CBOR in a
 * byte string), the SHA-256 of the request, and a nonce.
 *
 * Its form and the digest are checked, so that two halves of different answers are noticed. Its
 * signature is not: the public half of the modem's identity key is in nobody's hands but the
 * manufacturer's. So UUID and tag are what somebody says, good for a log and for no decision; that
 * the requester has the key, the request's own signature shows.
 */
#ifndef FG_PKI_CERT_ATTESTATION_H
#define FG_PKI_CERT_ATTESTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTESTATION_DIGEST_LEN 32
#define ATTESTATION_UUID_LEN   16

struct attestation {
	bool present; /* the payload may be null: then there is nothing below */
	uint8_t uuid[ATTESTATION_UUID_LEN];
	uint8_t digest[ATTESTATION_DIGEST_LEN];
};

/* 0, or -EBADMSG with what is wrong in err. Any thread. */
int attestation_read(struct attestation *out, const void *cose, size_t len, char *err,
		     size_t err_len);

#endif
