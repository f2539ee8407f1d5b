/* SPDX-License-Identifier: Apache-2.0 */
/* What Mbed TLS does on P-256, as calls on plain bytes, so that two builds of Mbed TLS can be
 * compared within one program. Each call returns what Mbed TLS does: 0, or one of its negative
 * errors.
 */
#pragma once

#include <stddef.h>

struct p256_calls {
	/* An ephemeral key: private scalar, and public point as X || Y. */
	int (*generate)(unsigned char d[32], unsigned char point[64]);
	/* The product's X. The point is in any form of SEC 1, section 2.3.3. */
	int (*shared)(const unsigned char d[32], const unsigned char *point, size_t point_len,
		      unsigned char z[32]);
	/* r || s, each of 32 bytes. */
	int (*sign)(const unsigned char d[32], const unsigned char *hash, size_t len,
		    unsigned char sig[64]);
	/* r || s, each half of sig_len, which may be anything. point as X || Y. */
	int (*verify)(const unsigned char point[64], const unsigned char *hash, size_t len,
		      const unsigned char *sig, size_t sig_len);
	int (*sha256)(const unsigned char *message, size_t len, unsigned char hash[32]);
};

/* The Mbed TLS that the program is linked with. */
extern const struct p256_calls p256_calls;
/* Mbed TLS without any of our hooks. */
extern const struct p256_calls reference_calls;
