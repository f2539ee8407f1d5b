/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was answered to the last messages of each session, for repeats (RFC 7252 section 4.5). One
 * ring of fixed size, oldest first: an entry is 24 bytes and its answer, and needs no allocation.
 * The entries of a session are a chain from the newest back, found by a hash of its id; entries
 * that the ring has overwritten end the chain.
 */
#ifndef FG_COAP_DEDUP_H
#define FG_COAP_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dedup;

/* RFC 7252 section 4.8.2: EXCHANGE_LIFETIME and NON_LIFETIME */
#define DEDUP_CON_LIFETIME_S 247
#define DEDUP_NON_LIFETIME_S 145

enum dedup_state {
	DEDUP_NONE,	/* not seen: run it */
	DEDUP_PENDING,	/* seen; there is no answer to repeat: not yet, or as it was a NON, or it
			   was repeated so often that nobody waits for it */
	DEDUP_ANSWERED, /* seen, and this was the answer */
};

/* bytes: of the ring, at least 4 kB; NULL: no memory. per_session: so many answers are kept, the
 * last ones, and so many NONs. */
struct dedup *dedup_new(size_t bytes, size_t per_session);
void dedup_free(struct dedup *d);

/* The answer is valid until the next dedup_put. */
enum dedup_state dedup_find(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us,
			    const uint8_t **answer, size_t *len);

/* Remember this message. len 0: DEDUP_PENDING. An entry of the same message ID is replaced. */
void dedup_put(struct dedup *d, uint64_t session, uint16_t mid, bool confirmable, int64_t now_us,
	       const uint8_t *answer, size_t len);

/* The same for an answer to a confirmable message that is not to be seen yet: DEDUP_PENDING until
 * dedup_put. */
void dedup_hold(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us,
		const uint8_t *answer, size_t len);

/* It was not answered after all: a repeat is to be run. */
void dedup_drop(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us);

/* The newest answer of a session, held or not, that is more than an empty acknowledgement;
 * DEDUP_ANSWERED or DEDUP_NONE. age_us: since it was put. */
enum dedup_state dedup_last(struct dedup *d, uint64_t session, int64_t now_us, uint16_t *mid,
			    int64_t *age_us, const uint8_t **answer, size_t *len);

size_t dedup_entries(const struct dedup *d);
size_t dedup_bytes(const struct dedup *d);

#endif
