/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-cert show, names and pin: what is in a file, for fleet and for a person. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "pki/cert/authority.h"
#include "pki/cert/cert.h"
#include "pki/cert/describe.h"
#include "pki/cert/file.h"
#include "pki/cert/private_key.h"
#include "pki/cert/spki.h"

/* --- show --- */

static X509 *find_issuer(X509 *x, STACK_OF(X509) * candidates)
{
	for (int i = 0; i < sk_X509_num(candidates); i++) {
		X509 *candidate = sk_X509_value(candidates, i);

		if (X509_check_issued(candidate, x) == X509_V_OK &&
		    X509_verify(x, X509_get0_pubkey(candidate)) == 1)
			return candidate;
	}
	ERR_clear_error();
	return NULL;
}

/* The first certificate of a file; the others in it may be its issuer. */
static int show(const char *path, STACK_OF(X509) * issuers)
{
	STACK_OF(X509) *chain = certificates_load(path);
	X509 *x, *issuer;
	int status;

	if (!chain)
		return EXIT_FAILED;
	x = sk_X509_value(chain, 0);
	issuer = find_issuer(x, chain);
	if (!issuer)
		issuer = find_issuer(x, issuers);
	status = describe(stdout, x, issuer);
	sk_X509_pop_free(chain, X509_free);
	return status;
}

static int add_issuers(STACK_OF(X509) * issuers, const char *path)
{
	STACK_OF(X509) *more = certificates_load(path);
	X509 *x;

	if (!more)
		return EXIT_FAILED;
	while ((x = sk_X509_shift(more))) {
		if (sk_X509_push(issuers, x) <= 0)
			X509_free(x);
	}
	sk_X509_free(more);
	return 0;
}

int show_main(int argc, char **argv)
{
	static const struct option known[] = {{"issuer", required_argument, NULL, 'i'}, {0}};
	STACK_OF(X509) *issuers = sk_X509_new_null();
	int c, status = 0;

	while (status == 0 && (c = getopt_long(argc, argv, "", known, NULL)) != -1)
		status = c == 'i' ? add_issuers(issuers, optarg) : EXIT_USAGE;
	if (status == 0 && optind == argc)
		status = usage();
	for (int i = optind; status == 0 && i < argc; i++)
		status = show(argv[i], issuers);
	sk_X509_pop_free(issuers, X509_free);
	return status;
}

/* --- names --- */

int names_main(int argc, char **argv)
{
	if (argc < 2)
		return usage();
	for (int i = 1; i < argc; i++) {
		X509 *x = certificate_load(argv[i]);
		char *names = x ? names_print(x) : NULL;

		X509_free(x);
		if (!names)
			return EXIT_FAILED;
		puts(names);
		OPENSSL_free(names);
	}
	return 0;
}

/* --- pin --- */

static bool take_certificate(struct spki *out, BIO *in)
{
	X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
	bool good = x && spki_of_pubkey(out, X509_get_X509_PUBKEY(x)) == 0;

	X509_free(x);
	return good;
}

static bool take_request(struct spki *out, BIO *in)
{
	X509_REQ *request = PEM_read_bio_X509_REQ(in, NULL, NULL, NULL);
	bool good = request && spki_of_pubkey(out, X509_REQ_get_X509_PUBKEY(request)) == 0;

	X509_REQ_free(request);
	return good;
}

/* pem_password_cb: what is encrypted is no public key. */
static int no_passphrase(char *out, int size, int writing, void *arg)
{
	(void)out;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static bool take_public_key(struct spki *out, BIO *in)
{
	EVP_PKEY *key = PEM_read_bio_PUBKEY(in, NULL, no_passphrase, NULL);
	bool good = key && spki_of_key(out, key) == 0;

	EVP_PKEY_free(key);
	return good;
}

static bool take_pem(struct spki *out, const char *data, size_t len)
{
	static bool (*const kinds[])(struct spki *, BIO *) = {take_certificate, take_request,
							      take_public_key};
	bool good = false;

	for (size_t i = 0; !good && i < sizeof(kinds) / sizeof(*kinds); i++) {
		BIO *in = BIO_new_mem_buf(data, (int)len);

		good = in && kinds[i](out, in);
		BIO_free(in);
	}
	ERR_clear_error();
	return good;
}

static int take_private_key(struct spki *out, const char *path)
{
	EVP_PKEY *key = private_key_read(path);
	int status = EXIT_FAILED;

	if (key)
		status = spki_of_key(out, key) == 0
				 ? 0
				 : complain_openssl("%s: its public key cannot be read", path);
	EVP_PKEY_free(key);
	return status;
}

static int pin(const char *path)
{
	unsigned char digest[EVP_MAX_MD_SIZE], text[64];
	struct spki spki = {0};
	unsigned int digest_len;
	char *data;
	size_t len;
	int status = 0;

	if (cert_file_read(path, &data, &len) != 0)
		return EXIT_FAILED;
	if (!take_pem(&spki, data, len))
		status = take_private_key(&spki, path);
	cert_file_free(data);
	if (status == 0 &&
	    EVP_Digest(spki.der, spki.len, digest, &digest_len, EVP_sha256(), NULL) != 1)
		status = complain_openssl("%s", path);
	if (status == 0) {
		EVP_EncodeBlock(text, digest, (int)digest_len);
		puts((char *)text);
	}
	spki_free(&spki);
	return status;
}

int pin_main(int argc, char **argv)
{
	int status = argc < 2 ? usage() : 0;

	for (int i = 1; status == 0 && i < argc; i++)
		status = pin(argv[i]);
	return status;
}
