/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/profile.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "core/base/clock.h"
#include "core/registry/certificate.h"

#define SUBJECT_MAX	256
#define COMMON_NAME_MAX 64 /* ub-common-name, RFC 5280 appendix A.1 */
#define SERIAL_MARK	"{serial}"
#define SERIAL_DIGITS	8

static const struct profile profiles[] = {
	{"root", true, 1, NID_undef, 0},
	{"device-ca", true, 0, NID_client_auth, XKU_SSL_CLIENT},
	{"server-ca", true, 0, NID_server_auth, XKU_SSL_SERVER},
	{"device", false, -1, NID_client_auth, XKU_SSL_CLIENT},
	{"server", false, -1, NID_server_auth, XKU_SSL_SERVER},
};

struct writing {
	const struct certificate_plan *plan;
	X509 *x;
	char *err;
	size_t err_len;
};

static bool refuse(const struct writing *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static bool refuse(const struct writing *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->err, w->err_len, fmt, ap);
	va_end(ap);
	return false;
}

const struct profile *profile_find(const char *name)
{
	for (size_t i = 0; i < sizeof(profiles) / sizeof(*profiles); i++) {
		if (strcmp(profiles[i].name, name) == 0)
			return &profiles[i];
	}
	return NULL;
}

/* --- Serial number, names --- */

/* A first byte of zero is drawn again: every number then has 32 digits. When its top bit is set,
 * DER puts a zero in front, so the number stays positive and has 17 octets. */
static bool add_serial(const struct writing *w, char last_digits[SERIAL_DIGITS + 1])
{
	uint8_t serial[SERIAL_LEN];

	do {
		random_bytes(serial, sizeof(serial));
	} while (serial[0] == 0);
	for (size_t i = 0; i < SERIAL_DIGITS / 2; i++)
		snprintf(last_digits + 2 * i, 3, "%02x",
			 serial[SERIAL_LEN - SERIAL_DIGITS / 2 + i]);
	return ASN1_STRING_set(X509_get_serialNumber(w->x), serial, SERIAL_LEN) == 1;
}

static bool add_attribute(const struct writing *w, const char *type, const char *value)
{
	if (!*value || X509_NAME_add_entry_by_txt(X509_get_subject_name(w->x), type, MBSTRING_UTF8,
						  (const unsigned char *)value, -1, -1, 0) != 1)
		return refuse(w, "'%s' cannot be the %s of a subject", value, type);
	return true;
}

static bool add_common_name(const struct writing *w)
{
	if (strlen(w->plan->name) > COMMON_NAME_MAX)
		return refuse(w, "'%s' has more than %d characters: a common name has not",
			      w->plan->name, COMMON_NAME_MAX);
	return add_attribute(w, "CN", w->plan->name);
}

/* /O=Fieldgate/CN=Fieldgate root {serial} */
static bool add_subject(const struct writing *w, const char *serial)
{
	const char *name = w->plan->name, *mark = strstr(name, SERIAL_MARK);
	char text[SUBJECT_MAX], *rest = text, *part;
	int n;

	n = mark ? snprintf(text, sizeof(text), "%.*s%s%s", (int)(mark - name), name, serial,
			    mark + strlen(SERIAL_MARK))
		 : snprintf(text, sizeof(text), "%s", name);
	if (n < 0 || (size_t)n >= sizeof(text) || text[0] != '/')
		return refuse(w, "'%s' cannot be a subject: /O=.../CN=... is", name);
	rest++;
	while ((part = strsep(&rest, "/"))) {
		char *value = strchr(part, '=');

		if (!value)
			return refuse(w, "'%s' cannot be a subject: /O=.../CN=... is", name);
		*value = '\0';
		if (!add_attribute(w, part, value + 1))
			return false;
	}
	return true;
}

/* --- Subject alternative names --- */

static GENERAL_NAME *text_name(int type, const char *text)
{
	GENERAL_NAME *n = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	if (!n || !s || ASN1_STRING_set(s, text, -1) != 1) {
		GENERAL_NAME_free(n);
		ASN1_STRING_free(s);
		return NULL;
	}
	GENERAL_NAME_set0_value(n, type, s);
	return n;
}

