/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/coap/dedup.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"

#define UNIT	     8 /* bytes; positions and lengths in the ring count these */
#define RING_MIN     4096
#define TICK_US	     (100 * US_PER_MS)
#define ENTRY_BUCKET 64 /* bytes of ring to a bucket of the hash table */

enum {
	FLAG_CON = 1,
	FLAG_DEAD = 2, /* room that is given back when the ring comes round */
	FLAG_HELD = 4, /* nobody has seen the answer */
	REPEAT = 8,    /* added for each repeat that was answered */
	/* A device sends a message 5 times (RFC 7252 section 4.8), networks double some. More are
	 * no device's that waits for its answer, and each would have it sent without being counted
	 * as a request. */
	REPEATS_MAX = 16,
};

struct entry {
	uint64_t session;
	uint32_t at;   /* in TICK_US, modulo 2^32 */
	uint32_t back; /* units to the one before in its chain; 0: the last */
	uint16_t len;  /* of the answer; 0: none */
	uint16_t units;
	uint16_t mid;
	uint16_t flags;
	uint8_t answer[];
};

/*
 * Positions count units from the beginning of time, so one that lies before `tail` is recognised
 * however often the ring has come round.
 */
struct dedup {
	uint64_t head, tail; /* the ring holds [tail, head) */
	uint64_t units;	     /* of the ring */
	size_t per_session;
	size_t entries;
	size_t bucket_mask;
	uint64_t *buckets; /* position of the newest entry + 1; 0: none */
	uint8_t *ring;
};

static struct entry *entry_at(const struct dedup *d, uint64_t position)
{
	return (struct entry *)(void *)(d->ring + position % d->units * UNIT);
}

struct dedup *dedup_new(size_t bytes, size_t per_session)
{
	struct dedup *d = calloc(1, sizeof(*d));
	size_t buckets = 16;

	if (d == NULL)
		return NULL;
	if (bytes < RING_MIN)
		bytes = RING_MIN;
	while (buckets < bytes / ENTRY_BUCKET)
		buckets *= 2;
	d->units = bytes / UNIT;
	d->per_session = per_session == 0 ? 1 : per_session;
	d->bucket_mask = buckets - 1;
	d->buckets = calloc(buckets, sizeof(*d->buckets));
	/* Not cleared: pages that were never used cost nothing. An entry more than the ring: see
	 * make_room. */
	d->ring = malloc(d->units * UNIT + sizeof(struct entry));
	if (d->buckets == NULL || d->ring == NULL) {
		dedup_free(d);
		return NULL;
	}
	return d;
}

void dedup_free(struct dedup *d)
{
	if (d == NULL)
		return;
	free(d->buckets);
	free(d->ring);
	free(d);
}

static uint32_t tick_of(int64_t now_us)
{
	return (uint32_t)(now_us / TICK_US);
}

static bool expired(const struct entry *e, int64_t now_us)
{
	int64_t lifetime_s =
		(e->flags & FLAG_CON) != 0 ? DEDUP_CON_LIFETIME_S : DEDUP_NON_LIFETIME_S;

	return tick_of(now_us) - e->at > (uint32_t)(lifetime_s * US_PER_S / TICK_US);
}

static uint64_t *bucket_of(const struct dedup *d, uint64_t session)
{
	uint64_t h = hash_siphash(hash_table_key(), &session, sizeof(session));

	return &d->buckets[h & d->bucket_mask];
}

/* A walk along a chain, from the newest entry. An entry may be taken out on the way. */
struct walk {
	uint64_t *bucket;
	uint64_t position;   /* of `entry` */
	uint64_t newer;	     /* position of the one before it on the way */
	struct entry *entry; /* NULL: the end */
};

static void walk_to(const struct dedup *d, struct walk *w, uint64_t position)
{
	w->position = position;
	w->entry = position >= d->tail ? entry_at(d, position) : NULL;
}

static void walk_begin(const struct dedup *d, struct walk *w, uint64_t session)
{
	*w = (struct walk){.bucket = bucket_of(d, session), .newer = UINT64_MAX};
	if (*w->bucket != 0)
		walk_to(d, w, *w->bucket - 1);
}

static void walk_on(const struct dedup *d, struct walk *w)
{
	uint32_t back = w->entry->back;

	w->newer = w->position;
	if (back == 0)
		w->entry = NULL;
	else
		walk_to(d, w, w->position - back);
}

/* Take the entry out of its chain and go on with the one behind it. Chains stay short in this way:
 * what is in them is alive. */
static void walk_remove(struct dedup *d, struct walk *w)
{
	struct entry *e = w->entry;
	uint64_t next = e->back == 0 ? UINT64_MAX : w->position - e->back;

	e->flags |= FLAG_DEAD;
	d->entries--;
	if (w->newer == UINT64_MAX) {
		*w->bucket = next == UINT64_MAX ? 0 : next + 1;
	} else {
		struct entry *newer = entry_at(d, w->newer);

		newer->back = next == UINT64_MAX ? 0 : (uint32_t)(w->newer - next);
	}
	if (next == UINT64_MAX)
		w->entry = NULL;
	else
		walk_to(d, w, next);
}

static struct entry *find(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us,
			  struct walk *w)
{
	walk_begin(d, w, session);
	while (w->entry != NULL) {
		if (expired(w->entry, now_us)) {
			walk_remove(d, w);
			continue;
		}
		if (w->entry->session == session && w->entry->mid == mid)
			return w->entry;
		walk_on(d, w);
	}
	return NULL;
}

