/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters per minute for things that outsiders do, in fixed memory whoever they are and however
 * many. Two that share a place in the table do not share a count: the one with less to its name is
 * forgotten, so a flood from many sources can make the table forget, never refuse. One thread.
 */
#ifndef FG_DTLS_LIMITS_H
#define FG_DTLS_LIMITS_H

#include <stdint.h>

#define LIMITS_SETS 1024
#define LIMITS_WAYS 4

struct limits_entry {
	uint64_t key;
	uint32_t minute;
	uint32_t count;
};

struct limits {
	struct limits_entry entry[LIMITS_SETS][LIMITS_WAYS];
};

/* How often was limits_count called with this key in this minute? */
uint32_t limits_seen(const struct limits *l, uint64_t key, int64_t now_us);
void limits_count(struct limits *l, uint64_t key, int64_t now_us);

#endif
