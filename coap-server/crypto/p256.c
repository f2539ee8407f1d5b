/* SPDX-License-Identifier: Apache-2.0 */
/* Mbed TLS's ECDSA and ECDH on P-256 by OpenSSL, whose assembly is several times faster and runs in
 * constant time. Mbed TLS calls these functions instead of its own when it is built with the four
 * *_ALT options (deps/build); their contracts are those of mbedtls/ecdsa.h and mbedtls/ecdh.h.
 * Everything that OpenSSL needs again at the next call is kept by thread, so nothing is locked; it
 * is released when the thread ends.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <mbedtls/ecdh.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	SCALAR_LEN = 32,
	POINT_LEN = 1 + 2 * SCALAR_LEN /* SEC 1, section 2.3.3: 04 || X || Y */
};

struct p256 {
	EC_GROUP *group;
	BN_CTX *bn_ctx;
	EC_KEY *verify_key;
	/* The key that signed last, and its private scalar to recognise it by: a server has one. */
	EC_KEY *sign_key;
	unsigned char sign_scalar[SCALAR_LEN];
};

static __thread struct p256 *thread_p256;
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static int thread_key_error;

static void p256_free(void *arg)
{
	struct p256 *p = arg;

	if (p == NULL)
		return;
	EC_KEY_free(p->sign_key);
	EC_KEY_free(p->verify_key);
	BN_CTX_free(p->bn_ctx);
	EC_GROUP_free(p->group);
	OPENSSL_cleanse(p, sizeof(*p));
	free(p);
}

static void make_thread_key(void)
{
	thread_key_error = pthread_key_create(&thread_key, p256_free);
}

static struct p256 *p256_new(void)
{
	struct p256 *p;

	if (pthread_once(&thread_key_once, make_thread_key) != 0 || thread_key_error != 0)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	p->bn_ctx = BN_CTX_new();
	p->verify_key = EC_KEY_new();
	if (p->group == NULL || p->bn_ctx == NULL || p->verify_key == NULL ||
	    EC_KEY_set_group(p->verify_key, p->group) != 1 ||
	    pthread_setspecific(thread_key, p) != 0) {
		p256_free(p);
		return NULL;
	}
	thread_p256 = p;
	return p;
}

/* The thread's state, when the group is P-256; there is no other curve here. What OpenSSL says of
 * an error from now on is forgotten at p256_leave: no later call in this thread may take it for its
 * own.
 */
static int p256_enter(struct p256 **p, const mbedtls_ecp_group *grp)
{
	if (grp->id != MBEDTLS_ECP_DP_SECP256R1)
		return MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE;
	ERR_set_mark();
	*p = thread_p256 != NULL ? thread_p256 : p256_new();
	if (*p != NULL)
		return 0;
	ERR_pop_to_mark();
	return MBEDTLS_ERR_ECP_ALLOC_FAILED;
}

static int p256_leave(int ret)
{
	ERR_pop_to_mark();
	return ret;
}

/* Fails for a number of more than 256 bits, which is no scalar of the curve. */
static BIGNUM *bignum_from_mpi(const mbedtls_mpi *m)
{
	unsigned char bytes[SCALAR_LEN];
	BIGNUM *n = NULL;

	if (mbedtls_mpi_cmp_int(m, 0) >= 0 &&
	    mbedtls_mpi_write_binary(m, bytes, sizeof(bytes)) == 0)
		n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return n;
}

static BIGNUM *secret_bignum_from_mpi(const mbedtls_mpi *m)
{
	BIGNUM *n = bignum_from_mpi(m);

	if (n != NULL)
		BN_set_flags(n, BN_FLG_CONSTTIME);
	return n;
}

static int mpi_from_bignum(mbedtls_mpi *m, const BIGNUM *n)
{
	unsigned char bytes[SCALAR_LEN];

	if (BN_bn2binpad(n, bytes, sizeof(bytes)) != sizeof(bytes))
		return MBEDTLS_ERR_PLATFORM_HW_ACCEL_FAILED;
	return mbedtls_mpi_read_binary(m, bytes, sizeof(bytes));
}

/* The public point of a peer. OpenSSL checks that the coordinates are below the prime and on the
 * curve; the point at infinity, which has a form of one byte, is refused here. P-256's cofactor is
 * 1: no more to check.
 */
