/* SPDX-License-Identifier: Apache-2.0 */
/* One slot at a time: what is written before what. slots_internal.h says why. */
#include "coap-server/dtls/slots.h"

#include <errno.h>
#include <string.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/slots_internal.h"
#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"

#define NO_MEMORY_LOG_US (60 * US_PER_S)

enum part { PART_FIXED = 1, PART_OUT, PART_IN, PART_IDENTITY, PART_NOTE };

/* --- Parts --- */

static uint32_t part_crc(uint64_t id, enum part kind, const void *part, size_t size)
{
	uint64_t salt[2] = {id, kind};

	return crc32c(crc32c(0, salt, sizeof(salt)), part, size - sizeof(uint32_t));
}

#define SEAL(slot, kind, part)                                                                     \
	((part)->crc = part_crc((slot)->fixed.id, (kind), (part), sizeof(*(part))))
#define SEALED(slot, kind, part)                                                                   \
	((part)->crc == part_crc((slot)->fixed.id, (kind), (part), sizeof(*(part))))

static uint64_t out_word(const struct slot *slot, uint64_t sequence)
{
	uint64_t salt[3] = {slot->fixed.id, PART_OUT, sequence};

	return sequence | (uint64_t)crc32c(0, salt, sizeof(salt)) << 48;
}

static uint64_t state_word(uint32_t flags)
{
	return slots_guarded(flags);
}

/* The flags, or 0 if the slot is free or torn. */
static uint32_t state_flags(const struct slot *slot)
{
	uint32_t flags = slots_unguarded(atomic_load_explicit(&slot->state, memory_order_relaxed));

	return flags != UINT32_MAX && flags & STATE_USED ? flags : 0;
}

static struct slot *at(const struct slots *s, uint32_t slot)
{
	return s && slot > 0 && slot <= s->count ? &s->slot[slot - 1] : NULL;
}

/* The slot if it is whole as far as its state says. */
static struct slot *in_use(const struct slots *s, uint32_t slot, uint32_t *flags)
{
	struct slot *p = at(s, slot);

	*flags = p ? state_flags(p) : 0;
	return *flags ? p : NULL;
}

void slots_wipe(struct slot *slot)
{
	slots_publish(&slot->state, STATE_TORN);
	explicit_bzero((uint8_t *)slot + sizeof(slot->state), sizeof(*slot) - sizeof(slot->state));
	slots_publish(&slot->state, STATE_FREE);
}

/* --- Reading --- */

static bool read_fixed(const struct slot *slot, struct slot_content *c,
		       struct blob_counters *counters)
{
	const struct slot_fixed *f = &slot->fixed;

	if (!SEALED(slot, PART_FIXED, f) || f->blob_len > SLOT_BLOB_MAX ||
	    blob_counters(f->blob, f->blob_len, counters))
		return false;
	c->id = f->id;
	memcpy(c->cid, f->cid, sizeof(c->cid));
	c->has_cid = f->has_cid != 0;
	c->opened_us = f->opened_us;
	memcpy(c->blob, f->blob, f->blob_len);
	c->blob_len = f->blob_len;
	return true;
}

static bool read_out(const struct slot *slot, struct blob_counters *counters)
{
	uint64_t out = atomic_load_explicit(&slot->out, memory_order_relaxed);
	uint64_t sequence = out & RECORD_SEQUENCE_MASK;

	if (out != out_word(slot, sequence))
		return false;
	counters->out = (counters->out & ~RECORD_SEQUENCE_MASK) | sequence;
	return true;
}

static bool read_in(const struct slot *slot, uint32_t flags, struct slot_content *c,
		    struct blob_counters *counters)
{
	const struct slot_in *in = &slot->in[flags & STATE_IN_HALF ? 1 : 0];

	if (!SEALED(slot, PART_IN, in))
		return false;
	counters->top = in->top;
	counters->window = in->window;
	c->last_us = in->last_us;
	c->address = in->address;
	return true;
}

static bool read_identity(const struct slot *slot, uint32_t flags, struct slot_content *c)
{
	if (!(flags & STATE_IDENTITY))
		return true;
	if (!SEALED(slot, PART_IDENTITY, &slot->identity) ||
	    memchr(slot->identity.who.id, '\0', sizeof(slot->identity.who.id)) == NULL)
		return false;
	c->identity = slot->identity.who;
	return true;
}

