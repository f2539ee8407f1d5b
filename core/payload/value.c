/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/value.h"

#include <string.h>

const struct value *value_get(const struct value *map, const char *key)
{
	size_t len = strlen(key);

	if (map->type != VALUE_MAP)
		return NULL;
	for (size_t i = 0; i < map->u.map.count; i++) {
		const struct member *m = &map->u.map.members[i];

		if (!m->is_label && m->key_len == len && memcmp(m->key, key, len) == 0)
			return &m->value;
	}
	return NULL;
}

const struct value *value_get_label(const struct value *map, int64_t label)
{
	if (map->type != VALUE_MAP)
		return NULL;
	for (size_t i = 0; i < map->u.map.count; i++) {
		const struct member *m = &map->u.map.members[i];

		if (m->is_label && m->label == label)
			return &m->value;
	}
	return NULL;
}
