/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/coap with very many sessions: one for which nothing is under way costs nothing, and a
 * message costs the same however many there are. Times are printed and not judged.
 *
 * LINK: -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coap-server/coap/server.h"
#include "core/base/clock.h"
#include "tests/coap/coap_bytes.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static size_t allocations;

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	allocations++;
	return __real_realloc(p, size);
}

static uint64_t hold;
static size_t sent;

static enum coap_done handler(void *arg, const struct coap_call *call, struct coap_reply *reply,
			      struct coap_exchange *e)
{
	(void)arg;
	(void)call;
	(void)e;
	reply->code = FG_COAP_CODE(2, 4);
	reply->hold = hold;
	return COAP_DONE;
}

static int count(void *arg, void *session, const uint8_t *data, size_t len)
{
	(void)arg;
	(void)session;
	(void)data;
	(void)len;
	sent++;
	return 0;
}

static const struct coap_route route = {
	.path = "msg/d2c", .methods = FG_COAP_METHOD(FG_COAP_POST), .handler = handler};

static struct coap_server *open_server(void)
{
	static const struct coap_server_options o = {
		.routes = &route,
		.route_count = 1,
		.send = count,
		.max_body = 65536,
		.max_transfers = 2,
		.max_transfers_all = 64,
		.max_exchanges = 64,
		.max_observations = 4,
		.dedup_per_session = 8,
		.dedup_bytes = 64 << 20,
	};
	struct coap_server *s;

	assert_int_equal(coap_server_open(&s, &o), 0);
	return s;
}

static int64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void post(struct coap_server *s, struct coap_peer **peer, uint64_t id, uint16_t mid)
{
	static struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 2), mid, "12345678");
	bytes_path(&b, "msg/d2c");
	bytes_number(&b, OPT_CONTENT_FORMAT, FG_COAP_CBOR);
	bytes_payload(&b, "0123456789012345678901234567890123456789", 40);
	coap_server_receive(s, peer, id, peer, b.data, b.len);
}

/* Each session in turn, several times; held: all answers wait for one ticket. */
static void posts(size_t sessions, bool held)
{
	enum { POSTS = 400000 };
	struct coap_server *s = open_server();
	struct coap_peer **peers = calloc(sessions, sizeof(struct coap_peer *));
	struct coap_server_stats st;
	int64_t from;

	assert_non_null(peers);
	sent = 0;
	for (size_t i = 0; i < sessions; i++)
		post(s, &peers[i], i + 1, 0);
	allocations = 0;
	from = cpu_ns();
	for (size_t i = 0; i < POSTS; i++) {
		hold = held ? i / 100 + 1 : 0;
		post(s, &peers[i % sessions], i % sessions + 1, (uint16_t)(1 + i / sessions));
		if (held && i % 100 == 99)
			coap_server_release(s, hold, true);
	}
	from = cpu_ns() - from;
	hold = 0;
	assert_int_equal(sent, sessions + POSTS);
	coap_server_stats(s, &st);
	assert_int_equal(st.peers, 0);
	assert_int_equal(st.repeats, 0);
	for (size_t i = 0; i < sessions; i++)
		assert_null(peers[i]);
	print_message("%6zu sessions, %s: %4ld ns a POST, %zu allocations, %zu bytes for repeats\n",
		      sessions, held ? "held    " : "answered", (long)(from / POSTS), allocations,
		      st.dedup_bytes);
	if (!held)
		assert_in_range(allocations, 0, 10);
	free(peers);
	coap_server_close(s);
}

static void test_a_post_costs_the_same_for_1000_and_100000_sessions(void **state)
{
	(void)state;
	posts(1000, false);
	posts(100000, false);
	posts(1000, true);
	posts(100000, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_post_costs_the_same_for_1000_and_100000_sessions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
