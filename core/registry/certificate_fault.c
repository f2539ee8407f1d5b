/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that can be read of the certificate itself. A verifier stops at the first fault, and
 * its order is that of its code; here all are found, and the one that says most comes first: of a
 * certificate that is of another CA and has expired as well, it does not matter that it has
 * expired.
 */
#include "core/registry/certificate_fault.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate_fault_internal.h"
#include "core/registry/snapshot.h"

void judgement_add(struct judgement *j, enum certificate_fault fault, const char *fmt, ...)
{
	struct certificate_finding *f;
	va_list ap;

	if (j->count == CERTIFICATE_FAULTS_MAX)
		return;
	f = &j->out[j->count++];
	f->fault = fault;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

X509 *certificate_parse(const void *der, size_t len)
{
	const unsigned char *p = der;
	X509 *x = len <= LONG_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;

	if (x && p == (const unsigned char *)der + len)
		return x;
	X509_free(x);
	return NULL;
}

const char *certificate_name_text(char text[CERTIFICATE_NAME_MAX], const X509_NAME *name)
{
	const unsigned long how = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
	BIO *out = BIO_new(BIO_s_mem());
	int len = 0;

	if (out && X509_NAME_print_ex(out, name, 0, how) > 0)
		len = BIO_read(out, text, CERTIFICATE_NAME_MAX - 1);
	BIO_free(out);
	if (len <= 0)
		len = snprintf(text, CERTIFICATE_NAME_MAX, "nobody");
	text[len] = '\0';
	return text;
}

const char *certificate_date_text(char text[CERTIFICATE_DATE_MAX], const ASN1_TIME *at)
{
	struct tm tm;

	if (!ASN1_TIME_to_tm(at, &tm) ||
	    strftime(text, CERTIFICATE_DATE_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(text, CERTIFICATE_DATE_MAX, "no date");
	return text;
}

int64_t certificate_time(const ASN1_TIME *at)
{
	struct tm tm;

	return ASN1_TIME_to_tm(at, &tm) ? (int64_t)timegm(&tm) : INT64_MIN;
}

/* --- what to do --- */

/* The command that makes another one. */
static const char *anew(const struct judgement *j, char text[128])
{
	switch (j->purpose) {
	case CERTIFICATE_DEVICE:
		snprintf(text, 128, "issue a new one with `pki/fleet renew %s`", j->id);
		break;
	case CERTIFICATE_SERVER:
		snprintf(text, 128, "issue a new one with `pki/fleet server NAME`");
		break;
	case CERTIFICATE_AUTHORITY:
		snprintf(text, 128, "make another CA");
	}
	return text;
}

/* --- the faults --- */

static bool is_ca(X509 *x)
{
	return (X509_get_extension_flags(x) & EXFLAG_CA) != 0;
}

static void judge_role(struct judgement *j, X509 *x)
{
	char again[128];

	if (j->purpose == CERTIFICATE_AUTHORITY) {
		if (!is_ca(x))
			judgement_add(j, CERTIFICATE_NOT_A_CA,
				      "it is not a CA (basicConstraints CA:FALSE), so nothing that "
				      "it signs is good; %s",
				      anew(j, again));
		else if (!(X509_get_key_usage(x) & X509v3_KU_KEY_CERT_SIGN))
			judgement_add(j, CERTIFICATE_WRONG_USAGE,
				      "its key usage does not let it sign certificates; %s",
				      anew(j, again));
	} else if (is_ca(x)) {
		judgement_add(j, CERTIFICATE_IS_CA,
			      "it is a CA certificate (basicConstraints CA:TRUE), which no device "
			      "and no server may show as its own; %s",
			      anew(j, again));
	}
}

bool certificate_usage_allows(X509 *x, enum certificate_purpose purpose)
{
	uint32_t usage = X509_get_extended_key_usage(x); /* all bits when there is none */

	switch (purpose) {
	case CERTIFICATE_DEVICE:
		return usage & XKU_SSL_CLIENT;
	case CERTIFICATE_SERVER:
		return usage & XKU_SSL_SERVER;
	case CERTIFICATE_AUTHORITY:
		break;
	}
	return true;
}

static const char *usage_found(X509 *x)
{
	uint32_t usage = X509_get_extended_key_usage(x);

	if ((usage & XKU_SSL_CLIENT) && (usage & XKU_SSL_SERVER))
		return "serverAuth and clientAuth";
	if (usage & XKU_SSL_SERVER)
		return "serverAuth";
	if (usage & XKU_SSL_CLIENT)
		return "clientAuth";
	return "something else";
}

static void judge_usage(struct judgement *j, X509 *x)
{
	const char *wanted = j->purpose == CERTIFICATE_DEVICE ? "clientAuth" : "serverAuth";
	char again[128];

	if (j->purpose == CERTIFICATE_AUTHORITY)
		return;
	if (!certificate_usage_allows(x, j->purpose))
		judgement_add(j, CERTIFICATE_WRONG_USAGE,
			      "its extended key usage is %s, not %s: it was issued for something "
			      "else; %s",
			      usage_found(x), wanted, anew(j, again));
	else if (!(X509_get_key_usage(x) & X509v3_KU_DIGITAL_SIGNATURE))
		judgement_add(
			j, CERTIFICATE_WRONG_USAGE,
			"its key usage does not allow digital signatures, by which TLS proves "
			"who has the key; %s",
			anew(j, again));
}

static void judge_key(struct judgement *j, X509 *x)
{
	EVP_PKEY *key = X509_get0_pubkey(x);
	char group[64] = "", again[128];

	if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
	    EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) &&
	    strcmp(group, SN_X9_62_prime256v1) == 0)
		return;
	judgement_add(j, CERTIFICATE_WRONG_KEY,
		      "its key is not P-256 but %s%s with %d bits; make a P-256 key and %s",
		      key ? OBJ_nid2sn(EVP_PKEY_get_base_id(key)) : "unreadable",
		      *group ? " on another curve" : "", key ? EVP_PKEY_get_bits(key) : 0,
		      anew(j, again));
}

static void judge_signature(struct judgement *j, X509 *x)
{
	char again[128];
	int hash = NID_undef, key = NID_undef, bits = 0;

	X509_get_signature_info(x, &hash, &key, &bits, NULL);
	if (key == EVP_PKEY_EC && bits >= 128)
		return;
	judgement_add(j, CERTIFICATE_WEAK_SIGNATURE,
		      "it is signed with %s; only ECDSA with SHA-256 or better is good; %s",
		      OBJ_nid2ln(X509_get_signature_nid(x)), anew(j, again));
}

static void judge_dates(struct judgement *j, X509 *x)
{
	const ASN1_TIME *from = X509_get0_notBefore(x), *until = X509_get0_notAfter(x);
	char at[CERTIFICATE_DATE_MAX], again[128];

	if (j->now_s > certificate_time(until))
		judgement_add(j, CERTIFICATE_EXPIRED, "it expired on %s; %s",
			      certificate_date_text(at, until), anew(j, again));
	if (j->now_s < certificate_time(from))
		judgement_add(j, CERTIFICATE_NOT_YET_VALID,
			      "it is not valid before %s; set the clock of the machine that is "
			      "wrong: this one, or the one that issued it",
			      certificate_date_text(at, from));
}

/* X509_check_purpose fills in what the functions above ask for. */
static bool extensions_make_sense(struct judgement *j, X509 *x)
{
	X509_check_purpose(x, -1, 0);
	if (X509_get_extension_flags(x) & EXFLAG_INVALID) {
		judgement_add(j, CERTIFICATE_UNREADABLE,
			      "its extensions cannot be read; issue a new one");
		return false;
	}
	if (X509_get_extension_flags(x) & EXFLAG_CRITICAL) {
		judgement_add(j, CERTIFICATE_UNREADABLE,
			      "it has a critical extension that is not understood; issue one "
			      "without it");
		return false;
	}
	return true;
}

/* The common name, if it can stand in a command. */
static const char *take_id(char id[PRINCIPAL_ID_MAX + 1], X509 *x)
{
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, id,
					    PRINCIPAL_ID_MAX + 1);

	return len > 0 && principal_id_valid(id, (size_t)len) ? id : "DEVICE";
}