static bool read_note(const struct slot *slot, uint32_t flags, struct slot_content *c)
{
	const struct slot_note *note = &slot->note[flags & STATE_NOTE_HALF ? 1 : 0];

	if (!(flags & STATE_NOTE))
		return true;
	if (!SEALED(slot, PART_NOTE, note) || note->len > DTLS_NOTE_MAX)
		return false;
	memcpy(c->note, note->bytes, note->len);
	c->note_len = note->len;
	return true;
}

static bool read_slot(const struct slot *slot, struct slot_content *c)
{
	uint32_t flags = state_flags(slot);
	struct blob_counters counters;

	memset(c, 0, sizeof(*c));
	return flags && read_fixed(slot, c, &counters) && read_out(slot, &counters) &&
	       read_in(slot, flags, c, &counters) && read_identity(slot, flags, c) &&
	       read_note(slot, flags, c) && blob_patch(c->blob, c->blob_len, &counters) == 0;
}

bool slots_get(const struct slots *s, uint32_t slot, struct slot_content *c)
{
	const struct slot *p = at(s, slot);

	return p && read_slot(p, c);
}

void slots_restore(struct slots *s,
		   void (*found)(void *arg, uint32_t slot, const struct slot_content *c), void *arg,
		   size_t *damaged)
{
	struct slot_content c;

	*damaged = 0;
	for (uint32_t n = 1; n <= s->reserved; n++) {
		struct slot *slot = at(s, n);

		if (atomic_load_explicit(&slot->state, memory_order_relaxed) == STATE_FREE)
			continue;
		if (read_slot(slot, &c)) {
			found(arg, n, &c);
			continue;
		}
		slots_drop(s, n);
		++*damaged;
	}
	explicit_bzero(&c, sizeof(c));
}

/* --- Taking and giving back --- */

static uint32_t take(struct slots *s)
{
	uint64_t suppressed;
	int rc;

	if (s->free_count > 0)
		return s->free[--s->free_count];
	if (s->fresh >= s->count)
		return 0;
	if (s->fresh < s->reserved)
		return ++s->fresh;
	rc = slots_reserve(s);
	if (rc == 0)
		return ++s->fresh;
	if (rate_limit_pass(&s->no_memory, NO_MEMORY_LOG_US, &suppressed)) {
		char note[RATE_LIMIT_NOTE_MAX];

		log_warn("slots_no_memory", NULL,
			 "%s: no memory for more than %u sessions: %s; the others end with the "
			 "process; give that tmpfs a larger size=%s",
			 s->path, s->reserved, strerror(-rc), rate_limit_note(note, suppressed));
	}
	return 0;
}

uint32_t slots_take(struct slots *s)
{
	uint32_t slot = s ? take(s) : 0;

	if (s && !slot)
		slots_publish(&s->header->lacked, 1);
	return slot;
}

bool slots_lacked(struct slots *s)
{
	bool lacked = s->header->lacked != 0;

	slots_publish(&s->header->lacked, 0);
	return lacked;
}

void slots_drop(struct slots *s, uint32_t slot)
{
	struct slot *p = at(s, slot);

	if (!p)
		return;
	slots_wipe(p);
	if (s->free_count < s->count)
		s->free[s->free_count++] = slot;
}

/* --- Writing --- */

static void write_in(struct slot *slot, unsigned half, const struct blob_counters *counters,
		     const struct address *from, int64_t now_us)
{
	struct slot_in *in = &slot->in[half];

	in->top = counters->top;
	in->window = counters->window;
	in->last_us = now_us;
	in->address = *from;
	in->zero = 0;
	SEAL(slot, PART_IN, in);
}

static void write_identity(struct slot *slot, const struct dtls_identity *who)
{
	slot->identity.who = *who;
	SEAL(slot, PART_IDENTITY, &slot->identity);
}

static void write_note(struct slot *slot, unsigned half, const void *bytes, size_t len)
{
	struct slot_note *note = &slot->note[half];

	memset(note, 0, sizeof(*note));
	note->len = (uint8_t)len;
	if (len > 0)
		memcpy(note->bytes, bytes, len);
	SEAL(slot, PART_NOTE, note);
}

static void write_fixed(struct slot *slot, const struct slot_content *c)
{
	struct slot_fixed *f = &slot->fixed;

	memset(f, 0, sizeof(*f));
	f->id = c->id;
	f->opened_us = c->opened_us;
	memcpy(f->cid, c->cid, sizeof(f->cid));
	f->has_cid = c->has_cid;
	f->blob_len = (uint16_t)c->blob_len;
	memcpy(f->blob, c->blob, c->blob_len);
	SEAL(slot, PART_FIXED, f);
}

