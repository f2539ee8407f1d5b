/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that were enrolled after the snapshot was built, in a list that only grows and is freed
 * with it. Whoever adds writes the new entry whole and then makes it the head (release); whoever
 * looks begins at the head (acquire) and so sees whole entries or none. They are few: the registry
 * bounds how many wait for the database, and the next snapshot has their rows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "core/registry/snapshot_internal.h"

static const struct enrolled *first(const struct snapshot *s)
{
	return atomic_load_explicit(&s->enrolled, memory_order_acquire);
}

const struct principal *snapshot_enrolled_principal(const struct snapshot *s, const char *id)
{
	const struct enrolled *e = first(s);
	uint64_t hash;

	if (!e)
		return NULL;
	hash = snapshot_hash_name(id);
	while (e && (e->id_hash != hash || strcmp(e->id, id) != 0))
		e = e->next;
	return e ? &e->principal.principal : NULL;
}

const struct credential *snapshot_enrolled_credential(const struct snapshot *s,
						      enum credential_kind kind,
						      const uint8_t *fingerprint)
{
	const struct enrolled *e = first(s);
	uint64_t hash;

	if (!e || kind != CREDENTIAL_X509)
		return NULL;
	hash = snapshot_hash_credential(kind, fingerprint);
	while (e &&
	       (e->credential_hash != hash || CRYPTO_memcmp(e->credential.credential.fingerprint,
							    fingerprint, FINGERPRINT_LEN) != 0))
		e = e->next;
	return e ? &e->credential.credential : NULL;
}

int snapshot_enrol(const struct snapshot *s, const char *id,
		   const uint8_t fingerprint[FINGERPRINT_LEN], int64_t not_before,
		   int64_t not_after, const struct policy *policy)
{
	struct snapshot *mine = (struct snapshot *)s;
	struct enrolled *e;

	if (snapshot_principal(s, id) || snapshot_credential(s, CREDENTIAL_X509, fingerprint))
		return -EEXIST;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	memcpy(e->id, id, strnlen(id, PRINCIPAL_ID_MAX));
	e->principal = (struct principal_entry){
		.principal = {.id = e->id,
			      .kind = PRINCIPAL_DEVICE,
			      .state = PRINCIPAL_ACTIVE,
			      .policy = policy},
		.credentials = &e->credential,
		.live_credentials = 1,
	};
	e->credential.credential = (struct credential){
		.kind = CREDENTIAL_X509,
		.principal = &e->principal.principal,
		.not_before = not_before,
		.not_after = not_after,
	};
	memcpy(e->credential.credential.fingerprint, fingerprint, FINGERPRINT_LEN);
	e->id_hash = snapshot_hash_name(e->id);
	e->credential_hash = snapshot_hash_credential(CREDENTIAL_X509, fingerprint);
	e->next = atomic_load_explicit(&mine->enrolled, memory_order_relaxed);
	atomic_store_explicit(&mine->enrolled, e, memory_order_release);
	return 0;
}

void snapshot_enrolled_free(struct snapshot *s)
{
	struct enrolled *e = atomic_load_explicit(&s->enrolled, memory_order_relaxed), *next;

	for (; e; e = next) {
		next = e->next;
		free(e);
	}
}