static void judge(struct judgement *j, X509 *x, const struct certificate_issuers *issuers)
{
	char id[PRINCIPAL_ID_MAX + 1];

	j->id = take_id(id, x);
	if (!extensions_make_sense(j, x))
		return;
	if (issuers && issuers->trusted_count > 0)
		certificate_judge_issuers(j, x, issuers);
	judge_role(j, x);
	judge_usage(j, x);
	judge_key(j, x);
	judge_dates(j, x);
	judge_signature(j, x);
}

size_t certificate_faults(struct certificate_finding out[CERTIFICATE_FAULTS_MAX], const void *der,
			  size_t len, enum certificate_purpose purpose, int64_t now_s,
			  const struct certificate_issuers *issuers)
{
	struct judgement j = {.purpose = purpose, .now_s = now_s, .out = out};
	X509 *x;

	/* The caller may be in the middle of TLS, which looks at the same queue of errors. */
	ERR_set_mark();
	x = certificate_parse(der, len);
	if (x)
		judge(&j, x, issuers);
	else
		judgement_add(&j, CERTIFICATE_UNREADABLE,
			      "it is not an X.509 certificate, or there is something behind it; "
			      "copy it again");
	X509_free(x);
	ERR_pop_to_mark();
	return j.count;
}

void certificate_fault(struct certificate_finding *out, const void *der, size_t len,
		       enum certificate_purpose purpose, int64_t now_s,
		       const struct certificate_issuers *issuers)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];

	if (certificate_faults(all, der, len, purpose, now_s, issuers) > 0)
		*out = all[0];
	else
		*out = (struct certificate_finding){.fault = CERTIFICATE_GOOD};
}

const char *certificate_fault_name(enum certificate_fault fault)
{
	static const char *const names[] = {
		[CERTIFICATE_GOOD] = "good",
		[CERTIFICATE_UNREADABLE] = "unreadable",
		[CERTIFICATE_SELF_SIGNED] = "self_signed",
		[CERTIFICATE_UNKNOWN_ISSUER] = "unknown_issuer",
		[CERTIFICATE_BAD_SIGNATURE] = "bad_signature",
		[CERTIFICATE_BAD_ISSUER] = "bad_issuer",
		[CERTIFICATE_ISSUER_EXPIRED] = "issuer_expired",
		[CERTIFICATE_IS_CA] = "is_ca",
		[CERTIFICATE_NOT_A_CA] = "not_a_ca",
		[CERTIFICATE_WRONG_USAGE] = "wrong_usage",
		[CERTIFICATE_WRONG_KEY] = "wrong_key",
		[CERTIFICATE_EXPIRED] = "expired",
		[CERTIFICATE_NOT_YET_VALID] = "not_yet_valid",
		[CERTIFICATE_WEAK_SIGNATURE] = "weak_signature",
	};

	return names[fault];
}
