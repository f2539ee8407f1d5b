/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled twice into each test program: against the Mbed TLS under test, and against the plain
 * one, whose symbols are then hidden (build.mk).
 */
#include "tests/deps/p256_calls.h"

#include <mbedtls/ecdh.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/sha256.h>
#include <sys/random.h>

struct numbers {
	mbedtls_ecp_group group;
	mbedtls_ecp_point point;
	mbedtls_mpi d, r, s;
};

static int rng(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	return getrandom(out, len, 0) == (ssize_t)len ? 0 : -1;
}

static int init(struct numbers *n)
{
	mbedtls_ecp_group_init(&n->group);
	mbedtls_ecp_point_init(&n->point);
	mbedtls_mpi_init(&n->d);
	mbedtls_mpi_init(&n->r);
	mbedtls_mpi_init(&n->s);
	return mbedtls_ecp_group_load(&n->group, MBEDTLS_ECP_DP_SECP256R1);
}

static int end(struct numbers *n, int ret)
{
	mbedtls_ecp_group_free(&n->group);
	mbedtls_ecp_point_free(&n->point);
	mbedtls_mpi_free(&n->d);
	mbedtls_mpi_free(&n->r);
	mbedtls_mpi_free(&n->s);
	return ret;
}

/* X || Y as they are: whether that is a point is for the call under test to find out. */
static int set_point(mbedtls_ecp_point *point, const unsigned char bytes[64])
{
	int ret = mbedtls_mpi_read_binary(&point->MBEDTLS_PRIVATE(X), bytes, 32);

	if (ret == 0)
		ret = mbedtls_mpi_read_binary(&point->MBEDTLS_PRIVATE(Y), bytes + 32, 32);
	if (ret == 0)
		ret = mbedtls_mpi_lset(&point->MBEDTLS_PRIVATE(Z), 1);
	return ret;
}

static int generate(unsigned char d[32], unsigned char point[64])
{
	unsigned char bytes[65];
	struct numbers n;
	size_t len;
	int ret = init(&n);

	if (ret == 0)
		ret = mbedtls_ecdh_gen_public(&n.group, &n.d, &n.point, rng, NULL);
	if (ret == 0)
		ret = mbedtls_mpi_write_binary(&n.d, d, 32);
	if (ret == 0)
		ret = mbedtls_ecp_point_write_binary(&n.group, &n.point,
						     MBEDTLS_ECP_PF_UNCOMPRESSED, &len, bytes,
						     sizeof(bytes));
	for (size_t i = 0; ret == 0 && i < 64; i++)
		point[i] = bytes[1 + i];
	return end(&n, ret);
}

static int shared(const unsigned char d[32], const unsigned char *point, size_t point_len,
		  unsigned char z[32])
{
	struct numbers n;
	int ret = init(&n);

	if (ret == 0)
		ret = mbedtls_mpi_read_binary(&n.d, d, 32);
	/* Not read_binary for a plain point: it would refuse what the call has to refuse. */
	if (ret == 0 && point_len == 65 && point[0] == 4)
		ret = set_point(&n.point, point + 1);
	else if (ret == 0)
		ret = mbedtls_ecp_point_read_binary(&n.group, &n.point, point, point_len);
	if (ret == 0)
		ret = mbedtls_ecdh_compute_shared(&n.group, &n.r, &n.point, &n.d, rng, NULL);
	if (ret == 0)
		ret = mbedtls_mpi_write_binary(&n.r, z, 32);
	return end(&n, ret);
}

static int sign(const unsigned char d[32], const unsigned char *hash, size_t len,
		unsigned char sig[64])
{
	struct numbers n;
	int ret = init(&n);

	if (ret == 0)
		ret = mbedtls_mpi_read_binary(&n.d, d, 32);
	if (ret == 0)
		ret = mbedtls_ecdsa_sign(&n.group, &n.r, &n.s, &n.d, hash, len, rng, NULL);
	if (ret == 0)
		ret = mbedtls_mpi_write_binary(&n.r, sig, 32);
	if (ret == 0)
		ret = mbedtls_mpi_write_binary(&n.s, sig + 32, 32);
	return end(&n, ret);
}

static int verify(const unsigned char point[64], const unsigned char *hash, size_t len,
		  const unsigned char *sig, size_t sig_len)
{
	struct numbers n;
	int ret = init(&n);

	if (ret == 0)
		ret = set_point(&n.point, point);
	if (ret == 0)
		ret = mbedtls_mpi_read_binary(&n.r, sig, sig_len / 2);
	if (ret == 0)
		ret = mbedtls_mpi_read_binary(&n.s, sig + sig_len / 2, sig_len - sig_len / 2);
	if (ret == 0)
		ret = mbedtls_ecdsa_verify(&n.group, hash, len, &n.point, &n.r, &n.s);
	return end(&n, ret);
}

static int sha256(const unsigned char *message, size_t len, unsigned char hash[32])
{
	return mbedtls_sha256(message, len, hash, 0);
}

const struct p256_calls p256_calls = {generate, shared, sign, verify, sha256};
