/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/key_map.h"

#include <errno.h>
#include <string.h>

#include "core/base/hash.h"

int key_map_init(struct key_map *m, struct arena *a, size_t capacity)
{
	size_t size = 4 * KEY_MAP_FEW;

	m->mask = 0;
	m->count = 0;
	m->slots = m->few;
	if (capacity <= KEY_MAP_FEW)
		return 0;
	while (size < 2 * capacity)
		size *= 2;
	m->slots = arena_alloc(a, size * sizeof(*m->slots));
	if (!m->slots)
		return -ENOMEM;
	memset(m->slots, 0, size * sizeof(*m->slots));
	m->mask = size - 1;
	return 0;
}

static bool slot_is(const struct key_map_slot *s, const char *key, size_t len)
{
	return s->len == len && memcmp(s->key, key, len) == 0;
}

/* The key's slot, or the free one where it belongs. */
static struct key_map_slot *slot_of(struct key_map *m, const char *key, size_t len)
{
	size_t i;

	if (m->mask == 0) {
		for (i = 0; i < m->count; i++)
			if (slot_is(&m->slots[i], key, len))
				return &m->slots[i];
		m->slots[i].key = NULL;
		return &m->slots[i];
	}
	i = (size_t)hash_siphash(hash_table_key(), key, len) & m->mask;
	while (m->slots[i].key && !slot_is(&m->slots[i], key, len))
		i = (i + 1) & m->mask;
	return &m->slots[i];
}

bool key_map_put(struct key_map *m, const char *key, size_t len, size_t *value)
{
	struct key_map_slot *s = slot_of(m, key, len);

	if (s->key) {
		*value = s->value;
		return false;
	}
	*s = (struct key_map_slot){.key = key, .len = len, .value = *value};
	m->count++;
	return true;
}
