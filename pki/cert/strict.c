/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/strict.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate.h"
#include "pki/cert/describe.h"
#include "pki/cert/spki.h"

#define SERIAL_OCTETS_MAX 20 /* RFC 5280 section 4.1.2.2 */
#define SERIAL_BITS_MIN	  96 /* 128 random bits have fewer once in 2^32 */

struct checking {
	X509 *x, *issuer;
	enum certificate_purpose purpose;
	strict_report_fn *report;
	void *arg;
};

static void say(const struct checking *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Whatever is wrong with the form of a certificate, only another certificate helps. */
static void say(const struct checking *c, const char *fmt, ...)
{
	static const char *const again[] = {
		[CERTIFICATE_DEVICE] = "issue another one with fleet renew DEVICE",
		[CERTIFICATE_SERVER] = "issue another one with fleet server NAME --renew",
		[CERTIFICATE_AUTHORITY] = "make another CA with fleet ca new",
	};
	char text[CERTIFICATE_FAULT_TEXT_MAX];
	int n;
	va_list ap;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text))
		snprintf(text + n, sizeof(text) - (size_t)n, "; %s", again[c->purpose]);
	c->report(c->arg, text);
}

static bool has_critical(const struct checking *c, int nid, const char *name)
{
	int at = X509_get_ext_by_NID(c->x, nid, -1);

	if (at < 0)
		say(c, "it has no %s", name);
	else if (!X509_EXTENSION_get_critical(X509_get_ext(c->x, at)))
		say(c, "its %s is not marked critical", name);
	return at >= 0;
}

static bool is_root(const struct checking *c)
{
	return X509_NAME_cmp(X509_get_subject_name(c->x), X509_get_issuer_name(c->x)) == 0;
}

static void check_serial(const struct checking *c)
{
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(c->x), NULL);

	if (!n || BN_is_negative(n) || BN_is_zero(n))
		say(c, "its serial number is not positive (RFC 5280 section 4.1.2.2)");
	else if (BN_num_bits(n) > SERIAL_OCTETS_MAX * 8 - 1)
		say(c, "its serial number has more than %d octets (RFC 5280 section 4.1.2.2)",
		    SERIAL_OCTETS_MAX);
	else if (BN_num_bits(n) < SERIAL_BITS_MIN)
		say(c, "its serial number has %d bits only, and is not 128 random ones",
		    BN_num_bits(n));
	BN_free(n);
}

static void check_algorithms(const struct checking *c)
{
	int algorithm = X509_get_signature_nid(c->x);
	struct spki spki;

	if (X509_get_version(c->x) != X509_VERSION_3)
		say(c, "it is not of version 3 (RFC 5280 section 4.1.2.1)");
	if (algorithm != NID_ecdsa_with_SHA256)
		say(c, "it is signed with %s, and not with ecdsa-with-SHA256",
		    OBJ_nid2ln(algorithm));
	if (spki_of_pubkey(&spki, X509_get_X509_PUBKEY(c->x)) != 0)
		return;
	if (!spki_is_p256(&spki))
		say(c, "its key is not in the form that devices know: " SPKI_WANTED);
	spki_free(&spki);
}

static void check_constraints(const struct checking *c)
{
	long path_length = X509_get_pathlen(c->x);

	if (!has_critical(c, NID_basic_constraints, "basicConstraints"))
		return;
	if (c->purpose != CERTIFICATE_AUTHORITY)
		return;
	if (!is_root(c) && path_length != 0)
		say(c, "%s, so that it could make more CAs",
		    path_length < 0 ? "it limits no path length"
				    : "its path length is more than 0");
}

static void check_key_usage(const struct checking *c)
{
	bool ca = c->purpose == CERTIFICATE_AUTHORITY;
	uint32_t wanted = ca ? KU_KEY_CERT_SIGN | KU_CRL_SIGN : KU_DIGITAL_SIGNATURE;

	if (has_critical(c, NID_key_usage, "keyUsage") && X509_get_key_usage(c->x) != wanted)
		say(c, "its keyUsage is not %s alone",
		    ca ? "keyCertSign and cRLSign" : "digitalSignature");
}

static void check_purpose(const struct checking *c)
{
	EXTENDED_KEY_USAGE *usage = X509_get_ext_d2i(c->x, NID_ext_key_usage, NULL, NULL);
	int count = usage ? sk_ASN1_OBJECT_num(usage) : 0;

	if (c->purpose == CERTIFICATE_AUTHORITY && is_root(c)) {
		if (count > 0)
			say(c, "a root of this fleet has no extendedKeyUsage");
	} else if (count != 1) {
		say(c, "it has %d extended key usages, and must have one, for one purpose", count);
	}
	EXTENDED_KEY_USAGE_free(usage);
}

