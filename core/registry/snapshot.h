/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything the fleet's registry knows at one moment: principals, credentials, policies, rules.
 * Immutable once built, counted by references, so any number of threads read it without a lock
 * while the next is made. The one thing that is added later are devices that have just been
 * enrolled (snapshot_enrol), which those who read find without a lock too.
 */
#ifndef FG_REGISTRY_SNAPSHOT_H
#define FG_REGISTRY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/registry/policy.h"

#define PRINCIPAL_ID_MAX 64
#define FINGERPRINT_LEN	 32 /* SHA-256 */

enum principal_kind {
	PRINCIPAL_DEVICE,
	PRINCIPAL_SERVICE,
};

enum principal_state {
	PRINCIPAL_PENDING,
	PRINCIPAL_ACTIVE,
	PRINCIPAL_SUSPENDED,
	PRINCIPAL_REVOKED,
};

struct principal {
	const char *id;
	enum principal_kind kind;
	enum principal_state state;
	const struct policy *policy;
};

/* The column `kind` of the table credential, and what `fingerprint` then is the SHA-256 of. */
enum credential_kind {
	CREDENTIAL_X509,     /* x509: the certificate (DER) */
	CREDENTIAL_X509_KEY, /* x509_key: the certificate's public key (DER SubjectPublicKeyInfo) */
	CREDENTIAL_JWT,	  /* jwt: the public key (DER SubjectPublicKeyInfo), which is `material` */
	CREDENTIAL_PSK,	  /* psk: the identity; `material` is the encrypted key */
	CREDENTIAL_TOKEN, /* token: principal id, NUL, token */
};

struct credential {
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	const struct principal *principal;
	bool revoked;
	int64_t not_before, not_after; /* seconds since 1970, both included; INT64_MIN and
					  INT64_MAX: no limit */
	uint32_t edition;	 /* psk: another one when the key behind the identity is replaced;
				    0: not known, and of other kinds */
	const uint8_t *material; /* NULL if there is none */
	size_t material_len;
};

/* What an unknown device with a certificate of an authority becomes. */
enum enrolment_mode {
	ENROLMENT_OFF,
	ENROLMENT_PENDING,
	ENROLMENT_ACTIVE,
};

/* A CA that signs device certificates and is not retired: a row of the table authority. */
struct authority {
	uint8_t fingerprint[FINGERPRINT_LEN]; /* of its certificate */
	const char *name;
	const uint8_t *certificate; /* DER */
	size_t certificate_len;
	enum enrolment_mode enrolment;
	const struct policy *policy; /* of the devices that are enrolled */
};

/* A row of the table rule that is enabled, as it stands there; core/rule knows what it means. */
struct snapshot_rule {
	const char *name;
	int64_t revision;
	const char *sql;
	const char *actions;	  /* JSON */
	const char *error_action; /* JSON; NULL: none */
};

#define SNAPSHOT_TEXT_MAX 65535 /* bytes of each of these */

struct snapshot;

/* `[A-Za-z0-9_.:-]{1,64}` */
bool principal_id_valid(const char *id, size_t len);

/* Names as they stand in SQL: "active", "device", "x509", "publish"; -1 when unknown. */
int principal_state_parse(const char *name);
const char *principal_state_name(enum principal_state state);
int principal_kind_parse(const char *name);
int credential_kind_parse(const char *name);
const char *credential_kind_name(enum credential_kind kind);
int policy_action_parse(const char *name);
int enrolment_mode_parse(const char *name);
const char *enrolment_mode_name(enum enrolment_mode mode);

/* --- Reading: any thread that holds a reference. --- */

/* The principal, or NULL. Valid as long as the snapshot. */
const struct principal *snapshot_principal(const struct snapshot *s, const char *id);

/* The credential with this fingerprint, revoked or not, or NULL. */
const struct credential *snapshot_credential(const struct snapshot *s, enum credential_kind kind,
					     const uint8_t fingerprint[FINGERPRINT_LEN]);

/*
 * The principal's credentials of one kind, revoked or not, in no order: the first with `after`
 * NULL, then the one after each; NULL at the end. Costs as much as the principal has credentials.
 */
const struct credential *snapshot_credential_next(const struct snapshot *s,
						  const struct principal *p,
						  enum credential_kind kind,
						  const struct credential *after);

size_t snapshot_principal_count(const struct snapshot *s);

/* How many credentials that are not revoked the principal has: for messages that help. */
size_t snapshot_credential_count(const struct snapshot *s, const struct principal *p);

/* The authorities, in no order; and the one with this fingerprint, or NULL. */
size_t snapshot_authority_count(const struct snapshot *s);
const struct authority *snapshot_authority_at(const struct snapshot *s, size_t i);
const struct authority *snapshot_authority(const struct snapshot *s,
					   const uint8_t fingerprint[FINGERPRINT_LEN]);

