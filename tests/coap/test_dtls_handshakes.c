/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/dtls: handshakes on a bad network, against floods, within their limits and times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/record.h"
#include "tests/coap/dtls_world.h"

static struct dtls_stats stats_of(const struct world *w)
{
	struct dtls_stats s;

	world_stats(w, &s);
	return s;
}

/* --- The network --- */

struct bad_network {
	uint32_t random;
	unsigned percent;
	bool reorder;
	struct world_client *held_for; /* the datagram that waits for the next one */
	bool held_to_server;
	struct world_datagram held;
	bool inside;
};

static unsigned draw(struct bad_network *n)
{
	n->random = n->random * 1664525 + 1013904223;
	return n->random >> 16;
}

static void release(struct world *w, struct bad_network *n)
{
	struct world_client *c = n->held_for;

	n->held_for = NULL;
	n->inside = true;
	if (c && n->held_to_server)
		world_inject(w, &c->address, n->held.bytes, n->held.len);
	else if (c)
		dtls_peer_deliver(c->peer, n->held.bytes, n->held.len);
	n->inside = false;
}

/* Loses, repeats and reorders; to the same client and from it. */
static bool bad(struct world *w, struct world_client *c, bool to_server, const uint8_t *data,
		size_t len)
{
	struct bad_network *n = w->arg;

	if (draw(n) % 100 < n->percent)
		return false;
	if (n->inside || !n->reorder)
		return true;
	if (!n->held_for && draw(n) % 3 == 0) {
		n->held_for = c;
		n->held_to_server = to_server;
		memcpy(n->held.bytes, data, len);
		n->held.len = len;
		return false;
	}
	/* The held one comes behind this one; a client's inside the endpoint's answer must wait. */
	if (n->held_for && !(n->held_to_server && !to_server) && draw(n) % 2 == 0) {
		if (to_server)
			world_inject(w, &c->address, data, len);
		else
			dtls_peer_deliver(c->peer, data, len);
		release(w, n);
		return false;
	}
	return true;
}

/* A client that has sent a flight six times gives up, and its device begins again. */
static int handshake_with_patience(struct world_client *c)
{
	int ret = world_handshake_for(c, 100);

	for (int i = 0; ret != 0 && i < 3; i++) {
		world_client_again(c);
		ret = world_handshake_for(c, 100);
	}
	return ret;
}

static void check_bad_network(struct world *w, enum world_kind kind, bool cid, uint32_t seed)
{
	struct bad_network *n = test_calloc(1, sizeof(*n));
	struct world_client *c;

	n->random = seed;
	n->percent = 30;
	n->reorder = true;
	w->options.handshake_timeout_us = 600 * US_PER_S;
	world_open(w);
	for (int i = 0; i < 20; i++) {
		c = world_client(w, kind, cid);
		w->passes = bad;
		w->arg = n;
		n->held_for = NULL;
		assert_int_equal(handshake_with_patience(c), 0);
		w->passes = NULL;
		world_check_echo(c, "x");
		world_client_free(c);
	}
	test_free(n);
}

static void test_certificate_handshakes_over_a_network_that_loses_and_reorders(void **state)
{
	check_bad_network(*state, WORLD_CERTIFICATE, true, 1);
}

static void test_client_certificate_handshakes_over_such_a_network(void **state)
{
	check_bad_network(*state, WORLD_CLIENT_CERTIFICATE, true, 2);
}

static void test_psk_handshakes_over_such_a_network_without_cid(void **state)
{
	check_bad_network(*state, WORLD_PSK_CLIENT, false, 3);
}

/* Loses what the endpoint sends from the n-th datagram on, as long as arg says. */
struct outage {
	size_t from, to, seen;
};

static bool to_client_but_not_in_outage(struct world *w, struct world_client *c, bool to_server,
					const uint8_t *data, size_t len)
{
	struct outage *o = w->arg;

	(void)c;
	(void)data;
	(void)len;
	if (to_server)
		return true;
	o->seen++;
	return o->seen < o->from || o->seen > o->to;
}

