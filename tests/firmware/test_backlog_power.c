/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What backlog.h promises, held against a list of what was done: over long random runs in rings of
 * several sizes, with the power cut at every word that is written and in every erase, and with
 * every call of the flash failing in turn.
 */
#include "device-fw/core/backlog.h"
#include "tests/firmware/flash.h"

#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS 20000
#define SLOT	24 /* what a record takes besides its payload */

enum fate {
	UNSURE, /* power failed, or the flash, while it was appended: it is there or it is not */
	KEPT,
	SENT, /* and marked so */
	GONE,
};

struct entry {
	uint32_t seq; /* 0: not known, the append did not return */
	enum fate fate;
	int64_t wall_ms, uptime_ms, seen_ms;
	uint32_t boot; /* counted by the test */
	uint8_t payload[FG_BACKLOG_PAYLOAD_MAX], length;
};

struct boot {
	int64_t wall_ms; /* 0: never anchored */
	bool unsure;	 /* the anchor did not return */
};

static struct model {
	struct flash flash;
	struct fg_backlog b;
	jmp_buf cut;
	struct entry entries[RECORDS];
	struct boot boots[RECORDS];
	size_t n;
	uint32_t boot, last_seq, random;
	int64_t uptime_ms;
	bool repeats; /* marks may have been lost: what was sent may come again */
	bool faults;  /* calls fail in this run */
	bool knows_time;
} m;

static uint32_t draw(uint32_t below)
{
	m.random ^= m.random << 13;
	m.random ^= m.random >> 17;
	m.random ^= m.random << 5;
	return m.random % below;
}

static void begin(uint32_t sector_size, uint32_t sectors, uint32_t seed)
{
	memset(&m, 0, sizeof(m));
	flash_init(&m.flash, sector_size, sectors);
	m.flash.noise = seed * 2654435761u + 12345;
	m.flash.cut = &m.cut;
	m.random = seed * 2246822519u + 1;
}

/* A ring that never had more than this behind a record has not given it up. */
static bool may_be_gone(size_t i)
{
	const struct fg_flash_geometry *g = &m.flash.geometry;
	size_t bytes = 0;

	for (size_t k = i; k < m.n; k++)
		bytes += SLOT + ((m.entries[k].length + 3u) & ~3u) +
			 SLOT; /* and as much for an anchor */
	return bytes + (size_t)(SLOT + FG_BACKLOG_PAYLOAD_MAX) * g->sectors >=
	       (size_t)(g->sector_size - SLOT) * (g->sectors - 1);
}

static void check_time(struct entry *e, int64_t time_ms)
{
	const struct boot *boot = &m.boots[e->boot];
	int64_t expected_ms = e->wall_ms      ? e->wall_ms
			      : boot->wall_ms ? boot->wall_ms + e->uptime_ms
					      : 0;

	if (!boot->unsure || e->wall_ms)
		assert_int_equal(time_ms, expected_ms);
	if (e->seen_ms != 0)
		assert_int_equal(time_ms, e->seen_ms);
	e->seen_ms = time_ms;
}

/* The entry that a record is, at or behind i. */
static size_t find_entry(size_t i, const struct fg_record *r)
{
	for (; i < m.n; i++) {
		struct entry *e = &m.entries[i];

		if (e->seq == r->seq ||
		    (e->seq == 0 && e->fate == UNSURE && e->length == r->length &&
		     memcmp(e->payload, r->pairs, r->length) == 0))
			break;
	}
	assert_true(i < m.n);
	assert_int_equal(r->length, m.entries[i].length);
	assert_memory_equal(r->pairs, m.entries[i].payload, r->length);
	return i;
}

