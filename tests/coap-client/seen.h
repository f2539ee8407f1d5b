/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record numbers that the server has used under one set of keys. AEAD is broken as soon as two
 * different records have the same number (RFC 5288 section 3), and Mbed TLS would drop the second
 * as a replay without a word: so the client looks at every record itself, by the clear header and a
 * digest of the rest.
 */
#ifndef FG_TESTS_SEEN_H
#define FG_TESTS_SEEN_H

#include <stddef.h>
#include <stdint.h>

struct seen {
	struct seen_entry {
		uint64_t number; /* epoch and sequence number; 0: free, as epoch 0 has no keys */
		uint64_t digest;
	} * entries;
	size_t count, size;
};

enum seen_result {
	SEEN_NEW,
	SEEN_SAME,   /* the same record again: the network may do that */
	SEEN_REUSED, /* another record with the same number */
};

uint64_t seen_digest(const uint8_t *record, size_t len);
enum seen_result seen_add(struct seen *s, uint64_t number, uint64_t digest);
void seen_clear(struct seen *s);

#endif
