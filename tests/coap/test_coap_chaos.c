/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/coap: whatever devices send, whatever handlers do and wherever sessions end, in any
 * order: nothing is used that is gone (the address sanitizer looks), and nothing is left over. The
 * order is drawn from numbers that are the same in every run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

#define SEEDS	 1000
#define STEPS	 400
#define SESSIONS 4
#define LATE_MAX 256

struct chaos {
	struct fixture *f;
	uint64_t random;
	struct session *session[SESSIONS]; /* ids below 100 are known */
	bool ended[SESSIONS];
	uint64_t next_id, ticket;
	struct coap_exchange *late[LATE_MAX];
	size_t late_count;
	uint16_t last_mid[SESSIONS]; /* of what it was sent */
};

static struct chaos *now;
static uint8_t big[5000];

static unsigned draw(unsigned below)
{
	now->random = now->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(now->random >> 33) % below;
}

static size_t index_of(const void *session)
{
	for (size_t i = 0; i < SESSIONS; i++)
		if (now->session[i] == session)
			return i;
	fail_msg("something of a session that is gone");
	return 0;
}

static void end(size_t i)
{
	coap_server_forget(now->f->server, &now->session[i]->peer);
	now->ended[i] = true;
}

static bool known(void *arg, void *session)
{
	(void)arg;
	return now->session[index_of(session)]->id < 100;
}

static int send_or_end(void *arg, void *session, const uint8_t *data, size_t len)
{
	size_t i = index_of(session);
	struct coap_seen seen;

	(void)arg;
	assert_false(now->ended[i]);
	assert_true(coap_see(&seen, data, len));
	now->last_mid[i] = seen.mid;
	if (draw(40) == 0)
		end(draw(4) == 0 ? draw(SESSIONS) : i);
	return now->ended[i] ? -1 : 0;
}

static bool admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	(void)arg, (void)method, (void)path;
	index_of(session);
	reply->code = FG_COAP_CODE(4, 29);
	return draw(20) != 0;
}

static struct coap_reply any_reply(void)
{
	static const char *const keys[] = {NULL, "k1", "k2"};
	struct coap_reply r = {.format = FG_COAP_FORMAT_NONE, .max_age_s = -1};

	r.code = draw(5) == 0 ? FG_COAP_CODE(4, 4) : FG_COAP_CODE(2, 5);
	r.payload = big;
	r.payload_len = draw(3) == 0 ? draw(sizeof(big)) : draw(20);
	r.observe_key = keys[draw(3)];
	if (draw(4) == 0) {
		r.hold = ++now->ticket;
		r.observe_key = NULL;
	}
	return r;
}

static enum coap_done handler(void *arg, const struct coap_call *call, struct coap_reply *reply,
			      struct coap_exchange *e)
{
	size_t i = index_of(call->session);

	(void)arg;
	for (size_t k = 0; k < call->payload_len; k++)
		assert_int_equal(call->payload[k], 'x');
	if (draw(30) == 0)
		end(i);
	*reply = any_reply();
	if (call->notification)
		reply->hold = 0;
	if (draw(2) == 0 || now->late_count == LATE_MAX)
		return COAP_DONE;
	now->late[now->late_count++] = e;
	return COAP_LATER;
}

static const struct coap_route routes[] = {
	{.path = "state", .methods = 0xff, .handler = handler, .observable = true},
	{.path = "store", .subtree = true, .methods = 0xff, .handler = handler, .observable = true},
};

static void request(size_t i)
{
	static const char *const tokens[] = {"", "a", "b"};
	static const char *const paths[] = {"state", "store/1", "store/2", "nowhere"};
	struct coap_bytes b;
	unsigned szx = draw(3);
	bool block1 = draw(3) == 0, more = draw(3) != 0;

	bytes_begin(&b, draw(4) == 0 ? B_NON : B_CON, CODE(0, 1 + draw(4)), (uint16_t)draw(40),
		    tokens[draw(3)]);
	if (draw(2) == 0)
		bytes_number(&b, OPT_OBSERVE, draw(2));
	bytes_path(&b, paths[draw(4)]);
	if (draw(4) == 0)
		bytes_block(&b, OPT_BLOCK2, draw(6), false, draw(7));
	if (block1)
		bytes_block(&b, OPT_BLOCK1, draw(3), more, szx);
	if (block1 || draw(3) == 0) {
		char payload[64];
		size_t len = block1 && more ? (size_t)16 << szx : 1 + draw(15);

		memset(payload, 'x', sizeof(payload));
		bytes_payload(&b, payload, len);
	}
	deliver(now->session[i], &b);
}

static void answer_one(void)
{
	size_t at;
	struct coap_exchange *e;
	struct coap_reply r = any_reply();

	if (now->late_count == 0)
		return;
	at = draw((unsigned)now->late_count);
	e = now->late[at];
	now->late[at] = now->late[--now->late_count];
	coap_server_answer(now->f->server, e, &r);
}

/* A session that has ended is another one afterwards. */
static void renew(size_t i)
{
	if (!now->ended[i])
		return;
	session_end(now->session[i]);
	now->session[i] =
		session_new_small(now->f, draw(3) == 0 ? 100 + now->next_id++ : draw(100));
	now->ended[i] = false;
}

static void step(void)
{
	size_t i = draw(SESSIONS);

	switch (draw(12)) {
	case 0:
		answer_one();
		break;
	case 1:
		coap_server_release(now->f->server, draw((unsigned)now->ticket + 2), draw(3) != 0);
		break;
	case 2:
		coap_server_changed(now->f->server, draw(2) ? "k1" : "k2");
		break;
	case 3:
		fixture_pass(draw(4) == 0 ? draw(300) * US_PER_S : draw(3000) * US_PER_MS);
		break;
	case 4:
		coap_server_tick(now->f->server);
		break;
	case 5:
	case 6:
		send_empty(now->session[i], draw(3) == 0 ? B_RST : B_ACK, now->last_mid[i]);
		break;
	case 7:
		if (draw(10) == 0)
			end(i);
		break;
	default:
		request(i);
	}
}

static void run(uint64_t seed)
{
	struct chaos c = {.random = seed};
	struct coap_server_stats st;

	now = &c;
	fixture_defaults();
	fixture_options.send = send_or_end;
	fixture_options.admit = admit;
	fixture_options.known = known;
	fixture_options.routes = routes;
	fixture_options.route_count = sizeof(routes) / sizeof(*routes);
	fixture_options.acknowledge_after_us = draw(2) * 500 * US_PER_MS;
	fixture_options.dedup_bytes = 4096;
	c.f = fixture_new();
	for (size_t i = 0; i < SESSIONS; i++)
		c.session[i] = session_new_small(c.f, 10 + i);
	for (unsigned n = 0; n < STEPS; n++) {
		for (size_t i = 0; i < SESSIONS; i++)
			renew(i);
		step();
	}
	while (c.late_count > 0 && seed % 2)
		answer_one();
	for (size_t i = 0; i < SESSIONS; i++) {
		if (!c.ended[i])
			end(i);
		session_end(c.session[i]);
	}
	st = stats_of(c.f);
	assert_int_equal(st.peers, 0);
	assert_int_equal(st.held, 0);
	assert_int_equal(st.observations, 0);
	assert_int_equal(st.transfers, 0);
	assert_int_equal(st.exchanges, c.late_count);
	fixture_free(c.f);
}

static void test_anything_in_any_order(void **state)
{
	const char *only = getenv("CHAOS_SEED");

	(void)state;
	memset(big, 'y', sizeof(big));
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(only ? strtoull(only, NULL, 10) : seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_anything_in_any_order)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