static void check_lost_last_flight(struct world *w, bool cid)
{
	static struct outage o;
	struct world_client *c;

	o = (struct outage){.from = 3, .to = 3}; /* cookie, flight, [Finished] */
	world_open(w);
	c = world_client(w, WORLD_PSK_CLIENT, cid);
	w->passes = to_client_but_not_in_outage;
	w->arg = &o;
	assert_int_equal(world_handshake(c), MBEDTLS_ERR_SSL_WANT_READ);
	assert_int_equal(w->opened_count, 1);
	assert_int_equal(world_handshake_for(c, 2), 0);
	assert_int_equal(w->opened_count, 1);
	world_check_echo(c, "x");
}

static void test_established_session_repeats_its_finished(void **state)
{
	check_lost_last_flight(*state, true);
}

static void test_established_session_without_cid_repeats_its_finished(void **state)
{
	check_lost_last_flight(*state, false);
}

static void test_server_repeats_its_flight_by_its_own_timer(void **state)
{
	struct world *w = *state;
	struct outage o = {.from = 2, .to = 100};
	struct world_client *c;
	size_t answers;

	world_open(w);
	c = world_client(w, WORLD_PSK_CLIENT, true);
	w->passes = to_client_but_not_in_outage;
	w->arg = &o;
	assert_int_equal(dtls_peer_handshake(c->peer), MBEDTLS_ERR_SSL_WANT_READ);
	answers = w->out_count;
	world_wait(w, 900 * US_PER_MS);
	assert_int_equal(w->out_count, answers);
	world_wait(w, 200 * US_PER_MS);
	assert_int_equal(w->out_count, answers + 1);
	world_wait(w, 1500 * US_PER_MS);
	assert_int_equal(w->out_count, answers + 1);
	world_wait(w, 600 * US_PER_MS);
	assert_int_equal(w->out_count, answers + 2);
}

static void test_tick_says_when_it_must_be_called_again(void **state)
{
	struct world *w = *state;
	struct outage o = {.from = 2, .to = 100};
	struct world_client *c;

	world_open(w);
	assert_true(dtls_tick(w->endpoint) == INT64_MAX);
	c = world_client(w, WORLD_PSK_CLIENT, true);
	w->passes = to_client_but_not_in_outage;
	w->arg = &o;
	assert_int_equal(dtls_peer_handshake(c->peer), MBEDTLS_ERR_SSL_WANT_READ);
	assert_int_equal(dtls_tick(w->endpoint), world_now_us() + US_PER_S);
}

static void test_handshake_in_small_fragments(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	/* The first fragment must hold the cookie. */
	o.mtu = 150;
	world_open(w);
	c = world_client_with(w, &o);
	assert_int_equal(world_handshake(c), 0);
	world_check_echo(c, "x");
	assert_true(c->sent > 8); /* five otherwise */
}

static void test_fragments_that_come_in_the_wrong_order(void **state)
{
	struct world *w = *state;
	struct bad_network n = {.random = 5, .percent = 10, .reorder = true};
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	o.mtu = 200;
	world_open(w);
	c = world_client_with(w, &o);
	w->passes = bad;
	w->arg = &n;
	assert_int_equal(world_handshake_for(c, 50), 0);
}

static void test_flights_fit_ipv6s_least_mtu(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	w->options.certificate_file = world_file("long.pem");
	w->options.key_file = world_file("long.key");
	world_open(w);
	c = world_connect(w, WORLD_CLIENT_CERTIFICATE, true);
	assert_in_range(w->out_longest, 1000, 1232);
	assert_true(w->out_bytes > 2000);
	world_check_echo(c, "x");
}

static bool slow(struct world *w, struct world_client *c, bool to_server, const uint8_t *data,
		 size_t len)
{
	(void)w;
	(void)c;
	(void)data;
	(void)len;
	if (to_server)
		world_wait_clock(3 * US_PER_S);
	return true;
}

