/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls/slots: what is put comes back, with the counters as they are now, and slots are
 * taken and given back.
 */
#include "tests/coap/slots_fixture.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- The counters in a blob --- */

static void test_counters_stand_at_fixed_places_of_the_tail(void **state)
{
	static const uint8_t tail[BLOB_TAIL_LEN + 1] = {0xaa, /* in front of it */
							0,    0, 1, 2, 3, 4, 5, 6, /* top */
							9,    8, 7, 6, 5, 4, 3, 2, /* window */
							1,			   /* packing */
							0,    1, 0, 0, 0, 0, 0, 9, /* out */
							5,    0,		   /* mtu */
							0};			   /* ALPN */
	uint8_t blob[sizeof(tail)];
	struct blob_counters c;

	(void)state;
	assert_int_equal(blob_counters(tail, sizeof(tail), &c), 0);
	assert_int_equal(c.out, EPOCH | 9);
	assert_int_equal(c.top, UINT64_C(0x010203040506));
	assert_int_equal(c.window, UINT64_C(0x0908070605040302));

	memcpy(blob, tail, sizeof(blob));
	assert_int_equal(blob_patch(blob, sizeof(blob), &c), 0);
	assert_memory_equal(blob, tail, sizeof(blob));
}

static void test_a_tail_with_alpn_is_refused(void **state)
{
	uint8_t blob[64] = {0};
	struct blob_counters c = {0};

	(void)state;
	blob[63] = 2;
	assert_int_equal(blob_counters(blob, sizeof(blob), &c), -EINVAL);
	assert_int_equal(blob_patch(blob, sizeof(blob), &c), -EINVAL);
	assert_int_equal(blob_counters(blob, BLOB_TAIL_LEN - 1, &c), -EINVAL);
}

static void test_the_window_follows_what_is_received(void **state)
{
	static const struct {
		uint64_t seq, top, window;
	} steps[] = {
		{1, 1, 1},
		{2, 2, 3},
		{5, 5, 0x19},
		{4, 5, 0x1b},
		{4, 5, 0x1b},
		{EPOCH | 6, 6, 0x37}, /* the epoch is no part of it */
		{69, 69, UINT64_C(0x8000000000000001)},
		{133, 133, 1}, /* 64 further: nothing of before is left */
		{69, 133, 1},  /* too old: Mbed TLS would have refused it */
		{70, 133, UINT64_C(0x8000000000000001)},
	};
	struct blob_counters c = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		blob_received(&c, steps[i].seq);
		assert_int_equal(c.top, steps[i].top);
		assert_int_equal(c.window, steps[i].window);
	}
}

/* --- What is put comes back --- */

static void test_a_session_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1), got;
	uint32_t slot = put(s, &c);

	(void)state;
	assert_true(slots_get(s, slot, &got));
	assert_same(&got, &c);
	slots_close(s);
	assert_restored(&c);
	assert_int_equal(found.slot[0], slot);
}

static void test_a_session_without_cid_identity_and_note_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	(void)state;
	c.has_cid = false;
	memset(&c.identity, 0, sizeof(c.identity));
	memset(c.note, 0, sizeof(c.note));
	c.note_len = 0;
	put(s, &c);
	slots_close(s);
	assert_restored(&c);
}

static void test_the_largest_content_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	(void)state;
	memset(c.blob, 0x5a, sizeof(c.blob));
	c.blob_len = SLOT_BLOB_MAX;
	c.blob[SLOT_BLOB_MAX - 1] = 0;
	patch(&c, EPOCH | RECORD_SEQUENCE_MASK, RECORD_SEQUENCE_MASK, UINT64_MAX);
	memset(c.note, 0xa5, sizeof(c.note));
	c.note_len = DTLS_NOTE_MAX;
	memset(c.identity.id, 'x', PRINCIPAL_ID_MAX);
	put(s, &c);
	slots_close(s);
	assert_restored(&c);
}

static void test_the_next_number_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_close(s);
	patch(&c, EPOCH | 77, 5, 0x1f);
	assert_restored(&c);
}

