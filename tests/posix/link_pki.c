/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/posix/link_pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_SIZE  96
#define DAY	   86400
#define CHAIN_LONG 4096 /* bytes that a modem takes */

struct party {
	EVP_PKEY *key;
	X509 *certificate;
};

static const char *const names[] = {"ca",     "server",	  "named",     "expired",
				    "device", "stranger", "strangers", "long"};
static char directory[] = "/tmp/fg-link-XXXXXX";
static pid_t owner;

static void extend(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static FILE *create(const char *name, const char *ending)
{
	char path[PATH_SIZE];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s%s", directory, name, ending);
	f = fopen(path, "a");
	assert_non_null(f);
	return f;
}

static struct party make(const char *name, const char *alternatives, const struct party *issuer,
			 long days)
{
	static long serial;
	struct party p = {EVP_EC_gen("P-256"), X509_new()};
	X509_NAME *subject = X509_get_subject_name(p.certificate);
	FILE *f;

	X509_set_version(p.certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(p.certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(p.certificate), -10L * DAY);
	X509_gmtime_adj(X509_getm_notAfter(p.certificate), days * DAY);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(p.certificate,
			     issuer ? X509_get_subject_name(issuer->certificate) : subject);
	X509_set_pubkey(p.certificate, p.key);
	extend(p.certificate, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
	if (alternatives)
		extend(p.certificate, NID_subject_alt_name, alternatives);
	assert_true(X509_sign(p.certificate, issuer ? issuer->key : p.key, EVP_sha256()) > 0);
	f = create(name, ".pem");
	PEM_write_X509(f, p.certificate);
	fclose(f);
	f = create(name, ".key");
	PEM_write_PrivateKey(f, p.key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	return p;
}

static void drop(struct party p)
{
	EVP_PKEY_free(p.key);
	X509_free(p.certificate);
}

/* The CA's own certificate again and again behind it: nobody needs it, but it has to be taken. */
static void make_long(const struct party *ca)
{
	struct party p = make("long", "DNS:localhost,IP:127.0.0.1", ca, 100);
	int length = i2d_X509(p.certificate, NULL), more = i2d_X509(ca->certificate, NULL);
	FILE *f = create("long", ".pem");

	for (length += more + 6; length < CHAIN_LONG; length += more + 3)
		PEM_write_X509(f, ca->certificate);
	fclose(f);
	drop(p);
}

static void clean(void)
{
	char path[PATH_SIZE];

	if (owner != getpid())
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s.pem", directory, names[i]);
		unlink(path);
		snprintf(path, sizeof(path), "%s/%s.key", directory, names[i]);
		unlink(path);
	}
	rmdir(directory);
}

static void make_all(void)
{
	struct party ca, strangers;

	assert_non_null(mkdtemp(directory));
	owner = getpid();
	atexit(clean);
	ca = make("ca", NULL, NULL, 100);
	strangers = make("strangers", NULL, NULL, 100);
	drop(make("server", "DNS:localhost,IP:127.0.0.1", &ca, 100));
	drop(make("named", "DNS:server.test", &ca, 100));
	drop(make("expired", "DNS:localhost,IP:127.0.0.1", &ca, -1));
	drop(make("device", NULL, &ca, 100));
	drop(make("stranger", NULL, &strangers, 100));
	make_long(&ca);
	drop(strangers);
	drop(ca);
}

const char *link_pki(const char *file)
{
	static char paths[8][PATH_SIZE]; /* a test has a few of them at hand at the same time */
	static unsigned next;
	char *path = paths[next++ % 8];

	if (!owner)
		make_all();
	snprintf(path, PATH_SIZE, "%s/%s", directory, file);
	return path;
}
