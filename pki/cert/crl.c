/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-cert crl: a certificate revocation list (RFC 5280 section 5), for others: Fieldgate's
 * own servers ask the registry. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/base/clock.h"
#include "pki/cert/authority.h"
#include "pki/cert/cert.h"
#include "pki/cert/file.h"

#define DAY_S	       INT64_C(86400)
#define DAYS_MAX       3650
#define NUMBER_DIGITS  40 /* RFC 5280 section 5.2.3: at most 20 octets */
#define SERIAL_HEX_MAX 40 /* and section 4.1.2.2 */

struct options {
	const char *ca, *number, *out;
	long days;
};

/* --- An entry --- */

/* RFC 5280 section 5.3.1; -1: there is no such reason. */
static int reason_code(const char *name)
{
	static const struct {
		const char *name;
		int code;
	} reasons[] = {
		{"unspecified", CRL_REASON_UNSPECIFIED},
		{"keyCompromise", CRL_REASON_KEY_COMPROMISE},
		{"cACompromise", CRL_REASON_CA_COMPROMISE},
		{"affiliationChanged", CRL_REASON_AFFILIATION_CHANGED},
		{"superseded", CRL_REASON_SUPERSEDED},
		{"cessationOfOperation", CRL_REASON_CESSATION_OF_OPERATION},
		{"certificateHold", CRL_REASON_CERTIFICATE_HOLD},
		{"privilegeWithdrawn", CRL_REASON_PRIVILEGE_WITHDRAWN},
		{"aACompromise", CRL_REASON_AA_COMPROMISE},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++) {
		if (strcmp(reasons[i].name, name) == 0)
			return reasons[i].code;
	}
	return -1;
}

/* 2026-01-31T12:00:00Z, or as PostgreSQL has it: 2026-01-31 12:00:00.123+00. */
static bool parse_date(time_t *out, const char *text)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%d", &tm);

	if (!end || (*end != 'T' && *end != ' '))
		return false;
	end = strptime(end + 1, "%H:%M:%S", &tm);
	if (end && *end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	if (!end || (strcmp(end, "Z") != 0 && strcmp(end, "+00") != 0))
		return false;
	*out = timegm(&tm);
	return true;
}

static bool set_serial(X509_REVOKED *entry, const char *hex)
{
	BIGNUM *number = NULL;
	ASN1_INTEGER *serial = NULL;
	size_t len = strlen(hex);
	bool good = len > 0 && len <= SERIAL_HEX_MAX && BN_hex2bn(&number, hex) == (int)len &&
		    (serial = BN_to_ASN1_INTEGER(number, NULL)) &&
		    X509_REVOKED_set_serialNumber(entry, serial) == 1;

	BN_free(number);
	ASN1_INTEGER_free(serial);
	return good;
}

/* That there is no particular reason is said by saying none. */
static bool set_reason(X509_REVOKED *entry, int code)
{
	ASN1_ENUMERATED *reason;
	bool good;

	if (code == CRL_REASON_UNSPECIFIED)
		return true;
	reason = ASN1_ENUMERATED_new();
	good = reason && ASN1_ENUMERATED_set(reason, code) == 1 &&
	       X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, X509V3_ADD_DEFAULT) == 1;
	ASN1_ENUMERATED_free(reason);
	return good;
}

static bool set_date(X509_REVOKED *entry, time_t when)
{
	ASN1_TIME *date = ASN1_TIME_set(NULL, when);
	bool good = date && X509_REVOKED_set_revocationDate(entry, date) == 1;

	ASN1_TIME_free(date);
	return good;
}

/* SERIAL<TAB>DATE<TAB>REASON; the last may be missing. NULL: it is none. */
static X509_REVOKED *parse_entry(char *line)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	char *serial, *date, *reason;
	time_t when = 0;
	int code;

	line[strcspn(line, "\n")] = '\0';
	serial = strsep(&line, "\t");
	date = strsep(&line, "\t");
	reason = strsep(&line, "\t");
	code = reason_code(reason && *reason ? reason : "unspecified");
	if (entry && !line && date && code >= 0 && parse_date(&when, date) &&
	    set_serial(entry, serial) && set_date(entry, when) && set_reason(entry, code))
		return entry;
	X509_REVOKED_free(entry);
	return NULL;
}

