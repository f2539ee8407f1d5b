/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/authority.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "pki/cert/cert.h"
#include "pki/cert/describe.h"
#include "pki/cert/file.h"
#include "pki/cert/private_key.h"
#include "pki/cert/spki.h"

#define PATH_LEN 4096

/* --- Files of certificates --- */

static bool read_pem(STACK_OF(X509) * out, const char *data, size_t len)
{
	BIO *in = BIO_new_mem_buf(data, (int)len);
	X509 *x;
	bool end;

	while (in && (x = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		if (sk_X509_push(out, x) <= 0)
			X509_free(x);
	}
	end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(in);
	return end && sk_X509_num(out) > 0;
}

static bool read_der(STACK_OF(X509) * out, const char *data, size_t len)
{
	const unsigned char *p = (const unsigned char *)data;
	X509 *x = d2i_X509(NULL, &p, (long)len);

	ERR_clear_error();
	if (x && p == (const unsigned char *)data + len && sk_X509_push(out, x) > 0)
		return true;
	X509_free(x);
	return false;
}

STACK_OF(X509) * certificates_load(const char *path)
{
	STACK_OF(X509) *out = sk_X509_new_null();
	bool good = false;
	char *data;
	size_t len;

	if (out && cert_file_read(path, &data, &len) == 0) {
		good = read_der(out, data, len) || read_pem(out, data, len);
		if (!good)
			complain("%s holds no certificate, or a damaged one", path);
		cert_file_free(data);
	}
	if (good)
		return out;
	sk_X509_pop_free(out, X509_free);
	return NULL;
}

X509 *certificate_load(const char *path)
{
	STACK_OF(X509) *all = certificates_load(path);
	X509 *first = all ? sk_X509_shift(all) : NULL;

	sk_X509_pop_free(all, X509_free);
	return first;
}

/* --- The directory --- */

static int find_key(const struct authority *a, char path[PATH_LEN])
{
	char pem[PATH_LEN], uri[PATH_LEN];
	bool in_file, in_token;

	snprintf(pem, sizeof(pem), "%s/key.pem", a->dir);
	snprintf(uri, sizeof(uri), "%s/key.uri", a->dir);
	in_file = access(pem, F_OK) == 0;
	in_token = access(uri, F_OK) == 0;
	if (in_file && in_token)
		return complain("%s holds both key.pem and key.uri: remove the one that is not the "
				"key of cert.pem",
				a->dir);
	if (!in_file && !in_token)
		return complain("%s holds neither key.pem nor key.uri: put the key back for the "
				"time of this command",
				a->dir);
	snprintf(path, PATH_LEN, "%s/key.%s", a->dir, in_file ? "pem" : "uri");
	return 0;
}

static int check_dates(const struct authority *a)
{
	char text[TIME_TEXT_MAX];

	if (X509_cmp_current_time(X509_get0_notBefore(a->cert)) > 0)
		return complain("%s/cert.pem is not valid before %s: is the clock right?", a->dir,
				time_print(text, X509_get0_notBefore(a->cert)));
	if (X509_cmp_current_time(X509_get0_notAfter(a->cert)) <= 0)
		return complain("%s/cert.pem has expired on %s: a new CA is needed", a->dir,
				time_print(text, X509_get0_notAfter(a->cert)));
	return 0;
}

static int check_certificate(const struct authority *a)
{
	if (X509_check_ca(a->cert) != 1 || !(X509_get_key_usage(a->cert) & KU_KEY_CERT_SIGN))
		return complain("%s/cert.pem is not the certificate of a CA", a->dir);
	return check_dates(a);
}

static int check_pair(const struct authority *a, const char *key_path)
{
	struct spki of_cert = {0}, of_key = {0};
	int status = 0;

	if (spki_of_pubkey(&of_cert, X509_get_X509_PUBKEY(a->cert)) != 0 ||
	    spki_of_key(&of_key, a->key) != 0)
		status = complain_openssl("%s: its public key cannot be read", key_path);
	else if (!spki_is_p256(&of_cert))
		status = complain("%s/cert.pem is for a key of another kind: " SPKI_WANTED, a->dir);
	else if (!spki_equal(&of_cert, &of_key))
		status = complain("%s is not the key of %s/cert.pem: put the right one there",
				  key_path, a->dir);
	spki_free(&of_cert);
	spki_free(&of_key);
	return status;
}

int authority_open(struct authority *a, const char *dir)
{
	char path[PATH_LEN];
	int status;

	*a = (struct authority){.dir = dir};
	if (snprintf(path, sizeof(path), "%s/cert.pem", dir) >= PATH_LEN)
		return complain("%s: the name is too long", dir);
	a->cert = certificate_load(path);
	if (!a->cert)
		return EXIT_FAILED;
	status = check_certificate(a);
	if (status == 0)
		status = find_key(a, path);
	if (status != 0)
		return status;
	a->key = private_key_read(path);
	return a->key ? check_pair(a, path) : EXIT_FAILED;
}

void authority_close(struct authority *a)
{
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
}
