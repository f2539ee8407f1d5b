/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/dtls/limits.h"

#include <stddef.h>

#include "core/base/clock.h"
#include "core/base/hash.h"

static uint32_t minute_of(int64_t now_us)
{
	/* 0 is a place that was never used */
	return (uint32_t)(now_us / (60 * US_PER_S)) + 1;
}

static size_t set_of(uint64_t key)
{
	return hash_siphash(hash_table_key(), &key, sizeof(key)) % LIMITS_SETS;
}

uint32_t limits_seen(const struct limits *l, uint64_t key, int64_t now_us)
{
	const struct limits_entry *set = l->entry[set_of(key)];

	for (size_t i = 0; i < LIMITS_WAYS; i++)
		if (set[i].key == key && set[i].minute == minute_of(now_us))
			return set[i].count;
	return 0;
}

void limits_count(struct limits *l, uint64_t key, int64_t now_us)
{
	struct limits_entry *set = l->entry[set_of(key)], *place = &set[0];
	uint32_t minute = minute_of(now_us);

	for (size_t i = 0; i < LIMITS_WAYS; i++) {
		if (set[i].minute != minute)
			set[i].count = 0;
		if (set[i].key == key) {
			place = &set[i];
			break;
		}
		if (set[i].count < place->count)
			place = &set[i];
	}
	if (place->key != key)
		place->count = 0;
	place->key = key;
	place->minute = minute;
	if (place->count < UINT32_MAX)
		place->count++;
}
