/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/coap: `send` may end the session that it is called for (its slot is damaged, it has
 * no record numbers left). Whatever is under way then, nothing of the session is touched any more:
 * the address sanitizer looks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

#define SENDS 24 /* more than any script has */

static int (*keep)(void *arg, void *session, const uint8_t *data, size_t len);
static unsigned countdown; /* sends of session a until it ends */
static bool ended;

static int end_at_last(void *arg, void *session, const uint8_t *data, size_t len)
{
	struct fixture *f = arg;

	if (session != f->a)
		return keep(arg, session, data, len);
	assert_false(ended); /* nothing is sent to what is gone */
	if (--countdown > 0)
		return keep(arg, session, data, len);
	coap_server_forget(f->server, &f->a->peer);
	ended = true;
	return -1;
}

static void get(struct fixture *f, const char *token, const char *path, uint16_t mid)
{
	struct coap_bytes b;

	if (ended)
		return;
	bytes_begin(&b, B_CON, CODE(0, 1), mid, token);
	bytes_number(&b, OPT_OBSERVE, 0);
	bytes_path(&b, path);
	deliver(f->a, &b);
}

static void change(struct fixture *f, uint8_t code)
{
	reply_with(f, code, "x");
	f->reply.observe_key = code < 0x80 ? "key" : NULL;
	coap_server_changed(f->server, "key");
	coap_server_tick(f->server);
}

static void observe(struct fixture *f)
{
	reply_with(f, FG_COAP_CODE(2, 5), "x");
	f->reply.observe_key = "key";
	get(f, "1", "state", 1);
	get(f, "2", "store/b", 2);
}

/* Two notifications wait, one behind the other; then both observations end with an error. */
static void errors_after_notifications(struct fixture *f)
{
	observe(f);
	change(f, FG_COAP_CODE(2, 5));
	change(f, FG_COAP_CODE(4, 4));
	fixture_run(f, 200 * US_PER_S);
}

/* The notification of a registration is under way when another takes its place. */
static void registration_again(struct fixture *f)
{
	observe(f);
	change(f, FG_COAP_CODE(2, 5));
	reply_with(f, FG_COAP_CODE(2, 5), "x");
	f->reply.observe_key = "key";
	get(f, "1", "state", 3);
	f->reply.observe_key = NULL;
	get(f, "2", "store/b", 4);
	fixture_run(f, 200 * US_PER_S);
}

static void registration_again_and_held(struct fixture *f)
{
	observe(f);
	change(f, FG_COAP_CODE(2, 5));
	reply_with(f, FG_COAP_CODE(2, 5), "x");
	f->reply.hold = 1;
	get(f, "1", "state", 3);
	get(f, "2", "store/b", 4);
	coap_server_release(f->server, 1, true);
	fixture_run(f, 200 * US_PER_S);
}

static void registration_again_and_late(struct fixture *f)
{
	struct coap_reply reply;
	size_t first;

	observe(f);
	change(f, FG_COAP_CODE(2, 5));
	f->done = COAP_LATER;
	first = f->exchanges;
	get(f, "1", "state", 3);
	get(f, "2", "store/b", 4);
	reply_with(f, FG_COAP_CODE(2, 5), "x");
	reply = f->reply;
	reply.observe_key = "key";
	for (size_t i = first; i < f->exchanges; i++) {
		coap_server_answer(f->server, f->exchange[i], &reply);
		reply.observe_key = NULL;
	}
	fixture_run(f, 200 * US_PER_S);
}

static void check(void (*script)(struct fixture *f), int64_t acknowledge_after_us)
{
	bool came_to_an_end = false;

	for (unsigned n = 1; n <= SENDS; n++) {
		struct fixture *f;

		fixture_defaults();
		keep = fixture_options.send;
		fixture_options.send = end_at_last;
		fixture_options.acknowledge_after_us = acknowledge_after_us;
		countdown = n;
		ended = false;
		f = fixture_new();
		script(f);
		assert_true(!ended || stats_of(f).peers == 0);
		assert_true(!ended || stats_of(f).observations == 0);
		assert_true(!ended || stats_of(f).held == 0);
		came_to_an_end = !ended;
		countdown = SENDS; /* for what is sent when the fixture goes */
		fixture_free(f);
	}
	assert_true(came_to_an_end);
}

static void test_errors_after_notifications(void **state)
{
	(void)state;
	check(errors_after_notifications, 0);
}

static void test_registration_again(void **state)
{
	(void)state;
	check(registration_again, 0);
}

static void test_registration_again_that_is_held(void **state)
{
	(void)state;
	check(registration_again_and_held, 0);
}

static void test_registration_again_that_is_late(void **state)
{
	(void)state;
	check(registration_again_and_late, 0);
	check(registration_again_and_late, 500 * US_PER_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_after_notifications),
		cmocka_unit_test(test_registration_again),
		cmocka_unit_test(test_registration_again_that_is_held),
		cmocka_unit_test(test_registration_again_that_is_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
