/* SPDX-License-Identifier: Apache-2.0 */
/* A device proves itself by a pre-shared key (RFC 4279). The identity is what it was registered
 * with; credential.fingerprint is its SHA-256, credential.material the sealed key
 * (core/registry/secret.h). Any thread. */
#ifndef FG_REGISTRY_PSK_H
#define FG_REGISTRY_PSK_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/identify.h"
#include "core/registry/secret.h"

#define PSK_IDENTITY_MAX 128 /* bytes, RFC 4279 section 5.1 asks for 128 */

/*
 * The key of this identity. who as identify_* fill it; with REFUSAL_NONE key and *key_len are set
 * (16 to 64 bytes). A key that cannot be opened is REFUSAL_UNKNOWN with the reason in who->why.
 */
void psk_find(struct identity *who, const struct snapshot *s, const struct secret_keys *keys,
	      const void *identity, size_t identity_len, uint8_t key[64], size_t *key_len);

#endif
