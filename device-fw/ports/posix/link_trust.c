/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link_trust.h"

#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TEXT_MAX 160

int link_random(void *arg, unsigned char *out, size_t length)
{
	(void)arg;
	while (length > 0) {
		ssize_t n = getrandom(out, length, 0);

		if (n < 0 && errno != EINTR)
			return MBEDTLS_ERR_PK_BAD_INPUT_DATA;
		if (n > 0) {
			out += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

static void explain(char *error, size_t size, const char *file, int r)
{
	char text[TEXT_MAX];

	if (r == MBEDTLS_ERR_PK_FILE_IO_ERROR || r == MBEDTLS_ERR_X509_FILE_IO_ERROR) {
		snprintf(error, size, "%s: cannot be read: %s", file, strerror(errno));
		return;
	}
	mbedtls_strerror(r, text, sizeof(text));
	snprintf(error, size, "%s: not usable PEM: %s", file, text);
}

/* 0, or -1 with a line in `error`. A positive number of Mbed TLS: so many of the certificates in it
 * cannot be read. */
static int read_certificates(mbedtls_x509_crt *c, const char *file, char *error, size_t size)
{
	int r;

	errno = 0;
	r = mbedtls_x509_crt_parse_file(c, file);
	if (r < 0)
		explain(error, size, file, r);
	else if (r > 0)
		snprintf(error, size, "%s: %d of its certificates cannot be read", file, r);
	return r == 0 ? 0 : -1;
}

struct link_trust *link_trust_read(const char *ca_file, char *error, size_t size)
{
	struct link_trust *t = calloc(1, sizeof(*t));

	if (!t) {
		snprintf(error, size, "%s: out of memory", ca_file);
		return NULL;
	}
	mbedtls_x509_crt_init(&t->certificates);
	t->profiles = &t->first;
	if (read_certificates(&t->certificates, ca_file, error, size) == 0)
		return t;
	link_trust_free(t);
	return NULL;
}

void link_trust_free(struct link_trust *t)
{
	if (!t)
		return;
	mbedtls_x509_crt_free(&t->certificates);
	free(t);
}

static struct link_identity *identity_new(char *error, size_t size)
{
	struct link_identity *i = calloc(1, sizeof(*i));

	if (!i) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	mbedtls_x509_crt_init(&i->certificates);
	mbedtls_pk_init(&i->key);
	i->profiles = &i->first;
	return i;
}

static int read_key(struct link_identity *i, const char *certificate_file, const char *key_file,
		    char *error, size_t size)
{
	int r;

	errno = 0;
	r = mbedtls_pk_parse_keyfile(&i->key, key_file, NULL, link_random, NULL);
	if (r != 0) {
		explain(error, size, key_file, r);
		return -1;
	}
	if (mbedtls_pk_check_pair(&i->certificates.pk, &i->key, link_random, NULL) == 0)
		return 0;
	snprintf(error, size, "%s: not the key of %s", key_file, certificate_file);
	return -1;
}

struct link_identity *link_identity_certificate(const char *certificate_file, const char *key_file,
						char *error, size_t size)
{
	struct link_identity *i = identity_new(error, size);

	if (!i)
		return NULL;
	if (read_certificates(&i->certificates, certificate_file, error, size) == 0 &&
	    read_key(i, certificate_file, key_file, error, size) == 0)
		return i;
	link_identity_free(i);
	return NULL;
}

struct link_identity *link_identity_psk(const void *identity, size_t identity_length,
					const void *key, size_t key_length, char *error,
					size_t size)
{
	struct link_identity *i;

	if (identity_length == 0 || key_length == 0 || key_length > MBEDTLS_PSK_MAX_LEN) {
		snprintf(error, size,
			 "a pre-shared key has an identity and 1 to %d bytes, not %zu and %zu",
			 MBEDTLS_PSK_MAX_LEN, identity_length, key_length);
		return NULL;
	}
	i = identity_new(error, size);
	if (!i)
		return NULL;
	i->is_psk = true;
	i->psk = malloc(key_length);
	i->psk_identity = malloc(identity_length);
	if (!i->psk || !i->psk_identity) {
		snprintf(error, size, "out of memory");
		link_identity_free(i);
		return NULL;
	}
	memcpy(i->psk, key, key_length);
	memcpy(i->psk_identity, identity, identity_length);
	i->psk_length = key_length;
	i->psk_identity_length = identity_length;
	return i;
}

void link_identity_free(struct link_identity *i)
{
	if (!i)
		return;
	mbedtls_x509_crt_free(&i->certificates);
	mbedtls_pk_free(&i->key);
	if (i->psk)
		mbedtls_platform_zeroize(i->psk, i->psk_length);
	free(i->psk);
	free(i->psk_identity);
	free(i);
}