/* Takes up to `most` from the ring, in order and whole; marks the last. */
static size_t take(size_t most, bool acknowledge, bool complete)
{
	uint8_t buffer[FG_BACKLOG_PAYLOAD_MAX];
	struct fg_backlog_cursor at;
	struct fg_record r;
	size_t taken = 0, i = 0, known = 0;
	int rc = fg_backlog_first(&m.b, &at, &r, buffer, sizeof(buffer));

	for (; rc == 0; rc = fg_backlog_next(&m.b, &at, &r, buffer, sizeof(buffer))) {
		size_t found = find_entry(i, &r);
		struct entry *e = &m.entries[found];

		/* What lies between was sent, or it was never there; at the front, given up. */
		for (; i < found; i++) {
			struct entry *skipped = &m.entries[i];

			if (skipped->fate == KEPT && complete) {
				assert_int_equal(known, 0);
				assert_true(may_be_gone(i));
				skipped->fate = GONE;
			}
		}
		assert_true(e->fate != GONE || m.faults);
		assert_true(e->fate != SENT || m.repeats);
		if (e->fate == UNSURE) {
			e->fate = KEPT;
			e->seq = r.seq;
		}
		if (r.seq > m.last_seq)
			m.last_seq = r.seq;
		known += e->fate == KEPT;
		check_time(e, r.time_ms);
		i = found + 1;
		if (++taken == most)
			break;
	}
	assert_true(rc == 0 || rc == -ENOENT || m.faults);
	if (rc == -ENOENT && complete)
		for (; i < m.n; i++)
			if (m.entries[i].fate == KEPT) {
				assert_int_equal(known, 0);
				assert_true(may_be_gone(i));
				m.entries[i].fate = GONE;
			}
	if (!acknowledge || taken == 0)
		return taken;
	rc = fg_backlog_acknowledge(&m.b, &at);
	assert_true(rc == 0 || m.faults);
	for (size_t k = 0; k < i; k++)
		if (m.entries[k].fate == KEPT)
			m.entries[k].fate = SENT;
	return taken;
}

static void mount(void)
{
	m.boot++;
	m.uptime_ms = 0;
	m.knows_time = false;
	m.b = (struct fg_backlog){.port = &m.flash.port, .ctx = &m.flash};
	fg_backlog_mount(&m.b);
}

static int64_t boot_wall_ms(void)
{
	return INT64_C(1700000000000) + m.boot * INT64_C(100000000);
}

static void append(uint32_t longest)
{
	struct entry *e = &m.entries[m.n++];
	uint32_t seq = 0;
	int rc;

	assert_true(m.n < RECORDS);
	e->fate = UNSURE;
	e->boot = m.boot;
	e->uptime_ms = m.uptime_ms += 1 + draw(1000);
	if (m.knows_time)
		e->wall_ms = draw(3) ? boot_wall_ms() + e->uptime_ms : 0;
	e->length = (uint8_t)(3 + draw(longest - 2));
	for (size_t i = 0; i < e->length; i++)
		e->payload[i] = draw(4) ? (uint8_t)draw(256) : 0xff;
	memcpy(e->payload, &m.n, 3);
	rc = fg_backlog_append(&m.b, e->wall_ms, e->uptime_ms, 3, e->payload, e->length, &seq);
	assert_true(rc == 0 || m.faults);
	if (rc != 0)
		return;
	if (seq <= m.last_seq)
		fail_msg("number %u again, after %u: call %ld (%ld) of %ld failed, sectors %u", seq,
			 m.last_seq, m.flash.fail_call, m.flash.fail_length, m.flash.calls,
			 m.flash.geometry.sectors);
	m.last_seq = e->seq = seq;
	e->fate = KEPT;
}

static void anchor(void)
{
	int64_t wall_ms = boot_wall_ms();

	m.boots[m.boot].unsure = true;
	m.knows_time = true;
	if (fg_backlog_anchor(&m.b, m.boots[m.boot].wall_ms ? wall_ms + 7 : wall_ms) != 0) {
		assert_true(m.faults);
		return;
	}
	m.boots[m.boot].unsure = m.boots[m.boot].wall_ms == 0 && m.faults;
	m.boots[m.boot].wall_ms = wall_ms;
}

static void one_operation(uint32_t longest)
{
	uint32_t what = draw(100);

	if (what < 70)
		append(longest);
	else if (what < 76)
		anchor();
	else if (what < 94)
		take(1 + draw(12), true, false);
	else if (what < 97)
		take(SIZE_MAX, false, !m.faults);
	else
		mount();
}