static GENERAL_NAME *address_name(const char *text)
{
	ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
	GENERAL_NAME *n = address ? GENERAL_NAME_new() : NULL;

	if (n)
		GENERAL_NAME_set0_value(n, GEN_IPADD, address);
	else
		ASN1_STRING_free(address);
	return n;
}

static GENERAL_NAME *host_name(const char *entry)
{
	if (strncmp(entry, "IP:", 3) == 0)
		return address_name(entry + 3);
	if (strncmp(entry, "DNS:", 4) != 0 || entry[4] == '\0')
		return NULL;
	for (const char *p = entry + 4; *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
			return NULL;
	}
	return text_name(GEN_DNS, entry + 4);
}

/* The name of a device stands in common name and URI: core/registry/certificate.h. */
static GENERAL_NAME *device_name(const struct writing *w, const char *entry)
{
	static const char prefix[] = "URI:" DEVICE_URN_PREFIX;
	const char *name = w->plan->name;

	if (!principal_id_valid(name, strlen(name)) ||
	    strncmp(entry, prefix, sizeof(prefix) - 1) != 0 ||
	    strcmp(entry + sizeof(prefix) - 1, name) != 0)
		return NULL;
	return text_name(GEN_URI, entry + 4);
}

static bool add_name(const struct writing *w, GENERAL_NAMES *names, const char *entry)
{
	bool is_device = w->plan->profile->purpose == NID_client_auth;
	GENERAL_NAME *n = is_device ? device_name(w, entry) : host_name(entry);

	if (n && sk_GENERAL_NAME_push(names, n) > 0)
		return true;
	GENERAL_NAME_free(n);
	return refuse(w, "'%s' cannot be the alternative name of %s: %s is", entry, w->plan->name,
		      is_device ? "URI:" DEVICE_URN_PREFIX "NAME, and NAME a device id,"
				: "DNS:HOST or IP:ADDRESS");
}

/* One of the names must be the common name: a client looks at the one or at the other. */
static bool has_common_name(const struct writing *w)
{
	const char *name = w->plan->name, *at = w->plan->san;
	size_t len = strlen(name);

	while ((at = strstr(at, name))) {
		if (at > w->plan->san && at[-1] == ':' && (at[len] == ',' || at[len] == '\0'))
			return true;
		at++;
	}
	return refuse(w, "the common name %s is not among the names %s", name, w->plan->san);
}

static bool add_names(const struct writing *w)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	char *copy = strdup(w->plan->san), *rest = copy, *entry;
	bool good = names && copy;

	while (good && (entry = strsep(&rest, ",")))
		good = add_name(w, names, entry);
	if (good)
		good = X509_add1_ext_i2d(w->x, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND) ==
		       1;
	GENERAL_NAMES_free(names);
	free(copy);
	return good;
}

/* --- Other extensions --- */

static bool add_basic_constraints(const struct writing *w)
{
	const struct profile *p = w->plan->profile;
	BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
	bool good = bc;

	if (good && p->ca) {
		bc->ca = 0xff;
		bc->pathlen = ASN1_INTEGER_new();
		good = bc->pathlen && ASN1_INTEGER_set(bc->pathlen, p->path_length) == 1;
	}
	if (good)
		good = X509_add1_ext_i2d(w->x, NID_basic_constraints, bc, 1, X509V3_ADD_APPEND) ==
		       1;
	BASIC_CONSTRAINTS_free(bc);
	return good;
}

/* RFC 5280 section 4.2.1.3: the numbers of the bits. */
enum { DIGITAL_SIGNATURE = 0, KEY_CERT_SIGN = 5, CRL_SIGN = 6 };

static bool add_key_usage(const struct writing *w)
{
	ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
	bool good = usage;

	if (good && w->plan->profile->ca)
		good = ASN1_BIT_STRING_set_bit(usage, KEY_CERT_SIGN, 1) == 1 &&
		       ASN1_BIT_STRING_set_bit(usage, CRL_SIGN, 1) == 1;
	else if (good)
		good = ASN1_BIT_STRING_set_bit(usage, DIGITAL_SIGNATURE, 1) == 1;
	if (good)
		good = X509_add1_ext_i2d(w->x, NID_key_usage, usage, 1, X509V3_ADD_APPEND) == 1;
	ASN1_BIT_STRING_free(usage);
	return good;
}

