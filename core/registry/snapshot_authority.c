/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a snapshot that enrolment asks: the authorities, each with its certificate as OpenSSL
 * needs it to check a signature, and the certificates of which only their revocation is left.
 */
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate_fault_internal.h"
#include "core/registry/snapshot_internal.h"

#define CERTIFICATE_MAX 8192 /* bytes, as in SQL */

static bool authority_equal(const void *item, const void *key)
{
	return memcmp(((const struct authority *)item)->fingerprint, key, FINGERPRINT_LEN) == 0;
}

static bool revoked_equal(const void *item, const void *key)
{
	const struct revoked_entry *a = item, *b = key;

	return a->kind == b->kind && memcmp(a->fingerprint, b->fingerprint, FINGERPRINT_LEN) == 0;
}

static bool serial_equal(const void *item, const void *key)
{
	const struct revoked_entry *a = item, *b = key;

	return strcmp(a->serial, b->serial) == 0 &&
	       (!a->has_issuer || memcmp(a->issuer, b->issuer, FINGERPRINT_LEN) == 0);
}

size_t snapshot_authority_count(const struct snapshot *s)
{
	return s->authorities.count;
}

const struct authority *snapshot_authority_at(const struct snapshot *s, size_t i)
{
	return s->authorities.items[i];
}

const struct authority *snapshot_authority(const struct snapshot *s,
					   const uint8_t fingerprint[FINGERPRINT_LEN])
{
	return snapshot_table_get(&s->authority_table, snapshot_hash(fingerprint, FINGERPRINT_LEN),
				  authority_equal, fingerprint);
}

bool snapshot_was_revoked(const struct snapshot *s, enum credential_kind kind,
			  const uint8_t fingerprint[FINGERPRINT_LEN])
{
	struct revoked_entry key = {.kind = kind};

	memcpy(key.fingerprint, fingerprint, FINGERPRINT_LEN);
	return snapshot_table_get(&s->revoked_table, snapshot_hash_credential(kind, fingerprint),
				  revoked_equal, &key) != NULL;
}

bool snapshot_serial_was_revoked(const struct snapshot *s, const uint8_t issuer[FINGERPRINT_LEN],
				 const char *serial)
{
	struct revoked_entry key = {.serial = serial};

	memcpy(key.issuer, issuer, FINGERPRINT_LEN);
	return snapshot_table_get(&s->revoked_serial_table, snapshot_hash_name(serial),
				  serial_equal, &key) != NULL;
}

/* NULL: err says why. */
static X509 *read_authority(const uint8_t fingerprint[FINGERPRINT_LEN], const void *certificate,
			    size_t len, char *err, size_t err_len)
{
	uint8_t digest[FINGERPRINT_LEN];
	X509 *x;

	ERR_set_mark();
	x = len <= CERTIFICATE_MAX ? certificate_parse(certificate, len) : NULL;
	/* X509_check_ca also reads the extensions, so that threads find them read. */
	if (!x)
		snapshot_refuse(-EINVAL, err, err_len, "its certificate is none (DER)");
	else if (!EVP_Digest(certificate, len, digest, NULL, EVP_sha256(), NULL) ||
		 memcmp(digest, fingerprint, FINGERPRINT_LEN) != 0)
		snapshot_refuse(-EINVAL, err, err_len,
				"the fingerprint is not that of its certificate");
	else if (X509_check_ca(x) != 1)
		snapshot_refuse(-EINVAL, err, err_len, "its certificate is not that of a CA");
	else
		goto out;
	X509_free(x);
	x = NULL;
out:
	ERR_pop_to_mark();
	return x;
}

int snapshot_add_authority(struct snapshot_builder *b, const char *name,
			   const uint8_t fingerprint[FINGERPRINT_LEN], const void *certificate,
			   size_t certificate_len, enum enrolment_mode enrolment,
			   const char *policy, char *err, size_t err_len)
{
	struct snapshot *s = b->snapshot;
	const struct policy_entry *p = snapshot_find_policy(s, policy);
	struct authority_entry *e;
	X509 *x509;

	if (!p)
		return snapshot_refuse(-EINVAL, err, err_len, "there is no policy '%.80s'", policy);
	if (snapshot_authority(s, fingerprint))
		return snapshot_refuse(-EEXIST, err, err_len, "authority %.80s is there twice",
				       name);
	x509 = read_authority(fingerprint, certificate, certificate_len, err, err_len);
	if (!x509)
		return -EINVAL;
	e = arena_alloc(&s->arena, sizeof(*e));
	if (!e)
		goto no_memory;
	*e = (struct authority_entry){
		.authority = {.name = arena_strndup(&s->arena, name, strlen(name)),
			      .certificate = (const uint8_t *)arena_strndup(&s->arena, certificate,
									    certificate_len),
			      .certificate_len = certificate_len,
			      .enrolment = enrolment,
			      .policy = &p->policy},
		.x509 = x509,
	};
	memcpy(e->authority.fingerprint, fingerprint, FINGERPRINT_LEN);
	if (!e->authority.name || !e->authority.certificate ||
	    snapshot_reserve(&s->authority_table, &s->authorities) != 0)
		goto no_memory;
	snapshot_put(&s->authority_table, &s->authorities,
		     snapshot_hash(fingerprint, FINGERPRINT_LEN), e);
	return 0;
no_memory:
	X509_free(x509);
	return snapshot_refuse(-ENOMEM, err, err_len, "out of memory");
}

int snapshot_add_revoked(struct snapshot_builder *b, enum credential_kind kind,
			 const uint8_t fingerprint[FINGERPRINT_LEN], const uint8_t *issuer,
			 const char *serial, char *err, size_t err_len)
{
	struct snapshot *s = b->snapshot;
	struct revoked_entry *e;

	if (snapshot_was_revoked(s, kind, fingerprint))
		return snapshot_refuse(-EEXIST, err, err_len, "it is there twice");
	e = arena_alloc(&s->arena, sizeof(*e));
	if (!e || snapshot_reserve(&s->revoked_table, &s->revoked) != 0 ||
	    snapshot_reserve(&s->revoked_serial_table, &s->revoked_serials) != 0)
		goto no_memory;
	*e = (struct revoked_entry){.kind = kind, .has_issuer = issuer != NULL};
	memcpy(e->fingerprint, fingerprint, FINGERPRINT_LEN);
	if (issuer)
		memcpy(e->issuer, issuer, FINGERPRINT_LEN);
	if (serial && *serial) {
		e->serial = arena_strndup(&s->arena, serial, strlen(serial));
		if (!e->serial)
			goto no_memory;
		snapshot_put(&s->revoked_serial_table, &s->revoked_serials,
			     snapshot_hash_name(e->serial), e);
	}
	snapshot_put(&s->revoked_table, &s->revoked, snapshot_hash_credential(kind, fingerprint),
		     e);
	return 0;
no_memory:
	return snapshot_refuse(-ENOMEM, err, err_len, "out of memory");
}