static void test_the_next_number_never_goes_back(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_set_out(s, slot, EPOCH | 76);
	slots_put(s, slot, &c); /* its blob says 1 */
	slots_close(s);
	patch(&c, EPOCH | 77, 5, 0x1f);
	assert_restored(&c);
}

static void test_another_session_in_the_same_slot_has_its_own_numbers(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content a = session(1), b = session(2);
	uint32_t slot = put(s, &a);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_put(s, slot, &b);
	slots_close(s);
	assert_restored(&b);
}

static void test_another_epoch_tears_the_slot(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, 2 * EPOCH | 1);
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count, 0);
	assert_int_equal(found.damaged, 1);
}

static void test_what_was_received_and_from_where_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	struct address from = address_of(4711);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_in(s, slot, EPOCH | 6, &c.address, 8100000);
	slots_set_in(s, slot, EPOCH | 8, &from, 8200000);
	slots_close(s);
	patch(&c, EPOCH | 1, 8, 0xfd);
	c.address = from;
	c.last_us = 8200000;
	assert_restored(&c);
}

static void test_an_older_blob_does_not_reopen_the_window(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	patch(&c, EPOCH | 1, 5, 0x0d); /* 4 and 1 are not in it */
	slots_put(s, slot, &c);
	slots_close(s);
	patch(&c, EPOCH | 1, 5, 0x1f);
	assert_restored(&c);

	s = open_slots(16);
	slots_set_in(s, slot, EPOCH | 9, &c.address, c.last_us);
	slots_put(s, slot, &c);
	slots_close(s);
	patch(&c, EPOCH | 1, 9, 0x1f1);
	assert_restored(&c);
}

static void test_an_identity_that_was_proven_later_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	struct dtls_identity who = c.identity;
	uint32_t slot;

	(void)state;
	memset(&c.identity, 0, sizeof(c.identity));
	slot = put(s, &c);
	slots_set_identity(s, slot, &who);
	slots_close(s);
	c.identity = who;
	assert_restored(&c);
}

static void test_the_last_note_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_note(s, slot, "first", 5);
	slots_set_note(s, slot, "de", 2);
	slots_close(s);
	memset(c.note, 0, sizeof(c.note));
	memcpy(c.note, "de", 2);
	c.note_len = 2;
	assert_restored(&c);

	s = open_slots(16);
	slots_set_note(s, slot, NULL, 0);
	slots_close(s);
	c.note_len = 0;
	memset(c.note, 0, sizeof(c.note));
	assert_restored(&c);
}

static void test_a_blob_that_is_none_is_not_kept(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	c.blob_len = SLOT_BLOB_MAX + 1;
	slots_put(s, slot, &c);
	assert_false(slots_get(s, slot, &c));
	c = session(1);
	c.blob[BLOB_LEN - 1] = 1;
	slots_put(s, slot, &c);
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
}

static void test_slot_zero_does_nothing(void **state)
{
	struct slots *s = open_slots(1);
	struct slot_content c = session(1), got;

	(void)state;
	slots_put(s, 0, &c);
	slots_put(s, 2, &c);
	slots_put(NULL, 1, &c);
	slots_set_out(s, 0, EPOCH | 9);
	slots_set_in(s, 0, EPOCH | 9, &c.address, 1);
	slots_set_identity(s, 0, &c.identity);
	slots_set_note(s, 0, "x", 1);
	slots_drop(s, 0);
	assert_false(slots_get(s, 0, &got));
	assert_int_equal(slots_take(NULL), 0);
	slots_close(s);
	slots_close(NULL);
	reopen(1);
	assert_int_equal(found.count + found.damaged, 0);
}

/* --- Taking and dropping --- */

static void test_every_slot_is_taken_once(void **state)
{
	struct slots *s = open_slots(600);
	bool taken[601] = {false};

	(void)state;
	for (int i = 0; i < 600; i++) {
		uint32_t slot = slots_take(s);

		assert_in_range(slot, 1, 600);
		assert_false(taken[slot]);
		taken[slot] = true;
	}
	assert_int_equal(slots_take(s), 0);
	slots_drop(s, 17);
	assert_int_equal(slots_take(s), 17);
	assert_int_equal(slots_take(s), 0);
	slots_close(s);
}

