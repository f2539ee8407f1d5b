/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/describe.h"

#include <arpa/inet.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/x509v3.h>

#include "pki/cert/cert.h"
#include "pki/cert/spki.h"

#define SHA256_LEN 32

char *time_print(char out[TIME_TEXT_MAX], const ASN1_TIME *t)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) != 1 ||
	    strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, TIME_TEXT_MAX, "?");
	return out;
}

char *serial_print(char out[HEX_MAX], const X509 *x)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	int len = ASN1_STRING_length(serial);

	/* More than 20 bytes are none of ours (RFC 5280 section 4.1.2.2). */
	return hex_print(out, ASN1_STRING_get0_data(serial), len < 32 ? (size_t)len : 32);
}

char *name_print(char out[NAME_TEXT_MAX], const X509_NAME *name)
{
	static const char cn[] = "/CN=";
	const size_t prefix = sizeof(cn) - 1;

	X509_NAME_oneline(name, out, NAME_TEXT_MAX);
	if (X509_NAME_entry_count(name) == 1 && strncmp(out, cn, prefix) == 0)
		memmove(out, out + prefix, strlen(out + prefix) + 1);
	return out;
}

static int fingerprint(char out[HEX_MAX], const X509 *x)
{
	uint8_t digest[SHA256_LEN];

	if (X509_digest(x, EVP_sha256(), digest, NULL) != 1)
		return -1;
	hex_print(out, digest, sizeof(digest));
	return 0;
}

static int key_fingerprint(char out[HEX_MAX], const X509 *x)
{
	uint8_t digest[SHA256_LEN];
	struct spki spki;
	int ok;

	if (spki_of_pubkey(&spki, X509_get_X509_PUBKEY(x)) != 0)
		return -1;
	ok = EVP_Digest(spki.der, spki.len, digest, NULL, EVP_sha256(), NULL);
	spki_free(&spki);
	hex_print(out, digest, sizeof(digest));
	return ok == 1 ? 0 : -1;
}

int describe(FILE *out, X509 *x, const X509 *issuer)
{
	char name[NAME_TEXT_MAX], serial[HEX_MAX], cert[HEX_MAX], key[HEX_MAX], by[HEX_MAX] = "-";
	char start[TIME_TEXT_MAX], end[TIME_TEXT_MAX];

	if (fingerprint(cert, x) != 0 || key_fingerprint(key, x) != 0 ||
	    (issuer && fingerprint(by, issuer) != 0))
		return complain_openssl("a certificate cannot be described");
	fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name_print(name, X509_get_subject_name(x)),
		serial_print(serial, x), cert, time_print(start, X509_get0_notBefore(x)),
		time_print(end, X509_get0_notAfter(x)), key, by);
	return 0;
}

static void print_name(BIO *out, const GENERAL_NAME *n)
{
	const char *separator = BIO_pending(out) > 0 ? "," : "";
	char address[INET6_ADDRSTRLEN];
	const ASN1_STRING *s;
	int type;

	s = GENERAL_NAME_get0_value(n, &type);
	if (type == GEN_IPADD) {
		int family = ASN1_STRING_length(s) == 4 ? AF_INET : AF_INET6;

		if ((family == AF_INET6 && ASN1_STRING_length(s) != 16) ||
		    !inet_ntop(family, ASN1_STRING_get0_data(s), address, sizeof(address)))
			return;
		BIO_printf(out, "%sIP:%s", separator, address);
	} else if (type == GEN_DNS || type == GEN_URI) {
		BIO_printf(out, "%s%s:", separator, type == GEN_DNS ? "DNS" : "URI");
		ASN1_STRING_print_ex(out, s, ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB);
	}
}

char *names_print(X509 *x)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	BIO *out = BIO_new(BIO_s_mem());
	char *data, *text = NULL;
	long len;

	for (int i = 0; out && i < sk_GENERAL_NAME_num(names); i++)
		print_name(out, sk_GENERAL_NAME_value(names, i));
	if (out) {
		len = BIO_get_mem_data(out, &data);
		text = OPENSSL_strndup(len > 0 ? data : "", (size_t)len);
	}
	GENERAL_NAMES_free(names);
	BIO_free(out);
	return text;
}
