/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key is compared byte by byte with the one form of a P-256 key that there is (RFC 5480 section
 * 2): no other curve, no curve with parameters of its own, and no private key gets any further.
 *
 * libjwt judges the signature. Its API of 1.10 and 1.17 is the same as far as it is used here, and
 * takes keys as PEM only; to read one costs OpenSSL 3.0 several times what the signature costs. So
 * that forged tokens do not cost that much, Mbed TLS looks first, and only a signature that is good
 * goes on: what is accepted, both have accepted.
 */
#include "coap-server/auth/jwt_internal.h"

#include <errno.h>
#include <string.h>

#include <jwt.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/sha256.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define SPKI_LEN 91
#define PEM_HEAD "-----BEGIN PUBLIC KEY-----\n"
#define PEM_TAIL "-----END PUBLIC KEY-----\n"
#define PEM_LINE 48 /* bytes that one line of 64 characters stands for, RFC 7468 section 2 */
#define PEM_MAX	 256

#define POINT_AT  (SPKI_LEN - POINT_LEN)
#define POINT_LEN 65 /* 04, x, y: SEC 1 section 2.3.3 */

/* SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING { uncompressed point ... */
static const uint8_t spki_head[] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
};

_Static_assert(sizeof(spki_head) + POINT_LEN - 1 == SPKI_LEN, "the head ends with the point's 04");

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

/* 0, or a code of Mbed TLS. */
static int look(const uint8_t *point, const char *signed_text, size_t len,
		const uint8_t signature[JWT_SIGNATURE_LEN])
{
	mbedtls_ecp_group group;
	mbedtls_ecp_point q;
	mbedtls_mpi r, s;
	uint8_t digest[32];
	int rc;

	mbedtls_ecp_group_init(&group);
	mbedtls_ecp_point_init(&q);
	mbedtls_mpi_init(&r);
	mbedtls_mpi_init(&s);
	rc = mbedtls_sha256((const unsigned char *)signed_text, len, digest, 0);
	if (rc == 0)
		rc = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1);
	if (rc == 0)
		rc = mbedtls_ecp_point_read_binary(&group, &q, point, POINT_LEN);
	if (rc == 0)
		rc = mbedtls_mpi_read_binary(&r, signature, JWT_SIGNATURE_LEN / 2);
	if (rc == 0)
		rc = mbedtls_mpi_read_binary(&s, signature + JWT_SIGNATURE_LEN / 2,
					     JWT_SIGNATURE_LEN / 2);
	if (rc == 0)
		rc = mbedtls_ecdsa_verify(&group, digest, sizeof(digest), &q, &r, &s);
	mbedtls_ecp_group_free(&group);
	mbedtls_ecp_point_free(&q);
	mbedtls_mpi_free(&r);
	mbedtls_mpi_free(&s);
	return rc;
}

int jwt_key_verify(const struct credential *c, const char *token,
		   const uint8_t signature[JWT_SIGNATURE_LEN], const char **problem)
{
	size_t signed_len = (size_t)(strrchr(token, '.') - token);
	char pem[PEM_MAX];
	jwt_t *jwt = NULL;
	int rc = check_row(c, problem);

	if (rc != 0)
		return rc;
	rc = look(c->material + POINT_AT, token, signed_len, signature);
	if (rc != 0)
		return rc == MBEDTLS_ERR_ECP_ALLOC_FAILED || rc == MBEDTLS_ERR_MPI_ALLOC_FAILED
			       ? -ENOMEM
			       : -EKEYREJECTED;
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
