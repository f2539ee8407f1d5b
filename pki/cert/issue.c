/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-cert issue: a certificate for each line of stdin, with one start of the program and one
 * opening of the CA's key. The first line that fails ends it; what was made before stays. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/base/clock.h"
#include "pki/cert/authority.h"
#include "pki/cert/cert.h"
#include "pki/cert/csr.h"
#include "pki/cert/describe.h"
#include "pki/cert/file.h"
#include "pki/cert/private_key.h"
#include "pki/cert/profile.h"
#include "pki/cert/spki.h"

#define DAY_S	   INT64_C(86400)
#define DAYS_MAX   99999
#define BACKDATE_S INT64_C(300) /* clocks of two machines may differ by so much */

struct issuing {
	const struct profile *profile;
	struct authority ca; /* cert is NULL: each certificate is signed by itself */
	bool encrypt_keys;
	int64_t not_before, not_after;
};

struct job {
	const char *name, *san, *key, *out;
};

/* --- The key of a job --- */

static EVP_PKEY *read_request(const char *path)
{
	EVP_PKEY *key = NULL;
	char err[256], *data;
	size_t len;

	if (cert_file_read(path, &data, &len) != 0)
		return NULL;
	if (csr_read(&key, data, len, err, sizeof(err)) != 0)
		complain("%s: %s", path, err);
	cert_file_free(data);
	return key;
}

static EVP_PKEY *key_of_job(const struct issuing *i, const char *spec)
{
	if (strncmp(spec, "new:", 4) == 0)
		return private_key_new(spec + 4, i->encrypt_keys);
	if (strncmp(spec, "key:", 4) == 0)
		return private_key_read(spec + 4);
	if (strncmp(spec, "csr:", 4) == 0 && i->ca.cert)
		return read_request(spec + 4);
	complain("'%s' cannot be the key: new:FILE, key:FILE%s", spec,
		 i->ca.cert ? " or csr:FILE can" : " can, for a certificate that signs itself");
	return NULL;
}

static int check_key(const char *spec, const EVP_PKEY *key)
{
	struct spki spki;
	bool p256;

	if (spki_of_key(&spki, key) != 0)
		return complain_openssl("%s: its public key cannot be read", spec);
	p256 = spki_is_p256(&spki);
	spki_free(&spki);
	return p256 ? 0 : complain("%s is a key of another kind: " SPKI_WANTED, spec);
}

/* --- A job --- */

static int write_certificate(const char *path, X509 *x)
{
	BIO *out = BIO_new(BIO_s_mem());
	int status = out && PEM_write_bio_X509(out, x)
			     ? cert_file_new(path, out, 0666)
			     : complain_openssl("%s: the certificate cannot be written", path);

	BIO_free(out);
	return status;
}

static int sign_and_write(const struct issuing *i, const struct job *job, X509 *x, EVP_PKEY *key)
{
	if (X509_sign(x, i->ca.cert ? i->ca.key : key, EVP_sha256()) <= 0)
		return complain_openssl("%s cannot be signed", job->out);
	if (write_certificate(job->out, x) != 0)
		return EXIT_FAILED;
	return describe(stdout, x, i->ca.cert ? i->ca.cert : x);
}

static int issue(const struct issuing *i, const struct job *job)
{
	EVP_PKEY *key = key_of_job(i, job->key);
	struct certificate_plan plan = {
		.profile = i->profile,
		.name = job->name,
		.san = strcmp(job->san, "-") == 0 ? NULL : job->san,
		.key = key,
		.issuer = i->ca.cert,
		.not_before = i->not_before,
		.not_after = i->not_after,
	};
	char err[512];
	X509 *x = NULL;
	int status;

	if (!key)
		return EXIT_FAILED;
	status = check_key(job->key, key);
	if (status == 0) {
		x = profile_certificate(&plan, err, sizeof(err));
		status = x ? sign_and_write(i, job, x, key) : complain("%s", err);
	}
	X509_free(x);
	EVP_PKEY_free(key);
	return status;
}

static bool parse_job(struct job *job, char *line)
{
	const char **fields[] = {&job->name, &job->san, &job->key, &job->out};

	line[strcspn(line, "\n")] = '\0';
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		*fields[i] = strsep(&line, "\t");
		if (!*fields[i] || !**fields[i])
			return false;
	}
	return !line;
}