static int point_from_peer(struct p256 *p, const mbedtls_ecp_group *grp, const mbedtls_ecp_point *Q,
			   EC_POINT **point)
{
	unsigned char bytes[POINT_LEN];
	size_t len;

	if (mbedtls_ecp_point_write_binary(grp, Q, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, bytes,
					   sizeof(bytes)) != 0 ||
	    len != sizeof(bytes))
		return MBEDTLS_ERR_ECP_INVALID_KEY;
	*point = EC_POINT_new(p->group);
	if (*point == NULL)
		return MBEDTLS_ERR_ECP_ALLOC_FAILED;
	if (EC_POINT_oct2point(p->group, *point, bytes, len, p->bn_ctx) == 1)
		return 0;
	EC_POINT_free(*point);
	*point = NULL;
	return MBEDTLS_ERR_ECP_INVALID_KEY;
}

/* d times Q, or times the generator when Q is NULL, as 04 || X || Y. */
static int multiply(struct p256 *p, const mbedtls_ecp_group *grp, const mbedtls_mpi *d,
		    const mbedtls_ecp_point *Q, unsigned char product[POINT_LEN])
{
	EC_POINT *result = NULL, *point = NULL;
	BIGNUM *scalar = NULL;
	int ret = mbedtls_ecp_check_privkey(grp, d);

	if (ret == 0 && Q != NULL)
		ret = point_from_peer(p, grp, Q, &point);
	if (ret != 0)
		goto out;
	ret = MBEDTLS_ERR_ECP_ALLOC_FAILED;
	result = EC_POINT_new(p->group);
	scalar = secret_bignum_from_mpi(d);
	if (result == NULL || scalar == NULL)
		goto out;
	ret = MBEDTLS_ERR_PLATFORM_HW_ACCEL_FAILED;
	if (EC_POINT_mul(p->group, result, point == NULL ? scalar : NULL, point,
			 point == NULL ? NULL : scalar, p->bn_ctx) != 1)
		goto out;
	/* Infinity cannot come of a scalar below the order; if it did, its length would tell. */
	if (EC_POINT_point2oct(p->group, result, POINT_CONVERSION_UNCOMPRESSED, product, POINT_LEN,
			       p->bn_ctx) == POINT_LEN)
		ret = 0;
out:
	BN_clear_free(scalar);
	EC_POINT_clear_free(result);
	EC_POINT_free(point);
	return ret;
}

int mbedtls_ecdh_gen_public(mbedtls_ecp_group *grp, mbedtls_mpi *d, mbedtls_ecp_point *Q,
			    int (*f_rng)(void *, unsigned char *, size_t), void *p_rng)
{
	unsigned char public[POINT_LEN];
	struct p256 *p;
	int ret = p256_enter(&p, grp);

	if (ret != 0)
		return ret;
	ret = mbedtls_ecp_gen_privkey(grp, d, f_rng, p_rng);
	if (ret == 0)
		ret = multiply(p, grp, d, NULL, public);
	if (ret == 0)
		ret = mbedtls_ecp_point_read_binary(grp, Q, public, sizeof(public));
	return p256_leave(ret);
}

/* Mbed TLS wants randomness here to blind its multiplication; OpenSSL's needs none. */
int mbedtls_ecdh_compute_shared(mbedtls_ecp_group *grp, mbedtls_mpi *z, const mbedtls_ecp_point *Q,
				const mbedtls_mpi *d, int (*f_rng)(void *, unsigned char *, size_t),
				void *p_rng)
{
	unsigned char product[POINT_LEN];
	struct p256 *p;
	int ret = p256_enter(&p, grp);

	(void)f_rng;
	(void)p_rng;
	if (ret != 0)
		return ret;
	ret = multiply(p, grp, d, Q, product);
	if (ret == 0)
		ret = mbedtls_mpi_read_binary(z, product + 1, SCALAR_LEN);
	OPENSSL_cleanse(product, sizeof(product));
	return p256_leave(ret);
}

