/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the device counts before its key is opened: of one that is not let in, no key is in
 * memory. */
#include "core/registry/psk.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define KEY_MIN 16 /* bytes; a shorter one can be found by trying, from one recorded handshake */

_Static_assert(SECRET_MAX == 64, "psk_find's `key`");

static const struct credential *find(struct identity *who, const struct snapshot *s,
				     const void *identity, size_t len)
{
	uint8_t fingerprint[FINGERPRINT_LEN];
	const struct credential *c;

	if (len < 1 || len > PSK_IDENTITY_MAX) {
		identify_refuse(who, NULL, REFUSAL_UNKNOWN,
				"its PSK identity has %zu bytes; 1 to %d are allowed", len,
				PSK_IDENTITY_MAX);
		return NULL;
	}
	if (EVP_Digest(identity, len, fingerprint, NULL, EVP_sha256(), NULL) != 1) {
		identify_refuse(who, NULL, REFUSAL_UNKNOWN, "out of memory");
		return NULL;
	}
	c = snapshot_credential(s, CREDENTIAL_PSK, fingerprint);
	if (!c)
		identify_refuse(who, NULL, REFUSAL_UNKNOWN,
				"the PSK identity '%.*s' is not registered; if it is yours, make a "
				"key for it with `pki/fleet psk DEVICE --identity TEXT`",
				(int)len, (const char *)identity);
	return c;
}

static void refuse_key(struct identity *who, const struct credential *c, int rc, size_t len)
{
	const char *id = c->principal->id;

	switch (rc) {
	case -ENOKEY:
		identify_refuse(who, c->principal, REFUSAL_UNKNOWN,
				"its pre-shared key is sealed with a master key that is not in "
				"secrets.key_file; put that one back, or make a new key with "
				"`pki/fleet psk %s`",
				id);
		return;
	case -EBADMSG:
		identify_refuse(who, c->principal, REFUSAL_UNKNOWN,
				"its pre-shared key in fieldgate.credential does not open: the row "
				"is damaged, or was sealed for another principal or identity (a "
				"principal that is renamed needs a new key); make one with "
				"`pki/fleet psk %s`",
				id);
		return;
	case 0:
		identify_refuse(who, c->principal, REFUSAL_UNKNOWN,
				"its pre-shared key has %zu bytes, fewer than %d; make a better "
				"one with `pki/fleet psk %s`",
				len, KEY_MIN, id);
		return;
	default:
		identify_refuse(who, c->principal, REFUSAL_UNKNOWN, "out of memory");
	}
}

void psk_find(struct identity *who, const struct snapshot *s, const struct secret_keys *keys,
	      const void *identity, size_t identity_len, uint8_t key[64], size_t *key_len)
{
	const struct credential *c = find(who, s, identity, identity_len);
	uint8_t context[SECRET_CONTEXT_MAX];
	size_t context_len;
	int rc;

	*key_len = 0;
	if (!c)
		return;
	identify_proven(who, s, c);
	if (who->refusal != REFUSAL_NONE)
		return;
	context_len = secret_context(context, CREDENTIAL_PSK, c->fingerprint, c->principal->id);
	rc = secret_open(keys, c->material, c->material_len, context, context_len, key, key_len);
	if (rc == 0 && *key_len >= KEY_MIN)
		return;
	refuse_key(who, c, rc, *key_len);
	OPENSSL_cleanse(key, *key_len);
	*key_len = 0;
}