/* Was it revoked, and its row deleted since? kind: CREDENTIAL_X509 or CREDENTIAL_X509_KEY. */
bool snapshot_was_revoked(const struct snapshot *s, enum credential_kind kind,
			  const uint8_t fingerprint[FINGERPRINT_LEN]);

/* The same of the certificate with this number. Its owner can change what it is the SHA-256 of, for
 * an ECDSA signature has two forms that are both good (s and n - s), but nothing that was signed.
 */
bool snapshot_serial_was_revoked(const struct snapshot *s, const uint8_t issuer[FINGERPRINT_LEN],
				 const char *serial);

/* The rules, in no order. They are the snapshot's. */
size_t snapshot_rule_count(const struct snapshot *s);
const struct snapshot_rule *snapshot_rule_at(const struct snapshot *s, size_t i);

/* registry_version of the database when it was read; 0 for the empty snapshot. */
int64_t snapshot_version(const struct snapshot *s);

/* Count references. snapshot_release frees it with the last; NULL is allowed. */
const struct snapshot *snapshot_retain(const struct snapshot *s);
void snapshot_release(const struct snapshot *s);

/* --- Enrolling: any thread that holds a reference, one at a time. --- */

/*
 * An active device that the database does not know yet, with a certificate: found from now on by
 * snapshot_principal and snapshot_credential of this snapshot. It is not counted and not saved.
 * policy: the snapshot's. 0; -EEXIST: the id or the fingerprint is somebody's; -ENOMEM.
 */
int snapshot_enrol(const struct snapshot *s, const char *id,
		   const uint8_t fingerprint[FINGERPRINT_LEN], int64_t not_before,
		   int64_t not_after, const struct policy *policy);

/* --- Building: one thread; strings and bytes are copied. --- */

struct snapshot_builder;

struct snapshot_builder *snapshot_builder_new(void);
void snapshot_builder_free(struct snapshot_builder *b);

/*
 * 0; -EINVAL: bad id or filter, unknown policy or principal (err says what); -EEXIST: given twice;
 * -ENOMEM. Policies come first, then principals and authorities, then credentials; the rest at any
 * time.
 */
int snapshot_add_policy(struct snapshot_builder *b, const char *name, char *err, size_t err_len);
int snapshot_add_policy_rule(struct snapshot_builder *b, const char *policy, bool deny,
			     enum policy_action action, const char *filter, char *err,
			     size_t err_len);
int snapshot_add_principal(struct snapshot_builder *b, const char *id, enum principal_kind kind,
			   enum principal_state state, const char *policy, char *err,
			   size_t err_len);
int snapshot_add_credential(struct snapshot_builder *b, enum credential_kind kind,
			    const uint8_t fingerprint[FINGERPRINT_LEN], const char *principal,
			    bool revoked, const void *material, size_t material_len, char *err,
			    size_t err_len);
/* The dates of a credential that was just added, which has none by itself. 0, or -EINVAL: it is
 * not there. */
int snapshot_limit_credential(struct snapshot_builder *b, enum credential_kind kind,
			      const uint8_t fingerprint[FINGERPRINT_LEN], int64_t not_before,
			      int64_t not_after, char *err, size_t err_len);
/* Likewise its edition, which is 0 by itself. */
int snapshot_mark_credential(struct snapshot_builder *b, enum credential_kind kind,
			     const uint8_t fingerprint[FINGERPRINT_LEN], uint32_t edition,
			     char *err, size_t err_len);
int snapshot_add_rule(struct snapshot_builder *b, const struct snapshot_rule *rule, char *err,
		      size_t err_len);

/* certificate: one CA in DER, whose SHA-256 is the fingerprint. */
int snapshot_add_authority(struct snapshot_builder *b, const char *name,
			   const uint8_t fingerprint[FINGERPRINT_LEN], const void *certificate,
			   size_t certificate_len, enum enrolment_mode enrolment,
			   const char *policy, char *err, size_t err_len);
/* issuer, serial (hexadecimal): NULL when not known. They are not saved: nobody is enrolled by what
 * is known from disk. */
int snapshot_add_revoked(struct snapshot_builder *b, enum credential_kind kind,
			 const uint8_t fingerprint[FINGERPRINT_LEN], const uint8_t *issuer,
			 const char *serial, char *err, size_t err_len);

/* Frees the builder. A snapshot with one reference, or NULL without memory. */
const struct snapshot *snapshot_build(struct snapshot_builder *b, int64_t version);

/* --- On disk (snapshot_write.c, snapshot_read.c): so that a restart without the database still
 * knows its devices.
 * --- */

/*
 * Write to path atomically: temporary file beside it, mode 0600, fsync, rename, fsync of the
 * directory. 0 or -errno.
 */
int snapshot_save(const struct snapshot *s, const char *path);

/* 0; -ENOENT; -EBADMSG when damaged or of another format version: err says so; -errno. */
int snapshot_load(const struct snapshot **out, const char *path, char *err, size_t err_len);

#endif
