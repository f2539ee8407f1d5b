/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, and a public key as PEM. Pure; known to the tests on Linux. */
#ifndef FIELDGATE_ENCODE_H
#define FIELDGATE_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#define ENCODE_POINT_LENGTH 65	/* of P-256, not compressed: 04 || x || y */
#define ENCODE_PEM_SIZE	    179 /* of a public key of P-256, with the NUL */

enum encode_alphabet {
	ENCODE_BASE64,	  /* RFC 4648 section 4, with padding */
	ENCODE_BASE64URL, /* section 5, without */
};

/* The number of characters; no NUL. -EMSGSIZE: they do not fit into `size`. */
int encode_base64(char *out, size_t size, enum encode_alphabet alphabet, const void *bytes,
		  size_t length);

/* SubjectPublicKeyInfo (RFC 5480) as PEM (RFC 7468): what `fleet add --jwt-key` reads. Lines end
 * with LF. */
void encode_public_key(char out[ENCODE_PEM_SIZE], const uint8_t point[ENCODE_POINT_LENGTH]);

#endif