/* --- Names --- */

static void check_device_names(const struct checking *c)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(c->x, NID_subject_alt_name, NULL, NULL);
	unsigned char *der = NULL;
	struct certificate read;
	char err[256];
	int len = i2d_X509(c->x, &der);

	if (len > 0 && certificate_read(&read, der, (size_t)len, err, sizeof(err)) != 0)
		say(c, "%s", err);
	if (X509_NAME_get_index_by_NID(X509_get_subject_name(c->x), NID_commonName, -1) < 0)
		say(c, "it has no common name");
	if (sk_GENERAL_NAME_num(names) != 1 || sk_GENERAL_NAME_value(names, 0)->type != GEN_URI)
		say(c, "its subject alternative name is not one URI " DEVICE_URN_PREFIX "ID");
	OPENSSL_free(der);
	GENERAL_NAMES_free(names);
}

static bool is_name_of_server(X509 *x, const char *name)
{
	return X509_check_host(x, name, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1 ||
	       X509_check_ip_asc(x, name, 0) == 1;
}

static void check_server_names(const struct checking *c)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(c->x, NID_subject_alt_name, NULL, NULL);
	char name[NAME_TEXT_MAX];

	name_print(name, X509_get_subject_name(c->x));
	if (!names)
		say(c, "it has no subject alternative name, which is where clients look for its "
		       "host");
	else if (!is_name_of_server(c->x, name))
		say(c, "its common name %s is not among its subject alternative names", name);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type = sk_GENERAL_NAME_value(names, i)->type;

		if (type != GEN_DNS && type != GEN_IPADD)
			say(c, "it has a subject alternative name that is neither host nor "
			       "address");
	}
	GENERAL_NAMES_free(names);
}

static void check_names(const struct checking *c)
{
	switch (c->purpose) {
	case CERTIFICATE_DEVICE:
		check_device_names(c);
		break;
	case CERTIFICATE_SERVER:
		check_server_names(c);
		break;
	case CERTIFICATE_AUTHORITY:
		if (X509_NAME_entry_count(X509_get_subject_name(c->x)) == 0)
			say(c, "it has no subject (RFC 5280 section 4.1.2.6)");
		break;
	}
}

void strict_check_name(X509 *x, enum certificate_purpose purpose, const char *name,
		       strict_report_fn *report, void *arg)
{
	const struct checking c = {.x = x, .purpose = purpose, .report = report, .arg = arg};
	char found[NAME_TEXT_MAX];
	char *names;

	name_print(found, X509_get_subject_name(x));
	if (purpose != CERTIFICATE_SERVER) {
		if (strcmp(found, name) != 0)
			say(&c, "it is that of %s, and not of %s", found, name);
		return;
	}
	if (is_name_of_server(x, name))
		return;
	names = names_print(x);
	say(&c, "it is not that of %s, but of %s", name, names && *names ? names : found);
	OPENSSL_free(names);
}

/* --- Issuer --- */

static void check_identifiers(const struct checking *c)
{
	const ASN1_OCTET_STRING *by = X509_get0_authority_key_id(c->x), *issuer;

	if (!X509_get0_subject_key_id(c->x))
		say(c, "it has no subject key identifier (RFC 5280 section 4.2.1.2)");
	if (is_root(c))
		return;
	if (!by) {
		say(c, "it has no authority key identifier (RFC 5280 section 4.2.1.1)");
		return;
	}
	issuer = c->issuer ? X509_get0_subject_key_id(c->issuer) : NULL;
	if (issuer && ASN1_OCTET_STRING_cmp(by, issuer) != 0)
		say(c, "its authority key identifier is not the key of its issuer");
}

static void check_dates(const struct checking *c)
{
	const ASN1_TIME *from = X509_get0_notBefore(c->x), *until = X509_get0_notAfter(c->x);
	char end[TIME_TEXT_MAX];

	if (ASN1_TIME_compare(from, until) >= 0)
		say(c, "it ends before it begins");
	if (c->issuer && ASN1_TIME_compare(until, X509_get0_notAfter(c->issuer)) > 0)
		say(c, "it is valid for longer than its CA, which ends on %s",
		    time_print(end, X509_get0_notAfter(c->issuer)));
}

void strict_check(X509 *x, X509 *issuer, enum certificate_purpose purpose, strict_report_fn *report,
		  void *arg)
{
	const struct checking c = {x, issuer, purpose, report, arg};

	ERR_set_mark();
	check_algorithms(&c);
	check_serial(&c);
	check_dates(&c);
	check_constraints(&c);
	check_key_usage(&c);
	check_purpose(&c);
	check_names(&c);
	check_identifiers(&c);
	ERR_pop_to_mark();
}