/* A blob may have been saved before the last records of its session. */
static void keep_newer(struct blob_counters *c, const struct slot *slot, uint64_t id)
{
	struct slot_content old;
	struct blob_counters was;

	if (read_slot(slot, &old) && old.id == id &&
	    blob_counters(old.blob, old.blob_len, &was) == 0) {
		if (was.out > c->out)
			c->out = was.out;
		if (was.top > c->top) {
			c->top = was.top;
			c->window = was.window;
		} else if (was.top == c->top) {
			c->window |= was.window;
		}
	}
	explicit_bzero(&old, sizeof(old));
}

void slots_put(struct slots *s, uint32_t slot, const struct slot_content *c)
{
	struct slot *p = at(s, slot);
	struct blob_counters counters;
	uint32_t flags = STATE_USED;

	if (!p)
		return;
	if (c->blob_len > SLOT_BLOB_MAX || c->note_len > DTLS_NOTE_MAX ||
	    blob_counters(c->blob, c->blob_len, &counters)) {
		slots_wipe(p);
		return;
	}
	keep_newer(&counters, p, c->id);

	slots_publish(&p->state, STATE_TORN);
	write_fixed(p, c);
	slots_publish(&p->out, out_word(p, counters.out & RECORD_SEQUENCE_MASK));
	write_in(p, 0, &counters, &c->address, c->last_us);
	if (dtls_identity_proven(&c->identity)) {
		write_identity(p, &c->identity);
		flags |= STATE_IDENTITY;
	}
	if (c->note_len > 0) {
		write_note(p, 0, c->note, c->note_len);
		flags |= STATE_NOTE;
	}
	slots_publish(&p->state, state_word(flags));
}

void slots_set_out(struct slots *s, uint32_t slot, uint64_t next)
{
	uint32_t flags;
	struct slot *p = in_use(s, slot, &flags);
	struct blob_counters saved;

	if (!p)
		return;
	if (blob_counters(p->fixed.blob, p->fixed.blob_len, &saved) ||
	    (saved.out ^ next) & ~RECORD_SEQUENCE_MASK) {
		slots_publish(&p->state, STATE_TORN);
		return;
	}
	next &= RECORD_SEQUENCE_MASK;
	if (next > (atomic_load_explicit(&p->out, memory_order_relaxed) & RECORD_SEQUENCE_MASK))
		slots_publish(&p->out, out_word(p, next));
}

void slots_set_in(struct slots *s, uint32_t slot, uint64_t seq, const struct address *from,
		  int64_t now_us)
{
	uint32_t flags;
	struct slot *p = in_use(s, slot, &flags);
	struct blob_counters counters = {0};
	const struct slot_in *old;

	if (!p)
		return;
	old = &p->in[flags & STATE_IN_HALF ? 1 : 0];
	counters.top = old->top;
	counters.window = old->window;
	blob_received(&counters, seq);

	flags ^= STATE_IN_HALF;
	write_in(p, flags & STATE_IN_HALF ? 1 : 0, &counters, from, now_us);
	slots_publish(&p->state, state_word(flags));
}

void slots_set_identity(struct slots *s, uint32_t slot, const struct dtls_identity *who)
{
	uint32_t flags;
	struct slot *p = in_use(s, slot, &flags);

	if (!p)
		return;
	flags &= ~(uint32_t)STATE_IDENTITY;
	slots_publish(&p->state, state_word(flags));
	if (!dtls_identity_proven(who))
		return;
	write_identity(p, who);
	slots_publish(&p->state, state_word(flags | STATE_IDENTITY));
}

void slots_set_note(struct slots *s, uint32_t slot, const void *note, size_t len)
{
	uint32_t flags;
	struct slot *p = in_use(s, slot, &flags);

	if (!p || len > DTLS_NOTE_MAX)
		return;
	if (len > 0) {
		flags = (flags ^ STATE_NOTE_HALF) | STATE_NOTE;
		write_note(p, flags & STATE_NOTE_HALF ? 1 : 0, note, len);
	} else {
		flags &= ~(uint32_t)STATE_NOTE;
	}
	slots_publish(&p->state, state_word(flags));
}
