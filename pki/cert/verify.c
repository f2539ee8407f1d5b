/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-cert verify: every fault of a certificate, not the first one only. What makes TLS
 * refuse it is found by core/registry/certificate_fault.h, in the words of the servers' logs; what
 * breaks our own profile by strict.h; here are the files, the chain a server sends, and revocation
 * lists.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/base/clock.h"
#include "core/registry/certificate_fault.h"
#include "pki/cert/authority.h"
#include "pki/cert/cert.h"
#include "pki/cert/describe.h"
#include "pki/cert/file.h"
#include "pki/cert/strict.h"

#define CAS_MAX	  256 /* of the files that are trusted, and of one file that is verified */
#define CRLS_MAX  64
#define CHAIN_MAX 4096 /* bytes of a server's certificates in a handshake that a modem takes */
#define HEAD_LEN  3    /* before each of them: RFC 8446 section 4.4.2 */

struct verifying {
	X509 *roots[CAS_MAX], *cas[CAS_MAX];
	size_t root_count, ca_count;
	X509_CRL *crls[CRLS_MAX];
	size_t crl_count;
	int purpose; /* enum certificate_purpose; -1: as each says */
	const char *name;
	const char *file; /* that is verified now */
	size_t faults;	  /* of it */
};

static void fault(struct verifying *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fault(struct verifying *v, const char *fmt, ...)
{
	va_list ap;

	printf("%s: ", v->file);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	v->faults++;
}

/* strict_report_fn */
static void report(void *arg, const char *text)
{
	fault(arg, "%s", text);
}

/* --- Who signed it --- */

static X509 *issuer_among(X509 *x, X509 *const *candidates, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (X509_NAME_cmp(X509_get_subject_name(candidates[i]), X509_get_issuer_name(x)) ==
			    0 &&
		    X509_verify(x, X509_get0_pubkey(candidates[i])) == 1)
			return candidates[i];
	}
	return NULL;
}

static X509 *find_issuer(const struct verifying *v, X509 *x, STACK_OF(X509) * chain)
{
	X509 *found;

	ERR_set_mark();
	found = issuer_among(x, v->roots, v->root_count);
	if (!found)
		found = issuer_among(x, v->cas, v->ca_count);
	for (int i = 1; !found && i < sk_X509_num(chain); i++) {
		X509 *candidate = sk_X509_value(chain, i);

		found = issuer_among(x, &candidate, 1);
	}
	ERR_pop_to_mark();
	return found == x ? NULL : found;
}

/* --- Lists --- */

static void check_list(struct verifying *v, X509 *x, X509_CRL *crl, X509 *issuer)
{
	char when[TIME_TEXT_MAX], issuer_name[NAME_TEXT_MAX];
	X509_REVOKED *entry;

	name_print(issuer_name, X509_CRL_get_issuer(crl));
	if (issuer && X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1) {
		fault(v,
		      "the revocation list of %s is not signed by it; get another one with "
		      "fleet crl",
		      issuer_name);
		return;
	}
	if (X509_CRL_get0_nextUpdate(crl) &&
	    X509_cmp_current_time(X509_CRL_get0_nextUpdate(crl)) < 0) {
		fault(v,
		      "the revocation list of %s should have been followed by another on %s; "
		      "make one with fleet crl",
		      issuer_name, time_print(when, X509_CRL_get0_nextUpdate(crl)));
	}
	if (X509_CRL_get0_by_cert(crl, &entry, x) == 1) {
		fault(v, "it was revoked on %s, as the list of its CA says; remove it",
		      time_print(when, X509_REVOKED_get0_revocationDate(entry)));
	}
}

static void check_lists(struct verifying *v, X509 *x, X509 *issuer)
{
	ERR_set_mark();
	for (size_t i = 0; i < v->crl_count; i++) {
		if (X509_NAME_cmp(X509_CRL_get_issuer(v->crls[i]), X509_get_issuer_name(x)) == 0)
			check_list(v, x, v->crls[i], issuer);
	}
	ERR_pop_to_mark();
}

