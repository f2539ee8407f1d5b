/* SPDX-License-Identifier: Apache-2.0 */
/* The compression function of Mbed TLS's SHA-256 by OpenSSL, which uses the processor's SHA
 * instructions where there are any. Mbed TLS calls it when it is built with
 * MBEDTLS_SHA256_PROCESS_ALT (deps/build).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
/* OpenSSL has no other way to one block alone; the states of both are the eight words of FIPS
 * 180-4. */
#include <mbedtls/sha256.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

int mbedtls_internal_sha256_process(mbedtls_sha256_context *ctx, const unsigned char data[64])
{
	SHA256_CTX block;

	_Static_assert(sizeof(block.h) == sizeof(ctx->MBEDTLS_PRIVATE(state)),
		       "eight words of 32 bits");
	memcpy(block.h, ctx->MBEDTLS_PRIVATE(state), sizeof(block.h));
	SHA256_Transform(&block, data);
	memcpy(ctx->MBEDTLS_PRIVATE(state), block.h, sizeof(block.h));
	/* Of an HMAC this is as good as its key. */
	OPENSSL_cleanse(block.h, sizeof(block.h));
	return 0;
}
