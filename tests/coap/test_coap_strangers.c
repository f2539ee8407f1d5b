/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: what sessions make the server do and keep whose device has not proven who it
 * is, and how often anybody has an answer sent again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

#define STRANGERS 64 /* their ids are above */
#define ALL	  16 /* transfers */

static const uint8_t body[32];

/* Who is known: by id, so that a test can make somebody known. */
static uint64_t known_below;

static bool known(void *arg, void *session)
{
	const struct session *s = session;

	(void)arg;
	return s->id < known_below;
}

static int set_up(void **state)
{
	known_below = STRANGERS;
	fixture_defaults();
	fixture_options.known = known;
	fixture_options.max_transfers_all = ALL;
	*state = fixture_new();
	return 0;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static uint16_t next_mid = 1;

static unsigned put_block(struct session *s, const char *path, uint32_t num, bool more)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, path);
	bytes_block(&b, OPT_BLOCK1, num, more, 0);
	bytes_payload(&b, body, 16);
	deliver(s, &b);
	return expect(s).code;
}

static void test_strangers_leave_the_transfers_to_others(void **state)
{
	struct fixture *f = *state;
	struct session *stranger[2 * ALL];

	for (size_t i = 0; i < 2 * ALL; i++) {
		stranger[i] = session_new_small(f, STRANGERS + i);
		assert_int_equal(put_block(stranger[i], "store/1", 0, true), CODE(2, 31));
		assert_int_equal(put_block(stranger[i], "store/2", 0, true), CODE(2, 31));
	}
	assert_int_equal(stats_of(f).transfers, ALL / 8);
	assert_int_equal(stats_of(f).peers, ALL / 8);
	assert_int_equal(put_block(f->a, "store/1", 0, true), CODE(2, 31));
	/* The last ones are there still, and one for each. */
	assert_int_equal(put_block(stranger[2 * ALL - 1], "store/1", 1, false), CODE(4, 8));
	assert_int_equal(put_block(stranger[2 * ALL - 1], "store/2", 1, false), CODE(2, 4));
	assert_int_equal(put_block(stranger[2 * ALL - 2], "store/2", 1, false), CODE(2, 4));
	assert_int_equal(put_block(f->a, "store/1", 1, false), CODE(2, 4));
	for (size_t i = 0; i < 2 * ALL; i++)
		session_end(stranger[i]);
	assert_int_equal(stats_of(f).transfers, 0);
}

static void test_a_transfer_of_a_stranger_expires_too(void **state)
{
	struct fixture *f = *state;
	struct session *stranger = session_new(f, STRANGERS);

	put_block(stranger, "msg", 0, true);
	known_below = STRANGERS + 1; /* it has logged in meanwhile */
	put_block(stranger, "msg", 1, true);
	fixture_run(f, 246 * US_PER_S);
	assert_int_equal(stats_of(f).transfers, 1);
	fixture_run(f, 2 * US_PER_S);
	assert_int_equal(stats_of(f).transfers, 0);
	assert_null(stranger->peer);
	session_end(stranger);
}

/* The ring is everybody's: whoever fills it makes others' repeated posts run twice. */
static void test_nothing_is_kept_of_what_a_stranger_gets(void **state)
{
	struct fixture *f = *state;
	struct session *stranger = session_new(f, STRANGERS);

	reply_with(f, FG_COAP_CODE(2, 5), "an answer");
	for (int i = 0; i < 3; i++) {
		send_request(stranger, B_CON, CODE(0, 1), 7, "t", "state", NULL);
		assert_int_equal(expect(stranger).code, CODE(2, 5));
		send_request(stranger, B_CON, CODE(0, 1), 8, "t", "nowhere", NULL);
		assert_int_equal(expect(stranger).code, CODE(4, 4));
	}
	assert_int_equal(stats_of(f).dedup_entries, 0);
	assert_int_equal(f->admit_asked, 6);

	f->admit = false;
	send_request(stranger, B_CON, CODE(0, 1), 7, "t", "state", NULL);
	assert_int_equal(expect(stranger).code, CODE(4, 1));
	session_end(stranger);
}

/* Its login is. */
static void test_a_strangers_post_runs_once(void **state)
{
	struct fixture *f = *state;
	struct session *stranger = session_new(f, STRANGERS);

	for (int i = 0; i < 3; i++) {
		send_request(stranger, B_CON, CODE(0, 2), 7, "t", "msg", "x");
		assert_int_equal(expect(stranger).code, CODE(2, 4));
	}
	assert_int_equal(f->called, 1);
	session_end(stranger);
}

/* Repeats are not admitted, so each would be an answer of up to 1 kB for 30 bytes. */
static void test_a_message_without_end_is_answered_so_often_and_no_more(void **state)
{
	struct fixture *f = *state;
	unsigned answers = 0;

	reply_with(f, FG_COAP_CODE(2, 5), "an answer");
	for (int i = 0; i < 200; i++) {
		send_request(f->a, B_CON, CODE(0, 1), 7, "t", "state", NULL);
		answers += take(f->a) != NULL;
	}
	assert_int_equal(answers, 1 + 16);
	assert_int_equal(f->called, 1);
	send_request(f->a, B_CON, CODE(0, 1), 8, "t", "state", NULL);
	assert_int_equal(expect(f->a).code, CODE(2, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_strangers_leave_the_transfers_to_others),
		TEST(test_a_transfer_of_a_stranger_expires_too),
		TEST(test_nothing_is_kept_of_what_a_stranger_gets),
		TEST(test_a_strangers_post_runs_once),
		TEST(test_a_message_without_end_is_answered_so_often_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
