/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libjwt, whose API of 1.10 and 1.17 is the same as far as it is used here, takes keys as PEM only,
 * so each is wrapped on the way. A key is compared byte by byte with the one form of a P-256 key
 * that there is (RFC 5480 section 2): no other curve, no curve with parameters of its own, and no
 * private key gets any further.
 */
#include "coap-server/auth/jwt_internal.h"

#include <errno.h>
#include <string.h>

#include <jwt.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define SPKI_LEN 91
#define PEM_HEAD "-----BEGIN PUBLIC KEY-----\n"
#define PEM_TAIL "-----END PUBLIC KEY-----\n"
#define PEM_LINE 48 /* bytes that one line of 64 characters stands for, RFC 7468 section 2 */
#define PEM_MAX	 256

/* SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING { uncompressed point ... */
static const uint8_t spki_head[] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
};

_Static_assert(sizeof(spki_head) + 64 == SPKI_LEN, "head, x and y");

static int check_row(const struct credential *c, const char **problem)
{
	uint8_t digest[FINGERPRINT_LEN];

	if (c->material_len != SPKI_LEN || memcmp(c->material, spki_head, sizeof(spki_head)) != 0) {
		*problem = "`material` is no P-256 public key (DER SubjectPublicKeyInfo, named "
			   "curve, uncompressed point)";
		return -EINVAL;
	}
	if (EVP_Digest(c->material, SPKI_LEN, digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	/* The primary key on fingerprint is what keeps one key from belonging to two devices. */
	if (memcmp(digest, c->fingerprint, FINGERPRINT_LEN) != 0) {
		*problem = "`fingerprint` is not the SHA-256 of `material`";
		return -EINVAL;
	}
	return 0;
}

/* Returns the length without the NUL. */
static size_t to_pem(char pem[PEM_MAX], const uint8_t spki[SPKI_LEN])
{
	char *p = stpcpy(pem, PEM_HEAD);

	for (size_t at = 0; at < SPKI_LEN; at += PEM_LINE) {
		size_t n = SPKI_LEN - at < PEM_LINE ? SPKI_LEN - at : PEM_LINE;

		p += EVP_EncodeBlock((unsigned char *)p, spki + at, (int)n);
		*p++ = '\n';
	}
	p = stpcpy(p, PEM_TAIL);
	return (size_t)(p - pem);
}

int jwt_key_verify(const struct credential *c, const char *token, const char **problem)
{
	char pem[PEM_MAX];
	jwt_t *jwt = NULL;
	int rc = check_row(c, problem);

	if (rc != 0)
		return rc;
	/* The thread is often in the middle of something else of OpenSSL's. */
	ERR_set_mark();
	rc = jwt_decode(&jwt, token, (const unsigned char *)pem, (int)to_pem(pem, c->material));
	ERR_pop_to_mark();
	if (rc == 0 && jwt_get_alg(jwt) != JWT_ALG_ES256)
		rc = EINVAL;
	jwt_free(jwt);
	if (rc == ENOMEM)
		return -ENOMEM;
	return rc == 0 ? 0 : -EKEYREJECTED;
}
