/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rows of a batch have a say in telemetry_latest. A device's rows are applied oldest first,
 * each under the guard "newer overwrites, late only fills what is unknown"; a row whose every value
 * is reported again by a newer row of the batch can be left out. Values of several rows are never
 * merged into one: one row has one time, and the database may hold a value whose time lies between
 * two of them. So a batch of messages that look alike is one upsert, and one with n kinds of
 * messages is n.
 */
#ifndef FG_STORE_LATEST_H
#define FG_STORE_LATEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store/bytes.h"

#define LATEST_NONE UINT32_MAX

struct latest_row {
	int64_t ts, seq;
	uint32_t row;	/* of the batch */
	bool uncertain; /* may turn out to be a repeat that is not stored: then it has no say */
	uint64_t extra_keys; /* names in its extra, hashed */
};

struct latest_candidate {
	struct latest_row r;
	uint32_t older; /* next in the device's list, newest first */
};

struct latest_device {
	uint64_t hash;
	struct span name; /* in the batch's heap */
	uint32_t newest;  /* candidate */
	uint32_t count;	  /* candidates */
};

struct latest {
	size_t words;	  /* of a mask */
	size_t extra_bit; /* the mask's bit that stands for extra */
	struct latest_device *devices;
	size_t device_count, devices_size;
	uint32_t *slots;
	size_t slot_mask;
	struct latest_candidate *candidates;
	uint64_t *masks; /* of candidates, `words` each: columns that the row still decides */
	size_t candidate_count, candidates_size;
	uint32_t free_candidates;
	uint32_t most; /* candidates of any device: rounds */
};

/* For rows with metrics 0 .. extra_bit - 1. May be called again for another number. 0 or -ENOMEM.
 */
int latest_init(struct latest *l, size_t extra_bit);
void latest_clear(struct latest *l);
void latest_free(struct latest *l);

/* The number of a device, new or known; its name is copied into heap. -ENOMEM. */
int64_t latest_device(struct latest *l, struct bytes *heap, const char *name, size_t len);

/* Take a row whose values are those in mask (which is overwritten). 0 or -ENOMEM. */
int latest_add(struct latest *l, uint32_t device, const struct latest_row *r, uint64_t *mask);

static inline const uint64_t *latest_mask(const struct latest *l, uint32_t candidate)
{
	return l->masks + candidate * l->words;
}

static inline void mask_set(uint64_t *mask, size_t bit)
{
	mask[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline bool mask_has(const uint64_t *mask, size_t bit)
{
	return mask[bit / 64] >> (bit % 64) & 1;
}

static inline size_t mask_words(size_t bits)
{
	return (bits + 63) / 64;
}

#endif