/* --- The chain in a file --- */

static void check_chain(struct verifying *v, STACK_OF(X509) * chain)
{
	size_t size = 0;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *x = sk_X509_value(chain, i);
		X509 *next = i + 1 < sk_X509_num(chain) ? sk_X509_value(chain, i + 1) : NULL;

		size += HEAD_LEN + (size_t)i2d_X509(x, NULL);
		if (next && !issuer_among(x, &next, 1)) {
			fault(v,
			      "certificate %d of the file does not follow from certificate %d "
			      "(RFC 5246 section 7.4.2); put each CA behind what it has signed",
			      i + 1, i + 2);
		}
	}
	ERR_clear_error();
	if (size >= CHAIN_MAX) {
		fault(v,
		      "its chain has %zu bytes, and a modem takes less than %d; give the server "
		      "fewer or shorter names",
		      size, CHAIN_MAX);
	}
}

/* --- A certificate --- */

static void take_der(struct certificate_der *out, X509 *x)
{
	unsigned char *der = NULL;
	int len = i2d_X509(x, &der);

	*out = (struct certificate_der){der, len > 0 ? (size_t)len : 0};
}

/* As TLS would: the words of core/registry. */
static void check_faults(struct verifying *v, STACK_OF(X509) * chain,
			 enum certificate_purpose purpose)
{
	static struct certificate_der roots[CAS_MAX], others[2 * CAS_MAX];
	struct certificate_issuers issuers = {roots, v->root_count, others, 0};
	struct certificate_finding found[CERTIFICATE_FAULTS_MAX];
	struct certificate_der x;
	size_t count;

	take_der(&x, sk_X509_value(chain, 0));
	for (size_t i = 0; i < v->root_count; i++)
		take_der(&roots[i], v->roots[i]);
	for (size_t i = 0; i < v->ca_count; i++)
		take_der(&others[issuers.other_count++], v->cas[i]);
	for (int i = 1; i < sk_X509_num(chain) && i <= CAS_MAX; i++)
		take_der(&others[issuers.other_count++], sk_X509_value(chain, i));
	count = certificate_faults(found, x.der, x.len, purpose, clock_realtime_us() / US_PER_S,
				   &issuers);
	for (size_t i = 0; i < count; i++)
		fault(v, "%s", found[i].text);
	OPENSSL_free((void *)x.der);
	for (size_t i = 0; i < issuers.trusted_count; i++)
		OPENSSL_free((void *)roots[i].der);
	for (size_t i = 0; i < issuers.other_count; i++)
		OPENSSL_free((void *)others[i].der);
}

static enum certificate_purpose purpose_of(const struct verifying *v, X509 *x)
{
	uint32_t usage = X509_get_extended_key_usage(x);

	if (v->purpose >= 0)
		return (enum certificate_purpose)v->purpose;
	if (X509_check_ca(x) == 1)
		return CERTIFICATE_AUTHORITY;
	return usage != UINT32_MAX && (usage & XKU_SSL_SERVER) ? CERTIFICATE_SERVER
							       : CERTIFICATE_DEVICE;
}

static void say_good(const struct verifying *v, X509 *x, enum certificate_purpose purpose)
{
	static const char *const kinds[] = {[CERTIFICATE_DEVICE] = "device",
					    [CERTIFICATE_SERVER] = "server",
					    [CERTIFICATE_AUTHORITY] = "CA"};
	char name[NAME_TEXT_MAX], end[TIME_TEXT_MAX];

	printf("%s: good: %s %s, valid until %s\n", v->file, kinds[purpose],
	       name_print(name, X509_get_subject_name(x)), time_print(end, X509_get0_notAfter(x)));
}

