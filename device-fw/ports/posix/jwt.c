/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/jwt.h"

#include <errno.h>
#include <inttypes.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HALF	    32 /* bytes of r, and of s */
#define DIGEST	    32
#define CLAIMS_SIZE 192

struct jwt_key {
	mbedtls_pk_context pk;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
};

static int read_key(struct jwt_key *k, const char *file)
{
	int rc = mbedtls_ctr_drbg_seed(&k->random, mbedtls_entropy_func, &k->entropy, NULL, 0);

	return rc ? rc
		  : mbedtls_pk_parse_keyfile(&k->pk, file, NULL, mbedtls_ctr_drbg_random,
					     &k->random);
}

struct jwt_key *jwt_key_read(const char *file, char *error, size_t size)
{
	struct jwt_key *k = calloc(1, sizeof(*k));
	char reason[128];
	int rc;

	if (!k) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	mbedtls_pk_init(&k->pk);
	mbedtls_entropy_init(&k->entropy);
	mbedtls_ctr_drbg_init(&k->random);
	rc = read_key(k, file);
	if (rc == 0 && mbedtls_pk_can_do(&k->pk, MBEDTLS_PK_ECDSA) &&
	    mbedtls_ecp_keypair_get_group_id(mbedtls_pk_ec(k->pk)) == MBEDTLS_ECP_DP_SECP256R1)
		return k;
	mbedtls_strerror(rc, reason, sizeof(reason));
	snprintf(error, size, "%s: %s", file, rc ? reason : "no P-256 key, which ES256 needs");
	jwt_key_free(k);
	return NULL;
}

void jwt_key_free(struct jwt_key *k)
{
	if (!k)
		return;
	mbedtls_pk_free(&k->pk);
	mbedtls_ctr_drbg_free(&k->random);
	mbedtls_entropy_free(&k->entropy);
	free(k);
}

struct text {
	char *at;
	size_t left; /* with room for the NUL */
};

static int append(struct text *t, char c)
{
	if (t->left < 2)
		return -EMSGSIZE;
	*t->at++ = c;
	*t->at = '\0';
	t->left--;
	return 0;
}

/* RFC 7515 section 2: without padding. */
static int append_base64url(struct text *t, const void *bytes, size_t length)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const uint8_t *from = bytes;
	uint32_t held = 0;
	unsigned bits = 0;
	int rc = 0;

	for (size_t i = 0; i < length; i++) {
		held = held << 8 | from[i];
		for (bits += 8; bits >= 6; bits -= 6)
			rc |= append(t, digits[held >> (bits - 6) & 63]);
	}
	if (bits)
		rc |= append(t, digits[held << (6 - bits) & 63]);
	return rc ? -EMSGSIZE : 0;
}

/* r and s one after the other, not the DER that mbedtls_pk_sign makes. */
static int sign(struct jwt_key *k, const char *text, size_t length, uint8_t signature[2 * HALF])
{
	mbedtls_ecp_keypair *pair = mbedtls_pk_ec(k->pk);
	uint8_t digest[DIGEST];
	mbedtls_ecp_group group;
	mbedtls_mpi r, s, d;
	int rc = mbedtls_sha256((const unsigned char *)text, length, digest, 0);

	mbedtls_ecp_group_init(&group);
	mbedtls_mpi_init(&r);
	mbedtls_mpi_init(&s);
	mbedtls_mpi_init(&d);
	rc = rc ? rc : mbedtls_ecp_export(pair, &group, &d, NULL);
	rc = rc ? rc
		: mbedtls_ecdsa_sign(&group, &r, &s, &d, digest, DIGEST, mbedtls_ctr_drbg_random,
				     &k->random);
	rc = rc ? rc : mbedtls_mpi_write_binary(&r, signature, HALF);
	rc = rc ? rc : mbedtls_mpi_write_binary(&s, signature + HALF, HALF);
	mbedtls_mpi_free(&d);
	mbedtls_mpi_free(&s);
	mbedtls_mpi_free(&r);
	mbedtls_ecp_group_free(&group);
	return rc ? -EIO : 0;
}

int jwt_make(struct jwt_key *k, const char *subject, int64_t now_s, char *out, size_t size)
{
	static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}";
	struct text t = {out, size};
	uint8_t signature[2 * HALF];
	char claims[CLAIMS_SIZE];
	int length = snprintf(claims, sizeof(claims),
			      "{\"sub\":\"%s\",\"iat\":%" PRId64 ",\"exp\":%" PRId64 "}", subject,
			      now_s, now_s + JWT_LIFETIME_S);

	if (length >= (int)sizeof(claims) || append_base64url(&t, header, strlen(header)) != 0 ||
	    append(&t, '.') != 0 || append_base64url(&t, claims, (size_t)length) != 0)
		return -EMSGSIZE;
	if (sign(k, out, (size_t)(t.at - out), signature) != 0)
		return -EIO;
	if (append(&t, '.') != 0 || append_base64url(&t, signature, sizeof(signature)) != 0)
		return -EMSGSIZE;
	return (int)(t.at - out);
}