enum dedup_state dedup_find(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us,
			    const uint8_t **answer, size_t *len)
{
	struct walk w;
	struct entry *e = find(d, session, mid, now_us, &w);

	if (e == NULL)
		return DEDUP_NONE;
	if (e->len == 0 || (e->flags & FLAG_HELD) != 0 || e->flags >= REPEATS_MAX * REPEAT)
		return DEDUP_PENDING;
	e->flags = (uint16_t)(e->flags + REPEAT);
	*answer = e->answer;
	*len = e->len;
	return DEDUP_ANSWERED;
}

void dedup_drop(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us)
{
	struct walk w;

	if (find(d, session, mid, now_us, &w) != NULL)
		walk_remove(d, &w);
}

/* Of the answers and of the NONs of a session so many are kept each. Confirmable requests that are
 * not answered yet are bounded by who answers them. */
static bool counts(const struct entry *e, uint16_t flags)
{
	bool pending = (e->flags & FLAG_CON) != 0 && (e->len == 0 || (e->flags & FLAG_HELD) != 0);

	return ((e->flags ^ flags) & FLAG_CON) == 0 && !pending;
}

/* Room for one more of this session: its oldest go. */
static void trim_session(struct dedup *d, uint64_t session, uint16_t flags, int64_t now_us)
{
	struct walk w;
	size_t n = 1;

	walk_begin(d, &w, session);
	while (w.entry != NULL) {
		bool ours = w.entry->session == session && counts(w.entry, flags);

		if (expired(w.entry, now_us) || (ours && n >= d->per_session)) {
			walk_remove(d, &w);
			continue;
		}
		if (ours)
			n++;
		walk_on(d, &w);
	}
}

static void drop_tail(struct dedup *d)
{
	struct entry *e = entry_at(d, d->tail);

	if ((e->flags & FLAG_DEAD) == 0)
		d->entries--;
	d->tail += e->units;
}

static void drop_old(struct dedup *d, int64_t now_us)
{
	while (d->tail != d->head) {
		const struct entry *e = entry_at(d, d->tail);

		if ((e->flags & FLAG_DEAD) == 0 && !expired(e, now_us))
			return;
		drop_tail(d);
	}
}

/* `units` of room in one piece at head. What is left at the ring's end becomes a dead entry, which
 * may be shorter than the fields of one. */
static struct entry *make_room(struct dedup *d, uint16_t units)
{
	uint64_t left = d->units - d->head % d->units;
	uint64_t need = left < units ? left + units : units;

	while (d->head + need - d->tail > d->units)
		drop_tail(d);
	if (left < units) {
		struct entry *filler = entry_at(d, d->head);

		filler->units = (uint16_t)left;
		filler->flags = FLAG_DEAD;
		d->head += left;
	}
	return entry_at(d, d->head);
}

static void put(struct dedup *d, uint64_t session, uint16_t mid, uint16_t flags, int64_t now_us,
		const uint8_t *answer, size_t len)
{
	uint16_t units = (uint16_t)((sizeof(struct entry) + len + UNIT - 1) / UNIT);

	dedup_drop(d, session, mid, now_us);
	trim_session(d, session, flags, now_us);
	drop_old(d, now_us);

	struct entry *e = make_room(d, units);
	uint64_t *bucket = bucket_of(d, session);
	uint64_t before = *bucket;

	*e = (struct entry){.session = session,
			    .at = tick_of(now_us),
			    .len = (uint16_t)len,
			    .units = units,
			    .mid = mid,
			    .flags = flags};
	if (before != 0 && before - 1 >= d->tail && d->head - (before - 1) <= UINT32_MAX)
		e->back = (uint32_t)(d->head - (before - 1));
	if (len > 0)
		memcpy(e->answer, answer, len);
	*bucket = d->head + 1;
	d->head += units;
	d->entries++;
}

void dedup_put(struct dedup *d, uint64_t session, uint16_t mid, bool confirmable, int64_t now_us,
	       const uint8_t *answer, size_t len)
{
	put(d, session, mid, confirmable ? FLAG_CON : 0, now_us, answer, len);
}

void dedup_hold(struct dedup *d, uint64_t session, uint16_t mid, int64_t now_us,
		const uint8_t *answer, size_t len)
{
	put(d, session, mid, FLAG_CON | FLAG_HELD, now_us, answer, len);
}

enum dedup_state dedup_last(struct dedup *d, uint64_t session, int64_t now_us, uint16_t *mid,
			    int64_t *age_us, const uint8_t **answer, size_t *len)
{
	struct walk w;

	for (walk_begin(d, &w, session); w.entry != NULL; walk_on(d, &w)) {
		const struct entry *e = w.entry;

		if (e->session != session || expired(e, now_us) || e->len == 0 || e->answer[1] == 0)
			continue;
		*mid = e->mid;
		*age_us = (int64_t)(tick_of(now_us) - e->at) * TICK_US;
		*answer = e->answer;
		*len = e->len;
		return DEDUP_ANSWERED;
	}
	return DEDUP_NONE;
}

size_t dedup_entries(const struct dedup *d)
{
	return d->entries;
}

size_t dedup_bytes(const struct dedup *d)
{
	return (d->head - d->tail) * UNIT;
}
