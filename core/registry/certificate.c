/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads with OpenSSL. The fingerprint is taken of the bytes as they came, which must be a
 * certificate and nothing behind it; names are compared as bytes, with their length, so a NUL
 * inside cannot end one.
 */
#include "core/registry/certificate.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define URN_PREFIX_LEN (sizeof(DEVICE_URN_PREFIX) - 1)

/* Where a name goes and where to say what is wrong with it. */
struct reading {
	struct certificate *out;
	char *err;
	size_t err_len;
};

static int refuse(const struct reading *r, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct reading *r, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->err, r->err_len, fmt, ap);
	va_end(ap);
	return code;
}

static int sha256(uint8_t out[FINGERPRINT_LEN], const void *data, size_t len)
{
	return EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

static int read_fingerprints(const struct reading *r, X509 *x, const void *der, size_t len)
{
	unsigned char *key = NULL;
	int key_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &key);
	int rc;

	if (key_len <= 0)
		return refuse(r, -EBADMSG, "its public key cannot be read");
	rc = sha256(r->out->fingerprint, der, len);
	if (rc == 0)
		rc = sha256(r->out->key_fingerprint, key, (size_t)key_len);
	OPENSSL_free(key);
	return rc == 0 ? 0 : refuse(r, rc, "no SHA-256: out of memory");
}

/* Take the name, or hold it against the one that is there. */
static int take_name(const struct reading *r, const char *what, const unsigned char *name,
		     size_t len)
{
	char *out = r->out->name;

	if (!principal_id_valid((const char *)name, len))
		return refuse(r, -EINVAL,
			      "its %s is not a device id (1 to %d of A-Z a-z 0-9 _ . : -)", what,
			      PRINCIPAL_ID_MAX);
	if (*out && (strlen(out) != len || memcmp(out, name, len) != 0))
		return refuse(r, -EINVAL, "its common name is %s and its %s is %.*s", out, what,
			      (int)len, (const char *)name);
	memcpy(out, name, len);
	out[len] = '\0';
	return 0;
}

static int read_common_name(const struct reading *r, const X509 *x)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *name = NULL;
	int len, rc;

	if (at < 0)
		return 0;
	if (X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return refuse(r, -EINVAL, "it has several common names");
	len = ASN1_STRING_to_UTF8(&name,
				  X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len < 0)
		return refuse(r, -EINVAL, "its common name cannot be read");
	rc = take_name(r, "common name", name, (size_t)len);
	OPENSSL_free(name);
	return rc;
}

static bool is_device_urn(const GENERAL_NAME *n)
{
	const ASN1_IA5STRING *uri;

	if (n->type != GEN_URI)
		return false;
	uri = n->d.uniformResourceIdentifier;
	return (size_t)ASN1_STRING_length(uri) >= URN_PREFIX_LEN &&
	       memcmp(ASN1_STRING_get0_data(uri), DEVICE_URN_PREFIX, URN_PREFIX_LEN) == 0;
}

static int read_urns(const struct reading *r, const GENERAL_NAMES *names)
{
	int found = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		const ASN1_IA5STRING *uri;
		int rc;

		if (!is_device_urn(n))
			continue;
		if (found++)
			return refuse(r, -EINVAL, "it has several names %s...", DEVICE_URN_PREFIX);
		uri = n->d.uniformResourceIdentifier;
		rc = take_name(r, "URI " DEVICE_URN_PREFIX "...",
			       ASN1_STRING_get0_data(uri) + URN_PREFIX_LEN,
			       (size_t)ASN1_STRING_length(uri) - URN_PREFIX_LEN);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int read_alternative_name(const struct reading *r, const X509 *x)
{
	int critical;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &critical, NULL);
	int rc;

	/* -1: there is none. Otherwise there are several extensions, or one that cannot be read. */
	if (!names)
		return critical == -1
			       ? 0
			       : refuse(r, -EINVAL, "its subject alternative name cannot be read");
	rc = read_urns(r, names);
	GENERAL_NAMES_free(names);
	return rc;
}

static int read_all(const struct reading *r, const void *der, size_t len)
{
	const unsigned char *p = der;
	X509 *x = len <= LONG_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;
	int rc;

	if (!x)
		return refuse(r, -EBADMSG, "it is not an X.509 certificate");
	if (p != (const unsigned char *)der + len) {
		rc = refuse(r, -EBADMSG, "there are bytes behind the certificate");
		goto out;
	}
	rc = read_fingerprints(r, x, der, len);
	if (rc == 0)
		rc = read_common_name(r, x);
	if (rc == 0)
		rc = read_alternative_name(r, x);
	if (rc == 0 && !*r->out->name)
		rc = refuse(r, -EINVAL, "it has neither a common name nor a URI %s<id>",
			    DEVICE_URN_PREFIX);
out:
	X509_free(x);
	return rc;
}

int certificate_read(struct certificate *out, const void *der, size_t len, char *err,
		     size_t err_len)
{
	const struct reading r = {out, err, err_len};
	int rc;

	memset(out, 0, sizeof(*out));
	/* The caller may be in the middle of TLS, which looks at the same queue of errors. */
	ERR_set_mark();
	rc = read_all(&r, der, len);
	ERR_pop_to_mark();
	return rc;
}
