/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a certificate request, and as the attestation of one: what is refused has a reason;
 * what is accepted is a P-256 key. Seeds: tests/fuzz/fuzz_csr_seeds.py DIRECTORY.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "pki/cert/attestation.h"
#include "pki/cert/csr.h"
#include "pki/cert/spki.h"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void check_key(EVP_PKEY *key)
{
	struct spki spki;

	CHECK(spki_of_key(&spki, key) == 0);
	CHECK(spki_is_p256(&spki));
	spki_free(&spki);
	EVP_PKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of its own size, so that a read behind its end is seen. */
	char *copy = malloc(size ? size : 1), err[256] = "";
	struct attestation a;
	EVP_PKEY *key;
	int rc;

	CHECK(copy);
	if (size)
		memcpy(copy, data, size);
	rc = csr_read(&key, copy, size, err, sizeof(err));
	CHECK(rc == 0 || rc == -EBADMSG || rc == -EINVAL || rc == -ENOMEM);
	CHECK((rc == 0) == (key != NULL));
	CHECK((rc == 0) == (err[0] == '\0'));
	if (key)
		check_key(key);
	CHECK(ERR_peek_error() == 0);
	rc = attestation_read(&a, copy, size, err, sizeof(err));
	CHECK(rc == 0 || rc == -EBADMSG);
	free(copy);
	return 0;
}