static void test_record_that_comes_late_is_read_before_anything_is_sent_again(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_client(w, WORLD_PSK_CLIENT, true);
	w->passes = slow; /* the server's timer has expired when the answer comes */
	world_handshake(c);
	assert_int_equal(w->opened_count, 1);
	assert_int_equal(w->out_count, 3); /* cookie, flight, Finished */
}

static void test_longest_message_goes_both_ways(void **state)
{
	struct world *w = *state;
	char text[DTLS_PLAINTEXT_MAX + 2];
	struct world_client *c;

	memset(text, 'x', sizeof(text));
	text[DTLS_PLAINTEXT_MAX] = '\0';
	world_open(w);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, text);
	assert_int_equal(dtls_send(w->spoke, (const uint8_t *)text, DTLS_PLAINTEXT_MAX + 1),
			 -EMSGSIZE);
}

/* --- Floods --- */

/* A ClientHello as c would send it, without cookie, from any port. */
static struct world_datagram first_hello(struct world_client *c)
{
	c->mute = true;
	assert_int_equal(dtls_peer_handshake(c->peer), MBEDTLS_ERR_SSL_WANT_READ);
	c->mute = false;
	return *world_sent(c, 0);
}

static void test_ten_thousand_hellos_without_cookie_take_no_memory(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	struct world_datagram hello;
	struct dtls_stats s;
	size_t before;

	world_open(w);
	world_check_echo(world_connect(w, WORLD_CERTIFICATE, true), "x"); /* all is warm */
	hello = first_hello(world_client(w, WORLD_CERTIFICATE, true));
	before = mallinfo2().uordblks;
	for (unsigned i = 0; i < 10000; i++) {
		struct address from = world_address((uint16_t)(1 + i % 30000));

		from.ip[14] = (uint8_t)(i >> 8);
		random_bytes(hello.bytes + 27, 32);
		world_inject(w, &from, hello.bytes, hello.len);
	}
	assert_int_equal(mallinfo2().uordblks, before);
	s = stats_of(w);
	assert_int_equal(s.cookies_sent, 10001);
	assert_int_equal(s.handshaking, 0);
	assert_int_equal(s.handshakes_begun, 1);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, "me");
}

static void test_answer_to_a_hello_is_no_longer_than_the_hello(void **state)
{
	struct world *w = *state;
	struct world_datagram hello;
	struct address from = world_address(9);

	world_open(w);
	hello = first_hello(world_client(w, WORLD_PSK_CLIENT, true));
	w->out_bytes = 0;
	world_inject(w, &from, hello.bytes, hello.len);
	assert_in_range(w->out_bytes, 1, hello.len);
}

/* A client whose handshake is begun and goes no further. */
static struct world_client *half_open(struct world *w)
{
	struct world_client *c = world_client(w, WORLD_PSK_CLIENT, true);
	static struct outage o;

	o = (struct outage){.from = 2, .to = 100};
	w->passes = to_client_but_not_in_outage;
	w->arg = &o;
	assert_int_equal(dtls_peer_handshake(c->peer), MBEDTLS_ERR_SSL_WANT_READ);
	w->passes = NULL;
	return c;
}

static void test_cookie_of_another_address_begins_nothing(void **state)
{
	struct world *w = *state;
	struct address thief = world_address(9);
	struct world_client *c;

	world_open(w);
	c = half_open(w);
	assert_int_equal(stats_of(w).handshakes_begun, 1);
	world_inject(w, &thief, world_sent(c, 0)->bytes, world_sent(c, 0)->len);
	assert_int_equal(stats_of(w).handshakes_begun, 1);
}

static void test_half_open_handshakes_are_bounded_and_the_oldest_go_first(void **state)
{
	struct world *w = *state;
	struct world_client *oldest, *last = NULL, *c;

	w->options.max_handshakes = 16;
	world_open(w);
	oldest = half_open(w);
	for (int i = 0; i < 100; i++)
		last = half_open(w);
	assert_int_equal(stats_of(w).handshaking, 16);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, "x");
	assert_int_equal(world_handshake_for(last, 3), 0);
	/* The oldest sends its hello again, and is let in. */
	assert_int_equal(world_handshake_for(oldest, 3), 0);
}

