/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/coap/world_pki.h"

static char dir[64];
static pid_t owner;

static const char *const files[] = {
	"ca.pem",	  "ca.key",	    "server.pem",    "server.key",    "device.pem",
	"device.key",	  "other.pem",	    "other.key",     "stranger.pem",  "stranger.key",
	"p384.pem",	  "p384.key",	    "chain.pem",     "chain.key",     "inter384.pem",
	"inter384.key",	  "via384.pem",	    "via384.key",    "expired.pem",   "expired.key",
	"long.pem",	  "long.key",	    "localhost.pem", "localhost.key", "full.pem",
	"full.key",	  "over.pem",	    "over.key",	     "inter.pem",     "inter.key",
	"leaf.pem",	  "leaf.key",	    "deep.pem",	     "deep.key",      "leafdeep.pem",
	"leafdeep.key",	  "whole.pem",	    "whole.key",     "lapsed.pem",    "lapsed.key",
	"leaflapsed.pem", "leaflapsed.key", "narrow.pem",    "narrow.key",    "below.pem",
	"below.key",	  "leafbelow.pem",  "leafbelow.key", "old.pem",	      "old.key",
	"young.pem",	  "young.key",	    "leafyoung.pem", "leafyoung.key",
};

#define FILE_COUNT (sizeof(files) / sizeof(files[0]))

struct named {
	EVP_PKEY *key;
	X509 *crt;
};

static void path_of(char path[96], const char *name)
{
	snprintf(path, 96, "%s/%s", dir, name);
}

static FILE *create(const char *name, const char *ending)
{
	char path[96], file[32];
	FILE *f;

	snprintf(file, sizeof(file), "%s.%s", name, ending);
	path_of(path, file);
	f = fopen(path, "w");
	assert_non_null(f);
	return f;
}

static void extend(X509 *crt, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(e);
	assert_int_equal(X509_add_ext(crt, e, -1), 1);
	X509_EXTENSION_free(e);
}

static const char *constraints = "critical,CA:TRUE"; /* of CAs that are made */

/* issuer NULL: it signs itself. days: from now; below 0: it is over. */
static struct named make(const char *name, const char *cn, const char *curve, bool ca,
			 const struct named *issuer, long days)
{
	static long serial;
	struct named n = {.key = EVP_EC_gen(curve), .crt = X509_new()};
	X509_NAME *subject;
	FILE *f;

	assert_non_null(n.key);
	assert_non_null(n.crt);
	X509_set_version(n.crt, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(n.crt), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(n.crt), -86400 * 10);
	X509_gmtime_adj(X509_getm_notAfter(n.crt), 86400 * days);
	subject = X509_get_subject_name(n.crt);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
				   0);
	X509_set_issuer_name(n.crt, issuer ? X509_get_subject_name(issuer->crt) : subject);
	X509_set_pubkey(n.crt, n.key);
	extend(n.crt, NID_basic_constraints, ca ? constraints : "CA:FALSE");
	assert_true(X509_sign(n.crt, issuer ? issuer->key : n.key, EVP_sha256()) > 0);

	f = create(name, "pem");
	assert_int_equal(PEM_write_X509(f, n.crt), 1);
	fclose(f);
	f = create(name, "key");
	assert_int_equal(PEM_write_PrivateKey(f, n.key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
	return n;
}

static void drop(struct named n)
{
	EVP_PKEY_free(n.key);
	X509_free(n.crt);
}

/* The certificate of an intermediate behind that of who it issued. */
static void append(const char *name, const struct named *issuer)
{
	char path[96], file[32];
	FILE *f;

	snprintf(file, sizeof(file), "%s.pem", name);
	path_of(path, file);
	f = fopen(path, "a");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, issuer->crt), 1);
	fclose(f);
}

static size_t der_len(const struct named *n)
{
	return (size_t)i2d_X509(n->crt, NULL);
}

/* A server's chain of less than `max` bytes, as long as it gets with these. */
static void fill(const char *name, const struct named *ca, size_t max)
{
	struct named leaf = make(name, "server.test", "P-256", false, ca, 100);
	size_t len = der_len(&leaf);

	for (; len + der_len(ca) < max; len += der_len(ca))
		append(name, ca);
	drop(leaf);
}

/* What a device shows that sends only its own, and what stands between that and the CA. */
static void make_chains(const struct named *ca)
{
	struct named inter = make("inter", "Device CA", "P-256", true, ca, 100);
	struct named deep = make("deep", "Device CA of a device CA", "P-256", true, &inter, 100);
	struct named lapsed = make("lapsed", "Lapsed CA", "P-256", true, ca, -1);
	struct named old = make("old", "Old root", "P-256", true, NULL, -1), narrow, below;
	struct named young = make("young", "Young CA of it", "P-256", true, &old, 100);

	drop(make("leaf", "device-crt", "P-256", false, &inter, 100));
	drop(make("leafdeep", "device-crt", "P-256", false, &deep, 100));
	drop(make("whole", "device-crt", "P-256", false, &inter, 100));
	append("whole", &inter);
	drop(make("leaflapsed", "device-crt", "P-256", false, &lapsed, 100));
	drop(make("leafyoung", "device-crt", "P-256", false, &young, 100));
	drop(young);
	drop(old);
	constraints = "critical,CA:TRUE,pathlen:0";
	narrow = make("narrow", "Narrow CA", "P-256", true, NULL, 100);
	below = make("below", "CA below it", "P-256", true, &narrow, 100);
	constraints = "critical,CA:TRUE";
	drop(make("leafbelow", "device-crt", "P-256", false, &below, 100));
	drop(below);
	drop(narrow);
	drop(lapsed);
	drop(deep);
	drop(inter);
}

static void clean(void)
{
	char path[96];

	if (owner != getpid())
		return;
	for (size_t i = 0; i < FILE_COUNT; i++) {
		path_of(path, files[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void make_all(void)
{
	struct named ca, foreign, inter;

	snprintf(dir, sizeof(dir), "/tmp/fg-world-XXXXXX");
	assert_non_null(mkdtemp(dir));
	owner = getpid();
	atexit(clean);
	ca = make("ca", "Test CA", "P-256", true, NULL, 100);
	drop(make("server", "server.test", "P-256", false, &ca, 100));
	drop(make("other", "server.test", "P-256", false, &ca, 100));
	drop(make("device", "device-crt", "P-256", false, &ca, 100));
	drop(make("p384", "device-crt", "P-384", false, &ca, 100));
	drop(make("expired", "device-crt", "P-256", false, &ca, -1));
	inter = make("inter384", "Test intermediate", "P-384", true, &ca, 100);
	drop(make("via384", "device-crt", "P-256", false, &inter, 100));
	append("via384", &inter);
	drop(make("localhost", "localhost", "P-256", false, &ca, 100));
	drop(make("long", "server.test", "P-256", false, &ca, 100));
	for (int i = 0; i < 4; i++)
		append("long", &ca);
	fill("full", &ca, 4096);
	fill("over", &ca, 5000);
	make_chains(&ca);
	foreign = make("chain", "Foreign CA", "P-256", true, NULL, 100);
	drop(make("stranger", "device-crt", "P-256", false, &foreign, 100));
	drop(foreign);
	drop(inter);
	drop(ca);
}

const char *world_pki_file(const char *name)
{
	static char path[FILE_COUNT][96];

	if (!dir[0])
		make_all();
	for (size_t i = 0; i < FILE_COUNT; i++)
		if (strcmp(files[i], name) == 0) {
			path_of(path[i], name);
			return path[i];
		}
	fail_msg("no such file: %s", name);
	return NULL;
}
