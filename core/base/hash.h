/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4 (Aumasson, Bernstein, 2012), for hash tables whose keys come from the network (random
 * key, see hash_table_key) and, with a fixed key, as a short fingerprint of a message's content.
 * Any thread.
 */
#ifndef FG_BASE_HASH_H
#define FG_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint64_t k0, k1;
};

uint64_t hash_siphash(const struct hash_key *key, const void *data, size_t len);

/* A key drawn once per process: nobody outside can choose colliding names. */
const struct hash_key *hash_table_key(void);

#endif
