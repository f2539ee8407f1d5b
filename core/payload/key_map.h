/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which keys were there already? A list while there are few, a hash table with a secret key when
 * there are many: a sender who chooses the keys cannot make it slow. Lives in an arena, nothing to
 * free.
 */
#ifndef FG_PAYLOAD_KEY_MAP_H
#define FG_PAYLOAD_KEY_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/arena.h"

#define KEY_MAP_FEW 16

struct key_map_slot {
	const char *key; /* NULL: free */
	size_t len;
	size_t value;
};

struct key_map {
	struct key_map_slot *slots;
	size_t mask; /* of the table; 0: a list */
	size_t count;
	struct key_map_slot few[KEY_MAP_FEW];
};

/* For at most capacity keys. 0 or -ENOMEM. */
int key_map_init(struct key_map *m, struct arena *a, size_t capacity);

/*
 * Put key -> *value, or, when the key is there, set *value to what it has and return false. Keys
 * are not copied.
 */
bool key_map_put(struct key_map *m, const char *key, size_t len, size_t *value);

#endif