static void test_half_open_handshake_ends_at_its_time(void **state)
{
	struct world *w = *state;

	world_open(w);
	half_open(w);
	for (int i = 0; i < 59; i++)
		world_wait(w, US_PER_S);
	assert_int_equal(stats_of(w).handshaking, 1);
	world_wait(w, 2 * US_PER_S);
	assert_int_equal(stats_of(w).handshaking, 0);
	assert_int_equal(stats_of(w).handshakes_failed, 1);
	assert_int_equal(w->closed_count, 0);
}

static void test_source_may_begin_so_many_handshakes_in_a_minute(void **state)
{
	struct world *w = *state;
	struct world_client *other;

	w->options.handshakes_per_source = 5;
	world_open(w);
	while (world_now_us() % (60 * US_PER_S) != 0)
		world_wait(w, 60 * US_PER_S - world_now_us() % (60 * US_PER_S));
	for (int i = 0; i < 8; i++)
		half_open(w);
	assert_int_equal(stats_of(w).handshaking, 5);
	assert_int_equal(stats_of(w).limited, 3);

	other = world_client(w, WORLD_PSK_CLIENT, true);
	other->address.ip[15] = 99;
	assert_int_equal(world_handshake(other), 0);

	world_wait(w, 60 * US_PER_S);
	half_open(w);
	assert_int_equal(stats_of(w).limited, 3);
}

static void test_no_handshake_is_begun_beyond_max_sessions(void **state)
{
	struct world *w = *state;
	struct world_client *c, *one_more;

	w->options.max_sessions = 3;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	world_connect(w, WORLD_PSK_CLIENT, true);
	world_connect(w, WORLD_PSK_CLIENT, true);
	one_more = world_client(w, WORLD_PSK_CLIENT, true);
	assert_int_equal(world_handshake(one_more), MBEDTLS_ERR_SSL_WANT_READ);
	assert_int_equal(stats_of(w).limited, 1);
	dtls_end(w->spoke, false, "room");
	assert_int_equal(world_handshake_for(one_more, 3), 0);
}

/* --- Times --- */

static void wait_by_steps(struct world *w, int64_t us)
{
	for (; us > 0; us -= US_PER_S)
		world_wait(w, US_PER_S);
}

static void test_silent_session_is_told_that_it_ends(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	uint8_t byte;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	wait_by_steps(w, 29 * US_PER_S);
	assert_int_equal(w->closed_count, 0);
	wait_by_steps(w, 2 * US_PER_S);
	assert_int_equal(w->closed_count, 1);
	assert_int_equal(dtls_peer_read(c->peer, &byte, 1), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
}

static void test_session_that_does_not_say_who_it_is_ends(void **state)
{
	struct world *w = *state;
	struct dtls_identity who = {.id = "device-jwt"};
	struct world_client *a, *b;

	world_open(w);
	a = world_connect(w, WORLD_CERTIFICATE, true);
	b = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(b, "b");
	assert_int_equal(dtls_identify(w->spoke, &who), 0);
	world_check_echo(a, "a");
	wait_by_steps(w, 59 * US_PER_S);
	assert_int_equal(w->closed_count, 0);
	wait_by_steps(w, 2 * US_PER_S);
	assert_int_equal(w->closed_count, 1);
	world_check_echo(b, "b");
	wait_by_steps(w, 600 * US_PER_S);
	world_check_echo(b, "b");
}

static void check_idle(struct world *w, bool cid, int64_t limit_us)
{
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, cid);
	world_check_echo(c, "x");
	world_wait(w, limit_us - 20 * US_PER_S);
	wait_by_steps(w, 18 * US_PER_S);
	assert_int_equal(w->closed_count, 0);
	world_check_echo(c, "x");
	world_wait(w, limit_us - 20 * US_PER_S);
	wait_by_steps(w, 18 * US_PER_S);
	assert_int_equal(w->closed_count, 0);
	wait_by_steps(w, 20 * US_PER_S);
	assert_int_equal(w->closed_count, 1);
	assert_int_equal(stats_of(w).sessions, 0);
}