static void count_waiting(void)
{
	size_t kept;

	take(SIZE_MAX, false, true);
	kept = take(SIZE_MAX, false, true);
	assert_int_equal(m.b.waiting, kept);
}

static const struct {
	uint32_t size, sectors, longest;
} rings[] = {{512, 2, 40}, {512, 2, 224}, {512, 3, 100}, {1024, 5, 224}, {4096, 4, 120}};

#define RINGS (sizeof(rings) / sizeof(*rings))

static void test_long_runs_keep_the_newest_in_order_and_whole(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 60; seed++) {
		begin(rings[seed % RINGS].size, rings[seed % RINGS].sectors, seed);
		mount();
		for (int i = 0; i < 3000; i++) {
			one_operation(rings[seed % RINGS].longest);
			if (i % 50 == 0)
				count_waiting();
		}
		assert_int_equal(m.b.corrupt, 0);
		flash_free(&m.flash);
	}
}

/* Runs a story until the power fails. False: it did not. */
static bool run_until_cut(uint32_t longest, int operations, long cut_after)
{
	static int i;

	m.flash.cut_after = cut_after;
	if (setjmp(m.cut) != 0) {
		m.flash.cut_after = -1;
		return true;
	}
	for (i = 0; i < operations; i++)
		one_operation(longest);
	m.flash.cut_after = -1;
	return false;
}

static void check_after_cut(uint32_t longest)
{
	m.repeats = true;
	mount();
	take(SIZE_MAX, false, true);
	for (int i = 0; i < 5; i++)
		append(longest);
	take(SIZE_MAX, false, true);
	mount();
	take(SIZE_MAX, false, true);
}

static void test_power_may_fail_at_every_word_and_every_erase(void **state)
{
	unsigned cuts = 0;

	(void)state;
	for (size_t ring = 0; ring < RINGS; ring++) {
		bool cut = true;

		for (long k = 0; cut && k < 2500; k++, cuts++) {
			begin(rings[ring].size, rings[ring].sectors, (uint32_t)ring + 77);
			mount();
			cut = run_until_cut(rings[ring].longest, 150, k);
			check_after_cut(rings[ring].longest);
			flash_free(&m.flash);
		}
	}
	print_message("%u cuts\n", cuts);
}

static void test_a_life_of_power_cuts_uses_no_number_twice(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 100; seed++) {
		begin(rings[seed % RINGS].size, rings[seed % RINGS].sectors, seed);
		mount();
		for (int cut = 0; cut < 60; cut++) {
			run_until_cut(rings[seed % RINGS].longest, 60, (long)draw(600));
			check_after_cut(rings[seed % RINGS].longest);
		}
		flash_free(&m.flash);
	}
}

static void test_every_call_of_the_flash_may_fail(void **state)
{
	(void)state;
	for (size_t ring = 0; ring < RINGS; ring++)
		for (long k = 0; k < 6000; k += 1 + k / 400) {
			begin(rings[ring].size, rings[ring].sectors, (uint32_t)ring + 5);
			m.faults = m.repeats = true;
			m.flash.fail_call = k;
			m.flash.fail_length = 1 + k % 3;
			mount();
			for (int i = 0; i < 120; i++)
				one_operation(rings[ring].longest);
			/* It works again, also without a reboot; afterwards all is well. */
			m.flash.fail_call = -1;
			append(10);
			mount();
			append(10);
			assert_int_equal(m.entries[m.n - 1].fate, KEPT);
			take(SIZE_MAX, true, false);
			assert_int_equal(m.entries[m.n - 1].fate, SENT);
			assert_int_equal(m.b.waiting, 0);
			flash_free(&m.flash);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_runs_keep_the_newest_in_order_and_whole),
		cmocka_unit_test(test_power_may_fail_at_every_word_and_every_erase),
		cmocka_unit_test(test_a_life_of_power_cuts_uses_no_number_twice),
		cmocka_unit_test(test_every_call_of_the_flash_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