static int run_jobs(const struct issuing *i)
{
	size_t room = 0, number = 0;
	char *line = NULL;
	int status = 0;

	while (status == 0 && getline(&line, &room, stdin) > 0) {
		struct job job;

		number++;
		status = parse_job(&job, line)
				 ? issue(i, &job)
				 : complain("stdin, line %zu: NAME, SAN, KEY and OUT are needed, "
					    "separated by tabs",
					    number);
	}
	if (status == 0 && ferror(stdin))
		status = complain("stdin: %s", strerror(errno));
	free(line);
	return status;
}

/* --- Options --- */

static int64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* May this CA sign certificates of this profile? Otherwise nobody would accept them. */
static int check_ca(const struct issuing *i)
{
	uint32_t purposes = X509_get_extended_key_usage(i->ca.cert);

	if (i->profile->ca && X509_get_pathlen(i->ca.cert) == 0)
		return complain("%s cannot sign the certificate of a CA, which follows from its "
				"path length 0: the root can",
				i->ca.dir);
	if (purposes != UINT32_MAX && !(purposes & i->profile->xku_flag))
		return complain("%s cannot sign for %s: its extended key usage is another one",
				i->ca.dir, i->profile->name);
	return 0;
}

/* From a little before now, so many days in all; but no certificate is valid before its CA or after
 * it. */
static int set_dates(struct issuing *i, int64_t days)
{
	int64_t now = clock_realtime_us() / US_PER_S, end;
	char text[TIME_TEXT_MAX];

	i->not_before = now - BACKDATE_S;
	if (!i->ca.cert) {
		i->not_after = i->not_before + days * DAY_S;
		return 0;
	}
	if (i->not_before < seconds_of(X509_get0_notBefore(i->ca.cert)))
		i->not_before = seconds_of(X509_get0_notBefore(i->ca.cert));
	i->not_after = i->not_before + days * DAY_S;
	end = seconds_of(X509_get0_notAfter(i->ca.cert));
	if (end - now < DAY_S)
		return complain("%s/cert.pem ends within a day: it can sign nothing any more",
				i->ca.dir);
	if (i->not_after > end) {
		i->not_after = end;
		warn("%s/cert.pem is valid until %s, and so is what it signs now: %d days and not "
		     "%d",
		     i->ca.dir, time_print(text, X509_get0_notAfter(i->ca.cert)),
		     (int)((end - now) / DAY_S), (int)days);
	}
	return 0;
}

struct options {
	const char *profile, *ca;
	bool self, encrypt_keys;
	long days;
};

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{"profile", required_argument, NULL, 'p'}, {"ca", required_argument, NULL, 'c'},
		{"self", no_argument, NULL, 's'},	   {"days", required_argument, NULL, 'd'},
		{"encrypt-keys", no_argument, NULL, 'e'},  {0},
	};
	char *end = "";
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'p')
			o->profile = optarg;
		else if (c == 'c')
			o->ca = optarg;
		else if (c == 's')
			o->self = true;
		else if (c == 'd')
			o->days = strtol(optarg, &end, 10);
		else if (c == 'e')
			o->encrypt_keys = true;
		else
			return EXIT_USAGE;
	}
	if (optind != argc || !o->profile || !o->ca == !o->self || *end || o->days < 1 ||
	    o->days > DAYS_MAX)
		return usage();
	return 0;
}

int issue_main(int argc, char **argv)
{
	struct options o = {0};
	struct issuing i = {0};
	int status = parse_options(&o, argc, argv);

	if (status != 0)
		return status;
	i.profile = profile_find(o.profile);
	i.encrypt_keys = o.encrypt_keys;
	if (!i.profile)
		return usage();
	if (o.self != (i.profile->purpose == NID_undef))
		return complain(o.self ? "only a root signs itself"
				       : "a root signs itself: --self");
	if (o.ca)
		status = authority_open(&i.ca, o.ca);
	if (status == 0 && o.ca)
		status = check_ca(&i);
	if (status == 0)
		status = set_dates(&i, o.days);
	if (status == 0)
		status = run_jobs(&i);
	authority_close(&i.ca);
	return status;
}
