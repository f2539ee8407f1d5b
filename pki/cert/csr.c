/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/csr.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "core/base/base64url.h"
#include "pki/cert/attestation.h"
#include "pki/cert/spki.h"

#define DER_SEQUENCE 0x30

/* Where the key goes, and where to say what is wrong. */
struct reading {
	EVP_PKEY **out;
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

/* --- A request --- */

static int check_key(const struct reading *r, X509_REQ *request)
{
	struct spki spki;
	bool p256;

	if (spki_of_pubkey(&spki, X509_REQ_get_X509_PUBKEY(request)) != 0)
		return refuse(r, -EBADMSG, "the request's public key cannot be read");
	p256 = spki_is_p256(&spki);
	spki_free(&spki);
	return p256 ? 0
		    : refuse(r, -EINVAL, "the request is for a key of another kind: " SPKI_WANTED);
}

static int check_signature(const struct reading *r, X509_REQ *request, EVP_PKEY *key)
{
	int algorithm = X509_REQ_get_signature_nid(request);

	if (algorithm != NID_ecdsa_with_SHA256 && algorithm != NID_ecdsa_with_SHA384 &&
	    algorithm != NID_ecdsa_with_SHA512)
		return refuse(r, -EINVAL,
			      "the request is signed with %s: ECDSA with SHA-256 is needed",
			      OBJ_nid2ln(algorithm));
	if (X509_REQ_verify(request, key) != 1)
		return refuse(r, -EINVAL,
			      "the request's own signature is bad: it is damaged, or was not made "
			      "with its key");
	return 0;
}

static int take_request(const struct reading *r, X509_REQ *request)
{
	int rc = check_key(r, request);
	EVP_PKEY *key;

	if (rc != 0)
		return rc;
	key = X509_REQ_get_pubkey(request);
	if (!key)
		return refuse(r, -EINVAL, "the request's public key is no point of the curve");
	rc = check_signature(r, request, key);
	if (rc == 0)
		*r->out = key;
	else
		EVP_PKEY_free(key);
	return rc;
}

static int take_der(const struct reading *r, const unsigned char *der, size_t len)
{
	const unsigned char *p = der;
	X509_REQ *request = d2i_X509_REQ(NULL, &p, (long)len);
	int rc;

	if (!request)
		return refuse(r, -EBADMSG,
			      "it is no certificate request (PKCS #10): is the end missing?");
	if (p != der + len)
		rc = refuse(r, -EBADMSG, "there are bytes behind the certificate request");
	else
		rc = take_request(r, request);
	X509_REQ_free(request);
	return rc;
}

/* --- PEM --- */

static int take_pem(const struct reading *r, const char *data, size_t len)
{
	static const char advice[] = "a device's key stays in the device; what is needed is its "
				     "request: openssl req -new -key KEY -subj /CN=x -out FILE";
	unsigned char *der = NULL;
	char *name = NULL, *header = NULL;
	long der_len = 0;
	BIO *in = BIO_new_mem_buf(data, (int)len);
	int rc;

	if (!in)
		return refuse(r, -ENOMEM, "out of memory");
	if (PEM_read_bio(in, &name, &header, &der, &der_len) != 1)
		rc = refuse(r, -EBADMSG, "it begins as PEM does, but is none: is the end missing?");
	else if (strstr(name, "PRIVATE KEY"))
		rc = refuse(r, -EBADMSG, "it is a private key: %s", advice);
	else if (strcmp(name, PEM_STRING_X509_REQ) != 0 &&
		 strcmp(name, PEM_STRING_X509_REQ_OLD) != 0)
		rc = refuse(r, -EBADMSG, "it holds a %.40s: a CERTIFICATE REQUEST is needed", name);
	else
		rc = take_der(r, der, (size_t)der_len);
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_clear_free(der, (size_t)der_len);
	BIO_free(in);
	return rc;
}

/* --- A modem's answer --- */

/* With or without padding. The number of bytes, or 0: it is none, was cut, or is too long. */
static size_t decode(uint8_t out[CSR_MAX], const char *text, size_t len)
{
	if (len > 0 && len % 4 == 0 && text[len - 1] == '=')
		len -= len >= 2 && text[len - 2] == '=' ? 2 : 1;
	if (BASE64URL_DECODED(len) > CSR_MAX || !base64url_decode(out, text, len))
		return 0;
	return BASE64URL_DECODED(len);
}

static int check_attestation(const struct reading *r, const uint8_t *der, size_t len,
			     const char *text, size_t text_len)
{
	uint8_t cose[CSR_MAX], digest[EVP_MAX_MD_SIZE];
	size_t cose_len = decode(cose, text, text_len);
	struct attestation a;
	int rc;

	if (cose_len == 0)
		return refuse(r, -EBADMSG,
			      "what is behind the dot is no base64url, or was cut off");
	rc = attestation_read(&a, cose, cose_len, r->err, r->err_len);
	if (rc != 0 || !a.present)
		return rc;
	if (EVP_Digest(der, len, digest, NULL, EVP_sha256(), NULL) != 1)
		return refuse(r, -ENOMEM, "out of memory");
	if (memcmp(digest, a.digest, ATTESTATION_DIGEST_LEN) != 0)
		return refuse(r, -EINVAL,
			      "the modem's attestation is of another request: these are the halves "
			      "of two answers");
	return 0;
}

static int take_answer(const struct reading *r, const char *text, size_t len)
{
	const char *dot = memchr(text, '.', len);
	uint8_t der[CSR_MAX];
	size_t der_len, first = dot ? (size_t)(dot - text) : len;
	int rc;

	der_len = decode(der, text, first);
	if (der_len == 0 || der[0] != DER_SEQUENCE)
		return refuse(r, -EBADMSG,
			      "it is neither PEM nor DER nor a modem's answer to AT%%KEYGEN, or it "
			      "was cut off");
	if (!dot)
		return refuse(r, -EBADMSG,
			      "the second half of the modem's answer is missing, a dot and the "
			      "attestation: give all of what AT%%KEYGEN printed");
	rc = check_attestation(r, der, der_len, dot + 1, len - first - 1);
	return rc != 0 ? rc : take_der(r, der, der_len);
}

/* The part of what a terminal shows that counts. */
static void find_answer(const char **text, size_t *len)
{
	static const char head[] = "%KEYGEN:", blanks[] = " \t\r\n";
	const char *start = memmem(*text, *len, head, sizeof(head) - 1), *end = *text + *len;

	start = start ? start + sizeof(head) - 1 : *text;
	while (start < end && (strchr(blanks, *start) || *start == '"'))
		start++;
	*text = start;
	while (start < end && !strchr(blanks, *start) && *start != '"')
		start++;
	*len = (size_t)(start - *text);
}

static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!strchr(" \t\r\n", text[i]))
			return false;
	}
	return true;
}

static int take_any(const struct reading *r, const char *data, size_t len)
{
	static const char pem[] = "-----BEGIN ";

	if (is_blank(data, len))
		return refuse(r, -EBADMSG, "it is empty");
	if (len > CSR_MAX)
		return refuse(r, -EBADMSG, "it has more than %d bytes: no request has", CSR_MAX);
	if ((unsigned char)data[0] == DER_SEQUENCE)
		return take_der(r, (const unsigned char *)data, len);
	if (memmem(data, len, pem, sizeof(pem) - 1))
		return take_pem(r, data, len);
	find_answer(&data, &len);
	return take_answer(r, data, len);
}

int csr_read(EVP_PKEY **out, const char *data, size_t len, char *err, size_t err_len)
{
	const struct reading r = {out, err, err_len};
	int rc;

	*out = NULL;
	ERR_set_mark();
	rc = take_any(&r, data, len);
	ERR_pop_to_mark();
	return rc;
}
