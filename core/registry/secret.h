/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets in the database are sealed with a master key that is not there: AES-256-GCM
 * (NIST SP 800-38D) by OpenSSL. A sealed secret is
 *
 *     version 1 | key id (8 bytes) | nonce (12) | ciphertext | tag (16)
 *
 * with what it belongs to as associated data, so that it cannot be moved to another row. The key id
 * is the beginning of the SHA-256 of the master key: so a master key can be replaced row by row.
 */
#ifndef FG_REGISTRY_SECRET_H
#define FG_REGISTRY_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/registry/snapshot.h"

#define SECRET_MAX	64
#define SECRET_OVERHEAD (1 + 8 + 12 + 16)

/*
 * The associated data of a credential's secret: its kind as in SQL ("psk"), a zero byte, the 32
 * bytes of its fingerprint, the principal's id. Returns the length. So a row that is given to
 * another principal, or a principal that is renamed, needs a new secret.
 */
#define SECRET_CONTEXT_MAX (16 + FINGERPRINT_LEN + PRINCIPAL_ID_MAX)
size_t secret_context(uint8_t out[SECRET_CONTEXT_MAX], enum credential_kind kind,
		      const uint8_t fingerprint[FINGERPRINT_LEN], const char *principal);

struct secret_keys; /* master keys: one seals, all open */

/*
 * A file of lines of 64 hexadecimal digits, `#` comments; the first key seals. 0; -1 with what,
 * where and what to do in err: missing, readable by others (by its group too, unless it is root's),
 * malformed, empty. Immutable: any thread may use it. NULL stands for none.
 */
int secret_keys_load(struct secret_keys **out, const char *path, char *err, size_t err_len);
void secret_keys_free(struct secret_keys *k);

/*
 * The master keys that a process was given: those of the file; without one (path NULL) those of the
 * environment variable, in which newlines, blanks or commas separate them; *out is NULL when that
 * is not set either. For the rest as secret_keys_load. Not while another thread changes the
 * environment.
 */
#define SECRET_KEYS_VARIABLE "FIELDGATE_MASTER_KEY"
int secret_keys_open(struct secret_keys **out, const char *path, char *err, size_t err_len);
bool secret_keys_given(const char *path);

/* How many there are, and the key id of each, of SECRET_KEY_ID_LEN bytes: 0 is the one that seals.
 */
#define SECRET_KEY_ID_LEN 8
size_t secret_keys_count(const struct secret_keys *k);
const uint8_t *secret_key_id(const struct secret_keys *k, size_t i);

/* out: SECRET_OVERHEAD + len bytes. 0; -EINVAL: len is 0 or above SECRET_MAX, or context_len above
 * SECRET_CONTEXT_MAX; -ENOKEY; -ENOMEM. */
int secret_seal(const struct secret_keys *k, const void *secret, size_t len, const void *context,
		size_t context_len, uint8_t *out);

/* 0 and *len; -ENOKEY: sealed with a key that is not in the file; -EBADMSG: damaged, or another
 * row's; -ENOMEM. */
int secret_open(const struct secret_keys *k, const void *sealed, size_t sealed_len,
		const void *context, size_t context_len, uint8_t out[SECRET_MAX], size_t *len);

#endif
