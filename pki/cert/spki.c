/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/spki.h"

#include <errno.h>
#include <string.h>

static int take(struct spki *out, unsigned char *der, int len)
{
	if (len <= 0)
		return -ENOMEM;
	out->der = der;
	out->len = (size_t)len;
	return 0;
}

int spki_of_key(struct spki *out, const EVP_PKEY *key)
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key, &der);

	return take(out, der, len);
}

int spki_of_pubkey(struct spki *out, const X509_PUBKEY *key)
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(key, &der);

	return take(out, der, len);
}

void spki_free(struct spki *s)
{
	OPENSSL_free(s->der);
	s->der = NULL;
	s->len = 0;
}

/* All that stands before the 64 bytes of the two coordinates. */
static const unsigned char p256_head[] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce,
	0x3d, 0x02, 0x01,					    /* ecPublicKey */
	0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, /* prime256v1 */
	0x03, 0x42, 0x00, 0x04,					    /* uncompressed */
};

bool spki_is_p256(const struct spki *s)
{
	return s->len == sizeof(p256_head) + 64 &&
	       memcmp(s->der, p256_head, sizeof(p256_head)) == 0;
}

bool spki_equal(const struct spki *a, const struct spki *b)
{
	return a->len == b->len && memcmp(a->der, b->der, a->len) == 0;
}