static int read_entries(X509_CRL *crl)
{
	size_t room = 0, number = 0;
	char *line = NULL;
	int status = 0;

	while (status == 0 && getline(&line, &room, stdin) > 0) {
		X509_REVOKED *entry = parse_entry(line);

		number++;
		if (!entry || X509_CRL_add0_revoked(crl, entry) != 1) {
			X509_REVOKED_free(entry);
			status = complain("stdin, line %zu: SERIAL in hexadecimal, DATE as "
					  "2026-01-31T12:00:00Z and a REASON of RFC 5280 are "
					  "needed, separated by tabs",
					  number);
		}
	}
	if (status == 0 && ferror(stdin))
		status = complain("stdin: %s", strerror(errno));
	free(line);
	return status;
}

/* --- The list --- */

static bool set_dates(X509_CRL *crl, long days)
{
	time_t now = (time_t)(clock_realtime_us() / US_PER_S);
	ASN1_TIME *last = ASN1_TIME_set(NULL, now);
	ASN1_TIME *next = ASN1_TIME_set(NULL, now + days * DAY_S);
	bool good = last && next && X509_CRL_set1_lastUpdate(crl, last) == 1 &&
		    X509_CRL_set1_nextUpdate(crl, next) == 1;

	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
	return good;
}

static bool set_number(X509_CRL *crl, const char *text)
{
	ASN1_INTEGER *number = s2i_ASN1_INTEGER(NULL, text);
	bool good = number &&
		    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_DEFAULT) == 1;

	ASN1_INTEGER_free(number);
	return good;
}

static bool set_issuer(X509_CRL *crl, X509 *ca)
{
	const ASN1_OCTET_STRING *key = X509_get0_subject_key_id(ca);
	AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();
	bool good = key && id && (id->keyid = ASN1_OCTET_STRING_dup(key)) &&
		    X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, id, 0,
					  X509V3_ADD_DEFAULT) == 1 &&
		    X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca)) == 1;

	AUTHORITY_KEYID_free(id);
	return good;
}

static int write_list(const char *path, X509_CRL *crl)
{
	BIO *out = BIO_new(BIO_s_mem());
	int status = out && PEM_write_bio_X509_CRL(out, crl)
			     ? cert_file_replace(path, out, 0666)
			     : complain_openssl("%s: the list cannot be written", path);

	BIO_free(out);
	return status;
}

static int make_list(const struct options *o, const struct authority *ca)
{
	X509_CRL *crl = X509_CRL_new();
	int status = 0;

	if (!crl || X509_CRL_set_version(crl, X509_CRL_VERSION_2) != 1 ||
	    !set_issuer(crl, ca->cert) || !set_dates(crl, o->days) || !set_number(crl, o->number))
		status = complain_openssl("%s: the list cannot be made", o->out);
	if (status == 0)
		status = read_entries(crl);
	if (status == 0 &&
	    (X509_CRL_sort(crl) != 1 || X509_CRL_sign(crl, ca->key, EVP_sha256()) <= 0))
		status = complain_openssl("%s cannot be signed", o->out);
	if (status == 0)
		status = write_list(o->out, crl);
	X509_CRL_free(crl);
	return status;
}

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{"ca", required_argument, NULL, 'c'},
		{"days", required_argument, NULL, 'd'},
		{"number", required_argument, NULL, 'n'},
		{"out", required_argument, NULL, 'o'},
		{0},
	};
	char *end = "";
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'c')
			o->ca = optarg;
		else if (c == 'd')
			o->days = strtol(optarg, &end, 10);
		else if (c == 'n')
			o->number = optarg;
		else if (c == 'o')
			o->out = optarg;
		else
			return EXIT_USAGE;
	}
	if (optind != argc || !o->ca || !o->number || !o->out || *end || o->days < 1 ||
	    o->days > DAYS_MAX)
		return usage();
	if (!*o->number || strspn(o->number, "0123456789") != strlen(o->number) ||
	    strlen(o->number) > NUMBER_DIGITS)
		return usage();
	return 0;
}

int crl_main(int argc, char **argv)
{
	struct options o = {0};
	struct authority ca;
	int status = parse_options(&o, argc, argv);

	if (status != 0)
		return status;
	status = authority_open(&ca, o.ca);
	if (status == 0)
		status = make_list(&o, &ca);
	authority_close(&ca);
	return status;
}