static bool add_purpose(const struct writing *w)
{
	EXTENDED_KEY_USAGE *usage;
	bool good;

	if (w->plan->profile->purpose == NID_undef)
		return true;
	usage = sk_ASN1_OBJECT_new_null();
	good = usage && sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(w->plan->profile->purpose)) > 0 &&
	       X509_add1_ext_i2d(w->x, NID_ext_key_usage, usage, 0, X509V3_ADD_APPEND) == 1;
	sk_ASN1_OBJECT_free(usage);
	return good;
}

/* RFC 5280 section 4.2.1.2, method 1: a name for the key, not a protection of anything. */
static bool add_subject_key_identifier(const struct writing *w)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len;
	ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
	bool good =
		id && X509_pubkey_digest(w->x, EVP_sha1(), digest, &len) == 1 &&
		ASN1_OCTET_STRING_set(id, digest, (int)len) == 1 &&
		X509_add1_ext_i2d(w->x, NID_subject_key_identifier, id, 0, X509V3_ADD_APPEND) == 1;

	ASN1_OCTET_STRING_free(id);
	return good;
}

static bool add_authority_key_identifier(const struct writing *w)
{
	AUTHORITY_KEYID *id;
	const ASN1_OCTET_STRING *issuer;
	bool good;

	if (!w->plan->issuer)
		return true;
	/* OpenSSL reads a certificate's extensions when it is first asked for one of them. */
	issuer = X509_get0_subject_key_id((X509 *)w->plan->issuer);
	if (!issuer)
		return refuse(w, "the certificate of the CA has no subject key identifier");
	id = AUTHORITY_KEYID_new();
	good = id && (id->keyid = ASN1_OCTET_STRING_dup(issuer)) &&
	       X509_add1_ext_i2d(w->x, NID_authority_key_identifier, id, 0, X509V3_ADD_APPEND) == 1;
	AUTHORITY_KEYID_free(id);
	return good;
}

static bool add_extensions(const struct writing *w)
{
	return add_basic_constraints(w) && add_key_usage(w) && add_purpose(w) &&
	       (!w->plan->san || add_names(w)) && add_subject_key_identifier(w) &&
	       add_authority_key_identifier(w);
}

/* --- The certificate --- */

static bool check_plan(const struct writing *w)
{
	const struct certificate_plan *plan = w->plan;

	if (plan->profile->ca)
		return !plan->san || refuse(w, "a CA has no alternative name: -");
	if (!plan->san)
		return refuse(w, "%s needs an alternative name", plan->name);
	return plan->profile->purpose == NID_client_auth || has_common_name(w);
}

static bool fill(const struct writing *w)
{
	const struct certificate_plan *plan = w->plan;
	char serial[SERIAL_DIGITS + 1];
	const X509_NAME *issuer;

	if (X509_set_version(w->x, X509_VERSION_3) != 1 || !add_serial(w, serial) ||
	    !ASN1_TIME_set(X509_getm_notBefore(w->x), plan->not_before) ||
	    !ASN1_TIME_set(X509_getm_notAfter(w->x), plan->not_after) ||
	    X509_set_pubkey(w->x, plan->key) != 1)
		return false;
	if (!(plan->profile->ca ? add_subject(w, serial) : add_common_name(w)))
		return false;
	issuer = X509_get_subject_name(plan->issuer ? plan->issuer : w->x);
	return X509_set_issuer_name(w->x, issuer) == 1 && add_extensions(w);
}

X509 *profile_certificate(const struct certificate_plan *plan, char *err, size_t err_len)
{
	struct writing w = {plan, X509_new(), err, err_len};

	snprintf(err, err_len, "out of memory");
	if (w.x && check_plan(&w) && fill(&w))
		return w.x;
	X509_free(w.x);
	return NULL;
}