static void test_who_had_no_slot_is_remembered_until_asked(void **state)
{
	struct slots *s = open_slots(1);

	(void)state;
	slots_take(s);
	assert_false(slots_lacked(s));
	assert_int_equal(slots_take(s), 0);
	slots_close(s);
	s = open_slots(1);
	assert_true(slots_lacked(s));
	slots_close(s);
	s = open_slots(1);
	assert_false(slots_lacked(s));
	slots_close(s);
}

static void test_slots_in_use_are_not_taken_after_a_restart(void **state)
{
	struct slots *s = open_slots(4);
	struct slot_content c[2] = {session(1), session(2)};

	(void)state;
	put(s, &c[0]);
	slots_take(s); /* and nothing is put there */
	put(s, &c[1]);
	slots_close(s);

	s = open_slots(4);
	restore(s);
	assert_int_equal(found.count, 2);
	assert_int_equal(slots_take(s) + slots_take(s), 2 + 4);
	assert_int_equal(slots_take(s), 0);
	slots_close(s);
}

static void test_nothing_of_a_dropped_session_is_left(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	assert_true(file_holds(c.blob, 16));
	assert_true(file_holds(c.identity.id, 8));
	slots_drop(s, slot);
	assert_false(file_holds(c.blob, 16));
	assert_false(file_holds(c.identity.id, 8));
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
}

static void test_a_full_tmpfs_is_an_answer(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		struct slots *s;
		struct slot_content c = session(1);
		unsigned n = 0;

		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", dir, "tmpfs", 0, "size=300k,mode=0700") != 0)
			_exit(77);
		if (slots_open(&s, path, 100000, err, sizeof(err)) != 0)
			_exit(1);
		for (uint32_t slot; n < 1000 && (slot = slots_take(s)) != 0; n++)
			slots_put(s, slot, &c);
		_exit(n == 256 && strstr(last_line, "event=slots_no_memory") ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* What a SIGKILL in slots_put leaves. */
static void test_a_torn_slot_is_free_again(void **state)
{
	struct slots *s = open_slots(1);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_publish(&s->slot[slot - 1].state, STATE_TORN);
	slots_close(s);
	s = open_slots(1);
	assert_int_equal(slots_take(s), 0);
	restore(s);
	assert_int_equal(found.damaged, 1);
	assert_int_equal(slots_take(s), 1);
	assert_false(file_holds(c.blob, 16));
	slots_close(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_stand_at_fixed_places_of_the_tail),
		cmocka_unit_test(test_a_tail_with_alpn_is_refused),
		cmocka_unit_test(test_the_window_follows_what_is_received),
		TEST(test_a_session_comes_back_whole),
		TEST(test_a_session_without_cid_identity_and_note_comes_back_whole),
		TEST(test_the_largest_content_comes_back_whole),
		TEST(test_the_next_number_is_restored),
		TEST(test_the_next_number_never_goes_back),
		TEST(test_another_session_in_the_same_slot_has_its_own_numbers),
		TEST(test_another_epoch_tears_the_slot),
		TEST(test_what_was_received_and_from_where_is_restored),
		TEST(test_an_older_blob_does_not_reopen_the_window),
		TEST(test_an_identity_that_was_proven_later_is_restored),
		TEST(test_the_last_note_is_restored),
		TEST(test_a_blob_that_is_none_is_not_kept),
		TEST(test_slot_zero_does_nothing),
		TEST(test_every_slot_is_taken_once),
		TEST(test_who_had_no_slot_is_remembered_until_asked),
		TEST(test_slots_in_use_are_not_taken_after_a_restart),
		TEST(test_nothing_of_a_dropped_session_is_left),
		TEST(test_a_full_tmpfs_is_an_answer),
		TEST(test_a_torn_slot_is_free_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