static void verify_chain(struct verifying *v, STACK_OF(X509) * chain)
{
	X509 *x = sk_X509_value(chain, 0), *issuer = find_issuer(v, x, chain);
	enum certificate_purpose purpose = purpose_of(v, x);

	check_faults(v, chain, purpose);
	strict_check(x, issuer, purpose, report, v);
	if (v->name)
		strict_check_name(x, purpose, v->name, report, v);
	if (purpose == CERTIFICATE_SERVER)
		check_chain(v, chain);
	check_lists(v, x, issuer);
	if (v->faults == 0)
		say_good(v, x, purpose);
}

static int verify_file(struct verifying *v, const char *path)
{
	STACK_OF(X509) *chain = certificates_load(path);

	if (!chain)
		return EXIT_FAILED;
	v->file = path;
	v->faults = 0;
	verify_chain(v, chain);
	sk_X509_pop_free(chain, X509_free);
	return v->faults == 0 ? 0 : EXIT_FAILED;
}

/* --- Options --- */

/* Where a chain may end is what signs itself; the other CAs of the file are known to be there. */
static int trust(struct verifying *v, const char *path)
{
	STACK_OF(X509) *all = certificates_load(path);
	int status = 0;
	X509 *x;

	if (!all)
		return EXIT_FAILED;
	while ((x = sk_X509_shift(all))) {
		bool root = X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;

		if (v->root_count == CAS_MAX || v->ca_count == CAS_MAX) {
			status = complain("%s: more than %d CAs are trusted", path, CAS_MAX);
			X509_free(x);
		} else if (root) {
			v->roots[v->root_count++] = x;
		} else {
			v->cas[v->ca_count++] = x;
		}
	}
	sk_X509_free(all);
	return status;
}

static int add_list(struct verifying *v, const char *path)
{
	X509_CRL *crl;
	BIO *in;

	if (v->crl_count == CRLS_MAX)
		return complain("more than %d revocation lists", CRLS_MAX);
	in = BIO_new_file(path, "r");
	crl = in ? PEM_read_bio_X509_CRL(in, NULL, NULL, NULL) : NULL;
	BIO_free(in);
	if (!crl)
		return complain_openssl("%s is no revocation list in PEM", path);
	v->crls[v->crl_count++] = crl;
	return 0;
}

static int parse_purpose(struct verifying *v, const char *text)
{
	static const char *const names[] = {[CERTIFICATE_DEVICE] = "device",
					    [CERTIFICATE_SERVER] = "server",
					    [CERTIFICATE_AUTHORITY] = "ca"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(names[i], text) == 0) {
			v->purpose = (int)i;
			return 0;
		}
	}
	return usage();
}

static int parse_options(struct verifying *v, int argc, char **argv)
{
	static const struct option known[] = {
		{"trust", required_argument, NULL, 't'},
		{"crl", required_argument, NULL, 'c'},
		{"purpose", required_argument, NULL, 'p'},
		{"name", required_argument, NULL, 'n'},
		{0},
	};
	int c, status = 0;

	while (status == 0 && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 't')
			status = trust(v, optarg);
		else if (c == 'c')
			status = add_list(v, optarg);
		else if (c == 'p')
			status = parse_purpose(v, optarg);
		else if (c == 'n')
			v->name = optarg;
		else
			status = EXIT_USAGE;
	}
	if (status == 0 && optind == argc)
		status = usage();
	return status;
}

static void release(struct verifying *v)
{
	for (size_t i = 0; i < v->root_count; i++)
		X509_free(v->roots[i]);
	for (size_t i = 0; i < v->ca_count; i++)
		X509_free(v->cas[i]);
	for (size_t i = 0; i < v->crl_count; i++)
		X509_CRL_free(v->crls[i]);
}

int verify_main(int argc, char **argv)
{
	struct verifying v = {.purpose = -1};
	int status = parse_options(&v, argc, argv);

	bool good = true;

	for (int i = optind; status == 0 && i < argc; i++)
		good = verify_file(&v, argv[i]) == 0 && good;
	release(&v);
	return status != 0 || good ? status : EXIT_FAILED;
}
