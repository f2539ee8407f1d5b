/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/coap when memory runs out: each allocation of a scenario fails in turn, alone or with
 * all after it. Nothing crashes or leaks, what is answered is a CoAP message, and once there is
 * memory again everything works.
 *
 * LINK: -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool counting;		      /* only while the server runs */
static unsigned allocations, fail_at; /* from 1; 0: none */
static bool fail_after;		      /* and all that follow */

static bool fails(void)
{
	if (!counting)
		return false;
	allocations++;
	return fail_at != 0 && (allocations == fail_at || (fail_after && allocations > fail_at));
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

static void server_gets(struct session *s, const struct coap_bytes *b)
{
	counting = true;
	coap_server_receive(s->f->server, &s->peer, s->id, s, b->data, b->len);
	counting = false;
}

static void server_answers(struct fixture *f)
{
	counting = true;
	while (f->exchanges > 0)
		coap_server_answer(f->server, f->exchange[--f->exchanges], &f->reply);
	coap_server_release(f->server, 100, true);
	coap_server_changed(f->server, "key");
	coap_server_tick(f->server);
	counting = false;
}

/* Every message is a CoAP message, and an error is one of ours. Acknowledges what is confirmable.
 */
static void read_all(struct session *s)
{
	const struct sent *m;

	while ((m = take(s)) != NULL) {
		struct coap_seen seen;
		struct coap_bytes ack;

		assert_true(coap_see(&seen, m->data, m->len));
		if (seen.code >= CODE(4, 0) && seen.code != CODE(5, 3) && seen.code != CODE(5, 0) &&
		    seen.code != CODE(4, 8))
			fail_msg("answered %u.%02u", seen.code >> 5, seen.code & 31);
		if (seen.type != B_CON)
			continue;
		bytes_begin(&ack, B_ACK, 0, seen.mid, "");
		server_gets(s, &ack);
	}
}

static uint8_t body[3000];

static void reply_large(struct fixture *f)
{
	reply_with(f, FG_COAP_CODE(2, 5), NULL);
	f->reply.payload = body;
	f->reply.payload_len = sizeof(body);
	f->reply.observe_key = "key";
}

/* Something of everything. */
static void scenario(struct fixture *f)
{
	struct coap_bytes b;
	uint16_t mid = 1;

	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	bytes_begin(&b, B_CON, CODE(0, 2), mid++, "post");
	bytes_path(&b, "msg");
	server_gets(f->a, &b);

	f->reply.hold = 7;
	bytes_begin(&b, B_CON, CODE(0, 2), mid++, "held");
	bytes_path(&b, "msg");
	server_gets(f->a, &b);
	bytes_begin(&b, B_NON, CODE(0, 2), mid++, "held");
	bytes_path(&b, "msg");
	server_gets(f->a, &b);
	server_answers(f);
	read_all(f->a);

	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	for (uint32_t num = 0; num < 3; num++) {
		bytes_begin(&b, B_CON, CODE(0, 3), mid++, "up");
		bytes_path(&b, "store/up");
		bytes_block(&b, OPT_BLOCK1, num, num < 2, 6);
		bytes_payload(&b, body, num < 2 ? 1024 : 100);
		server_gets(f->a, &b);
	}
	reply_large(f);
	for (uint32_t num = 0; num < 3; num++) {
		bytes_begin(&b, B_CON, CODE(0, 1), mid++, "down");
		bytes_path(&b, "state");
		bytes_block(&b, OPT_BLOCK2, num, false, 6);
		server_gets(f->a, &b);
	}
	for (int i = 0; i < 3; i++) {
		f->done = i == 1 ? COAP_LATER : COAP_DONE;
		bytes_begin(&b, B_CON, CODE(0, 1), mid++, i == 0 ? "x" : i == 1 ? "y" : "z");
		bytes_number(&b, OPT_OBSERVE, 0);
		bytes_path(&b, "state");
		server_gets(f->a, &b);
		server_answers(f);
		read_all(f->a);
	}
	f->done = COAP_DONE;
	server_answers(f);
	server_answers(f);
	read_all(f->a);
	f->done = COAP_LATER;
	counting = true;
	fixture_run(f, 20 * US_PER_S);
	counting = false;
	server_answers(f);
	read_all(f->a);
}

static void scenario_that_fails_at(unsigned n, bool after)
{
	struct fixture *f = fixture_new();
	struct coap_seen seen;

	allocations = 0;
	fail_at = n;
	fail_after = after;
	scenario(f);
	fail_at = 0;

	/* There is memory again. */
	f->exchanges = 0;
	reply_large(f);
	fixture_run(f, 400 * US_PER_S);
	while (take(f->a) != NULL)
		continue;
	send_request(f->a, B_CON, CODE(0, 1), 2000, "again", "state", NULL);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(2, 5));
	reply_with(f, FG_COAP_CODE(2, 4), NULL);
	send_request(f->b, B_CON, CODE(0, 2), 2001, "again", "msg", "x");
	seen = expect(f->b);
	assert_int_equal(seen.code, CODE(2, 4));
	fixture_free(f);
}

static void test_every_allocation_may_fail(void **state)
{
	unsigned total;

	(void)state;
	scenario_that_fails_at(0, false);
	total = allocations;
	assert_in_range(total, 15, 10000);
	for (unsigned n = 1; n <= total; n++) {
		scenario_that_fails_at(n, false);
		scenario_that_fails_at(n, true);
	}
	print_message("%u allocations\n", total);
}

static void test_a_server_that_cannot_be_opened_says_so(void **state)
{
	struct fixture *f = fixture_new();
	unsigned n = 1;
	int rc = -ENOMEM;

	(void)state;
	for (; n < 100 && rc != 0; n++) {
		struct coap_server *s = NULL;

		allocations = 0;
		fail_at = n;
		fail_after = false;
		counting = true;
		rc = coap_server_open(&s, &fixture_options);
		counting = false;
		if (rc == 0)
			coap_server_close(s);
		else
			assert_int_equal(rc, -ENOMEM);
	}
	fail_at = 0;
	assert_in_range(n, 4, 20);
	fixture_free(f);
}

static void test_closing_frees_what_was_not_ended(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	scenario(f);
	f->a->peer = NULL;
	coap_server_close(f->server);
	assert_int_equal(coap_server_open(&f->server, &fixture_options), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_a_server_that_cannot_be_opened_says_so),
		cmocka_unit_test(test_closing_frees_what_was_not_ended),
	};

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)i;
	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