static void test_idle_session_with_cid_ends(void **state)
{
	check_idle(*state, true, 30 * US_PER_DAY);
}

static void test_idle_session_without_cid_ends(void **state)
{
	check_idle(*state, false, 3600 * US_PER_S);
}

static void test_old_session_ends_and_its_device_is_told(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	uint8_t byte;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	for (int i = 0; i < 36; i++) {
		world_check_echo(c, "x");
		world_wait(w, 10 * US_PER_DAY);
	}
	assert_int_equal(w->closed_count, 0);
	world_check_echo(c, "x");
	world_wait(w, 6 * US_PER_DAY);
	assert_int_equal(w->closed_count, 1);
	assert_int_equal(dtls_peer_read(c->peer, &byte, 1), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
}

/* --- Suites --- */

static void test_handshake_without_a_common_suite_fails_with_an_alert(void **state)
{
	static const int other[] = {MBEDTLS_TLS_PSK_WITH_AES_256_CCM, 0};
	struct world *w = *state;
	struct dtls_peer_options o;

	world_client_options(w, WORLD_PSK_CLIENT, true, &o);
	o.suites = other;
	world_open(w);
	assert_int_equal(world_handshake(world_client_with(w, &o)),
			 MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
	assert_int_equal(stats_of(w).handshaking, 0);
}

static void test_cbc_only_when_it_is_switched_on(void **state)
{
	static const int cbc[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CBC_SHA256, 0};
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_PSK_CLIENT, true, &o);
	o.suites = cbc;
	world_open(w);
	assert_int_not_equal(world_handshake(world_client_with(w, &o)), 0);
	dtls_close(w->endpoint);
	w->options.legacy_cbc = true;
	world_open(w);
	c = world_client_with(w, &o);
	assert_int_equal(world_handshake(c), 0);
	world_check_echo(c, "x");
	world_client_move(c);
	world_check_echo(c, "y");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_certificate_handshakes_over_a_network_that_loses_and_reorders),
		TEST(test_client_certificate_handshakes_over_such_a_network),
		TEST(test_psk_handshakes_over_such_a_network_without_cid),
		TEST(test_established_session_repeats_its_finished),
		TEST(test_established_session_without_cid_repeats_its_finished),
		TEST(test_server_repeats_its_flight_by_its_own_timer),
		TEST(test_tick_says_when_it_must_be_called_again),
		TEST(test_handshake_in_small_fragments),
		TEST(test_fragments_that_come_in_the_wrong_order),
		TEST(test_flights_fit_ipv6s_least_mtu),
		TEST(test_record_that_comes_late_is_read_before_anything_is_sent_again),
		TEST(test_longest_message_goes_both_ways),
		TEST(test_ten_thousand_hellos_without_cookie_take_no_memory),
		TEST(test_answer_to_a_hello_is_no_longer_than_the_hello),
		TEST(test_cookie_of_another_address_begins_nothing),
		TEST(test_half_open_handshakes_are_bounded_and_the_oldest_go_first),
		TEST(test_half_open_handshake_ends_at_its_time),
		TEST(test_source_may_begin_so_many_handshakes_in_a_minute),
		TEST(test_no_handshake_is_begun_beyond_max_sessions),
		TEST(test_silent_session_is_told_that_it_ends),
		TEST(test_session_that_does_not_say_who_it_is_ends),
		TEST(test_idle_session_with_cid_ends),
		TEST(test_idle_session_without_cid_ends),
		TEST(test_old_session_ends_and_its_device_is_told),
		TEST(test_handshake_without_a_common_suite_fails_with_an_alert),
		TEST(test_cbc_only_when_it_is_switched_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