/* OpenSSL's form of the private key d, made only when another key signed before. */
static int sign_key_of(struct p256 *p, const mbedtls_mpi *d, EC_KEY **key)
{
	unsigned char scalar[SCALAR_LEN];
	BIGNUM *n = NULL;
	int ret = mbedtls_mpi_write_binary(d, scalar, sizeof(scalar));

	if (ret != 0)
		goto out;
	if (p->sign_key != NULL && CRYPTO_memcmp(scalar, p->sign_scalar, sizeof(scalar)) == 0)
		goto out;
	EC_KEY_free(p->sign_key);
	p->sign_key = EC_KEY_new();
	n = secret_bignum_from_mpi(d);
	if (p->sign_key == NULL || n == NULL || EC_KEY_set_group(p->sign_key, p->group) != 1 ||
	    EC_KEY_set_private_key(p->sign_key, n) != 1) {
		EC_KEY_free(p->sign_key);
		p->sign_key = NULL;
		ret = MBEDTLS_ERR_ECP_ALLOC_FAILED;
		goto out;
	}
	memcpy(p->sign_scalar, scalar, sizeof(scalar));
out:
	*key = p->sign_key;
	BN_clear_free(n);
	OPENSSL_cleanse(scalar, sizeof(scalar));
	return ret;
}

/* The nonce is OpenSSL's: from its own generator, mixed with the private key and the hash. */
int mbedtls_ecdsa_sign(mbedtls_ecp_group *grp, mbedtls_mpi *r, mbedtls_mpi *s, const mbedtls_mpi *d,
		       const unsigned char *buf, size_t blen,
		       int (*f_rng)(void *, unsigned char *, size_t), void *p_rng)
{
	ECDSA_SIG *sig = NULL;
	EC_KEY *key;
	struct p256 *p;
	int ret;

	(void)f_rng;
	(void)p_rng;
	if (blen > MBEDTLS_MD_MAX_SIZE)
		return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
	ret = p256_enter(&p, grp);
	if (ret != 0)
		return ret;
	ret = mbedtls_ecp_check_privkey(grp, d);
	if (ret == 0)
		ret = sign_key_of(p, d, &key);
	if (ret != 0)
		return p256_leave(ret);
	sig = ECDSA_do_sign(buf, (int)blen, key);
	if (sig == NULL)
		return p256_leave(MBEDTLS_ERR_PLATFORM_HW_ACCEL_FAILED);
	ret = mpi_from_bignum(r, ECDSA_SIG_get0_r(sig));
	if (ret == 0)
		ret = mpi_from_bignum(s, ECDSA_SIG_get0_s(sig));
	ECDSA_SIG_free(sig);
	return p256_leave(ret);
}

/* The signature in OpenSSL's form; r and s of any size are its to refuse, but none above 256 bits
 * is valid. */
static int signature_from_mpi(const mbedtls_mpi *r, const mbedtls_mpi *s, ECDSA_SIG **sig)
{
	BIGNUM *R = NULL, *S = NULL;

	if (mbedtls_mpi_size(r) > SCALAR_LEN || mbedtls_mpi_size(s) > SCALAR_LEN ||
	    mbedtls_mpi_cmp_int(r, 0) <= 0 || mbedtls_mpi_cmp_int(s, 0) <= 0)
		return MBEDTLS_ERR_ECP_VERIFY_FAILED;
	*sig = ECDSA_SIG_new();
	R = bignum_from_mpi(r);
	S = bignum_from_mpi(s);
	if (*sig != NULL && R != NULL && S != NULL && ECDSA_SIG_set0(*sig, R, S) == 1)
		return 0;
	BN_free(R);
	BN_free(S);
	return MBEDTLS_ERR_ECP_ALLOC_FAILED;
}

int mbedtls_ecdsa_verify(mbedtls_ecp_group *grp, const unsigned char *buf, size_t blen,
			 const mbedtls_ecp_point *Q, const mbedtls_mpi *r, const mbedtls_mpi *s)
{
	ECDSA_SIG *sig = NULL;
	EC_POINT *point = NULL;
	struct p256 *p;
	int ret;

	if (blen > MBEDTLS_MD_MAX_SIZE)
		return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
	ret = p256_enter(&p, grp);
	if (ret != 0)
		return ret;
	ret = signature_from_mpi(r, s, &sig);
	if (ret == 0)
		ret = point_from_peer(p, grp, Q, &point);
	if (ret != 0)
		goto out;
	ret = MBEDTLS_ERR_ECP_VERIFY_FAILED;
	if (EC_KEY_set_public_key(p->verify_key, point) != 1)
		ret = MBEDTLS_ERR_ECP_ALLOC_FAILED;
	else if (ECDSA_do_verify(buf, (int)blen, sig, p->verify_key) == 1)
		ret = 0;
out:
	ECDSA_SIG_free(sig);
	EC_POINT_free(point);
	return p256_leave(ret);
}
