/* SPDX-License-Identifier: Apache-2.0 */
/* A device's DTLS: handshakes with certificates and keys, what is refused and how that is said,
 * Connection ID over changed ports and saved sessions, and bad networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/posix/link_pki.h"
#include "tests/posix/link_world.h"

static const struct link_server_options usual = {.connection_id = true, .certificate = "server"};
static struct link_world world, *const w = &world;

static int tear_down(void **state)
{
	(void)state;
	link_world_free(w);
	return 0;
}

static void connect_usual(void)
{
	link_world_init(w, &usual);
	link_world_connect(w);
}

/* ---- handshakes */

static void test_an_anonymous_device_connects_with_connection_id_and_talks(void **state)
{
	(void)state;
	connect_usual();
	assert_true(w->connection.connection_id);
	assert_false(w->connection.resumed);
	link_world_echo(w, "hello");
	assert_int_equal(link_counters(w->link)->handshakes, 1);
	assert_int_equal(link_counters(w->link)->resumed, 0);
}

static void test_a_device_shows_its_certificate_when_the_server_asks_for_it(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.devices = "ca";
	link_world_init(w, &o);
	link_world_identify(w, "device");
	link_world_connect(w);
	link_world_echo(w, "hello");
}

static void test_a_device_connects_with_its_pre_shared_key(void **state)
{
	const struct link_server_options o = {.connection_id = true,
					      .psk = LINK_WORLD_PSK,
					      .suite = MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8};

	(void)state;
	link_world_init(w, &o);
	link_world_identify_psk(w, "psk-device", LINK_WORLD_PSK);
	w->config.trust = NULL;
	link_world_connect(w);
	assert_true(w->connection.connection_id);
	link_world_echo(w, "hello");
}

static void test_without_connection_id_on_either_side_there_is_none(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	link_world_init(w, &usual);
	w->config.connection_id = false;
	link_world_connect(w);
	assert_false(w->connection.connection_id);
	link_world_free(w);

	o.connection_id = false;
	link_world_init(w, &o);
	w->config.connection_id = true;
	link_world_connect(w);
	assert_false(w->connection.connection_id);
	link_world_echo(w, "hello");
}

static void test_a_name_is_looked_up_and_must_be_in_the_certificate(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->target.host = "localhost";
	link_world_connect(w);
}

static void test_a_chain_of_almost_4_kb_is_taken(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.certificate = "long";
	link_world_init(w, &o);
	link_world_connect(w);
}

static void test_old_modem_firmware_offers_cbc_only(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.suite = MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256;
	link_world_init(w, &o);
	w->config.only_cbc = true;
	link_world_connect(w);
	link_world_echo(w, "hello");
	link_close(w->link, true);
	assert_int_equal(link_open(w->link, &w->target, true), -ENOTCONN);
}

/* ---- refusals */

static void refused(const char *words)
{
	link_world_open(w, false);
	assert_int_equal(w->connections, 0);
	assert_int_equal(w->error, -EACCES);
	if (!strstr(w->reason, words) || strchr(w->reason, '\n'))
		fail_msg("\"%s\" does not say \"%s\" in one line", w->reason, words);
	assert_int_not_equal(w->reason[strlen(w->reason) - 1], ' ');
	assert_int_equal(link_counters(w->link)->failed, 1);
}

static void test_a_server_of_another_name_is_refused(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.certificate = "named";
	link_world_init(w, &o);
	refused("CN");
}

static void test_an_expired_server_is_refused(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.certificate = "expired";
	link_world_init(w, &o);
	refused("expired");
}

static void test_a_server_of_another_ca_is_refused(void **state)
{
	char error[200];

	(void)state;
	link_world_init(w, &usual);
	link_trust_free(w->trust);
	w->trust = link_trust_read(link_pki("strangers.pem"), error, sizeof(error));
	w->config.trust = w->trust;
	refused("not correctly signed");
}

static void test_a_device_that_the_server_does_not_know_is_told_so(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.devices = "ca";
	link_world_init(w, &o);
	link_world_identify(w, "stranger");
	refused("unknown_ca");
}

static void test_an_unknown_psk_identity_is_told(void **state)
{
	const struct link_server_options o = {.psk = LINK_WORLD_PSK};

	(void)state;
	link_world_init(w, &o);
	link_world_identify_psk(w, "nobody", LINK_WORLD_PSK);
	refused("unknown_psk_identity");
}

static void test_a_wrong_psk_is_told(void **state)
{
	const struct link_server_options o = {.psk = LINK_WORLD_PSK};

	(void)state;
	link_world_init(w, &o);
	link_world_identify_psk(w, "psk-device", "another key.....");
	refused("its key is not ours");
}

static void test_no_common_suite_is_told(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.suite = MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256;
	link_world_init(w, &o);
	refused("handshake_failure");
}

static void test_a_server_that_is_not_there_is_told(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	link_server_free(w->server);
	w->server = NULL;
	link_world_open(w, false);
	assert_int_equal(w->error, -ECONNREFUSED);
}

static void test_a_server_that_is_silent_is_given_up_after_the_retransmissions(void **state)
{
	const struct link_impairment all_lost = {.loss = 1};
	int64_t took_us;

	(void)state;
	link_world_init(w, &usual);
	w->config.impairment = &all_lost;
	w->config.handshake_min_ms = 50;
	w->config.handshake_max_ms = 200;
	took_us = -loop_now_us(w->loop);
	link_world_open(w, false);
	took_us += loop_now_us(w->loop);
	assert_int_equal(w->error, -ETIMEDOUT);
	assert_int_equal(link_counters(w->link)->sent, 3); /* at 0, 50 and 150 ms */
	assert_in_range(took_us, 350000, 3000000);
	assert_int_equal(link_counters(w->link)->dropped, 3);
}

static void test_a_name_that_does_not_exist_is_told_with_the_name(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->target.host = "nowhere.invalid";
	link_world_open(w, false);
	assert_int_equal(w->error, -EHOSTUNREACH);
	assert_non_null(strstr(w->reason, "nowhere.invalid"));
}

/* ---- the session */

static bool was_disconnected(const struct link_world *x)
{
	return x->disconnections > 0;
}

static void test_the_servers_farewell_ends_the_connection(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_server_close_last(w->server);
	link_world_until(w, was_disconnected);
	assert_int_equal(w->error, -ECONNRESET);
	assert_int_equal(link_send(w->link, "x", 1), -ENOTCONN);
}

static void test_the_farewell_of_a_closed_link_reaches_the_server(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_close(w->link, false);
	link_world_pass(w, 20);
	assert_int_equal(w->disconnections, 0);
	assert_int_equal(link_server_sessions(w->server), 0);
}

static void test_another_port_changes_nothing(void **state)
{
	uint16_t before;

	(void)state;
	connect_usual();
	link_world_echo(w, "before");
	before = link_server_peer(w->server);
	assert_int_equal(link_rebind(w->link), 0);
	link_world_echo(w, "after");
	assert_int_not_equal(link_server_peer(w->server), before);
	assert_int_equal(link_server_handshakes(w->server), 1);
}

static void test_a_kept_session_goes_on_from_another_port_without_handshake(void **state)
{
	(void)state;
	connect_usual();
	for (int i = 0; i < 3; i++) {
		link_world_echo(w, "awake");
		link_close(w->link, true);
		assert_int_equal(link_send(w->link, "x", 1), -ENOTCONN);
		link_world_open(w, true);
		assert_int_equal(w->connections, 1);
		assert_true(w->connection.resumed);
		assert_true(w->connection.connection_id);
	}
	link_world_echo(w, "awake");
	assert_int_equal(link_server_handshakes(w->server), 1);
}

static void test_what_was_not_kept_cannot_be_resumed(void **state)
{
	struct fg_target elsewhere;

	(void)state;
	connect_usual();
	link_close(w->link, false);
	assert_int_equal(link_open(w->link, &w->target, true), -ENOTCONN);
	link_world_connect(w);
	link_close(w->link, true);
	elsewhere = w->target;
	elsewhere.port++;
	assert_int_equal(link_open(w->link, &elsewhere, true), -ENOTCONN);
	link_close(w->link, false);
	assert_int_equal(link_open(w->link, &w->target, true), -ENOTCONN);
}

static void test_without_connection_id_the_next_handshake_is_abbreviated(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.connection_id = false;
	o.tickets = true;
	link_world_init(w, &o);
	link_world_connect(w);
	link_world_echo(w, "first");
	link_close(w->link, true);
	assert_int_equal(link_open(w->link, &w->target, true), -ENOTCONN);
	link_world_connect(w);
	assert_false(w->connection.resumed);
	link_world_echo(w, "second");
	assert_int_equal(link_counters(w->link)->handshakes, 2);
	assert_int_equal(link_counters(w->link)->resumed, 1);
}

static void test_a_port_that_nobody_hears_at_does_not_end_a_session(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_server_free(w->server);
	w->server = NULL;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(link_send(w->link, "anyone?", 7), 0);
		link_world_pass(w, 5);
	}
	assert_int_equal(w->disconnections, 0);
}

/* The socket has an error by then, which it tells instead of sending. */
static void test_what_is_sent_after_an_unreachable_port_is_sent(void **state)
{
	struct sockaddr_in here = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char datagram[200];
	int fd;

	(void)state;
	connect_usual();
	link_server_free(w->server);
	w->server = NULL;
	assert_int_equal(link_send(w->link, "lost", 4), 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	here.sin_port = htons(w->target.port);
	assert_int_equal(bind(fd, (const struct sockaddr *)&here, sizeof(here)), 0);
	assert_int_equal(link_send(w->link, "sent", 4), 0);
	assert_true(recv(fd, datagram, sizeof(datagram), 0) > 0);
	close(fd);
}

static void test_records_that_are_not_the_servers_are_ignored(void **state)
{
	/* An alert close_notify: in the clear, and as a record with keys that are nobody's. */
	static const uint8_t plain[] = {21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0};
	static const uint8_t keyed[] = {21, 254, 253, 0, 1, 0, 0,  0, 0, 0,  9, 0, 26,
					1,  2,	 3,   4, 5, 6, 7,  8, 9, 10, 1, 2, 3,
					4,  5,	 6,   7, 8, 9, 10, 1, 2, 3,  4, 5, 6};

	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_server_send_raw(w->server, plain, sizeof(plain));
	link_server_send_raw(w->server, keyed, sizeof(keyed));
	link_server_send_raw(w->server, "x", 1);
	link_world_echo(w, "still here");
	assert_int_equal(w->disconnections, 0);
}

static void test_what_does_not_fit_in_a_datagram_is_not_sent(void **state)
{
	static char message[1300];

	(void)state;
	connect_usual();
	memset(message, 'm', sizeof(message));
	assert_int_equal(link_send(w->link, message, sizeof(message)), -EMSGSIZE);
	message[1152] = '\0'; /* RFC 7252, section 4.6 */
	link_world_echo(w, message);
}

/* ---- bad networks */

static void test_a_handshake_gets_through_loss_duplication_and_reordering(void **state)
{
	static struct link_impairment bad = {.loss = 0.2, .duplicate = 0.2, .jitter_ms = 20};

	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		bad.seed = seed;
		link_world_init(w, &usual);
		w->config.impairment = &bad;
		w->config.handshake_min_ms = 50;
		link_world_connect(w);
		if (seed < 5)
			link_world_free(w);
	}
}

static void test_delay_is_waited_out_and_the_farewell_still_leaves(void **state)
{
	static const struct link_impairment slow = {.delay_ms = 30};
	int64_t begun;

	(void)state;
	link_world_init(w, &usual);
	w->config.impairment = &slow;
	link_world_connect(w);
	begun = loop_now_us(w->loop);
	link_world_echo(w, "hello");
	assert_true(loop_now_us(w->loop) - begun >= 60000);
	link_close(w->link, false);
	link_world_pass(w, 10);
	assert_int_equal(link_server_sessions(w->server), 1);
	link_world_pass(w, 60);
	assert_int_equal(link_server_sessions(w->server), 0);
}

static void test_doubled_datagrams_are_received_once(void **state)
{
	static const struct link_impairment doubled = {.duplicate = 1};
	uint64_t before;

	(void)state;
	link_world_init(w, &usual);
	w->config.impairment = &doubled;
	link_world_connect(w);
	before = link_counters(w->link)->received;
	link_world_echo(w, "hello");
	assert_int_equal(link_counters(w->link)->received - before, 2);
	link_world_pass(w, 20);
	assert_int_equal(link_server_messages(w->server), 1);
	assert_int_equal(w->messages, 1);
}

static void test_nothing_passes_a_cut_and_everything_does_afterwards(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	w->messages = 0;
	link_set_cut(w->link, true);
	assert_int_equal(link_send(w->link, "lost", 4), 0);
	link_server_send(w->server, "lost too", 8);
	link_world_pass(w, 20);
	assert_int_equal(w->messages, 0);
	assert_int_equal(link_server_messages(w->server), 1);
	link_set_cut(w->link, false);
	link_world_echo(w, "back");
	assert_int_equal(link_server_handshakes(w->server), 1);
}

/* ---- owners */

static void free_link(struct link_world *x)
{
	link_free(x->link);
	x->link = NULL;
}

static void close_link(struct link_world *x)
{
	link_close(x->link, false);
}

static void test_a_link_may_be_freed_or_closed_in_each_of_its_callbacks(void **state)
{
	void (*const deeds[])(struct link_world *) = {free_link, close_link};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		link_world_init(w, &usual);
		w->when_connected = deeds[i];
		link_world_connect(w);
		link_world_pass(w, 10);
		link_free(w->link);
		w->link = NULL;
		w->when_connected = NULL;

		w->when_received = deeds[i];
		link_world_connect(w);
		link_world_echo(w, "hello");
		link_world_pass(w, 10);
		link_free(w->link);
		w->link = NULL;

		w->when_disconnected = deeds[i];
		w->target.host = "nowhere.invalid";
		link_world_open(w, false);
		link_world_pass(w, 10);
		assert_int_equal(w->disconnections, 1);
		if (i == 0)
			link_world_free(w);
	}
}

static void test_a_link_that_was_closed_is_silent(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->link = link_new(&w->config);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(link_open(w->link, &w->target, false), 0);
		assert_int_equal(link_open(w->link, &w->target, false), -EALREADY);
		link_world_pass(w, i / 2); /* at each point of the handshake */
		w->connections = 0;
		link_close(w->link, false);
		link_world_pass(w, 2);
		assert_int_equal(w->connections + w->disconnections, 0);
	}
	link_world_connect(w);
	link_close(w->link, true);
	assert_int_equal(link_open(w->link, &w->target, true), 0);
	link_close(w->link, true);
	w->connections = 0;
	link_world_pass(w, 10);
	assert_int_equal(w->connections + w->disconnections, 0);
	link_world_open(w, true);
	link_world_echo(w, "it was kept");
}

/* ---- credentials */

static void unusable(struct link_identity *i, const char *error, const char *words)
{
	assert_null(i);
	if (!strstr(error, words) || strchr(error, '\n'))
		fail_msg("\"%s\" does not say \"%s\" in one line", error, words);
}

static void test_credentials_that_cannot_be_used_are_named(void **state)
{
	char error[200];

	(void)state;
	link_world_init(w, &usual);
	assert_null(link_trust_read("/nonexistent/ca.pem", error, sizeof(error)));
	assert_string_equal(error,
			    "/nonexistent/ca.pem: cannot be read: No such file or directory");
	assert_null(link_trust_read(link_pki("ca.key"), error, sizeof(error)));
	assert_non_null(strstr(error, "ca.key: "));
	unusable(link_identity_certificate(link_pki("device.pem"), link_pki("stranger.key"), error,
					   sizeof(error)),
		 error, "not the key of");
	unusable(link_identity_certificate(link_pki("device.pem"), link_pki("device.pem"), error,
					   sizeof(error)),
		 error, "device.pem: not usable");
	unusable(link_identity_psk("x", 1, "", 0, error, sizeof(error)), error, "1 to 64 bytes");
	w->config.trust = NULL;
	assert_null(link_new(&w->config));
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_anonymous_device_connects_with_connection_id_and_talks),
		TEST(test_a_device_shows_its_certificate_when_the_server_asks_for_it),
		TEST(test_a_device_connects_with_its_pre_shared_key),
		TEST(test_without_connection_id_on_either_side_there_is_none),
		TEST(test_a_name_is_looked_up_and_must_be_in_the_certificate),
		TEST(test_a_chain_of_almost_4_kb_is_taken),
		TEST(test_old_modem_firmware_offers_cbc_only),
		TEST(test_a_server_of_another_name_is_refused),
		TEST(test_an_expired_server_is_refused),
		TEST(test_a_server_of_another_ca_is_refused),
		TEST(test_a_device_that_the_server_does_not_know_is_told_so),
		TEST(test_an_unknown_psk_identity_is_told),
		TEST(test_a_wrong_psk_is_told),
		TEST(test_no_common_suite_is_told),
		TEST(test_a_server_that_is_not_there_is_told),
		TEST(test_a_server_that_is_silent_is_given_up_after_the_retransmissions),
		TEST(test_a_name_that_does_not_exist_is_told_with_the_name),
		TEST(test_the_servers_farewell_ends_the_connection),
		TEST(test_the_farewell_of_a_closed_link_reaches_the_server),
		TEST(test_another_port_changes_nothing),
		TEST(test_a_kept_session_goes_on_from_another_port_without_handshake),
		TEST(test_what_was_not_kept_cannot_be_resumed),
		TEST(test_without_connection_id_the_next_handshake_is_abbreviated),
		TEST(test_a_port_that_nobody_hears_at_does_not_end_a_session),
		TEST(test_what_is_sent_after_an_unreachable_port_is_sent),
		TEST(test_records_that_are_not_the_servers_are_ignored),
		TEST(test_what_does_not_fit_in_a_datagram_is_not_sent),
		TEST(test_a_handshake_gets_through_loss_duplication_and_reordering),
		TEST(test_delay_is_waited_out_and_the_farewell_still_leaves),
		TEST(test_doubled_datagrams_are_received_once),
		TEST(test_nothing_passes_a_cut_and_everything_does_afterwards),
		TEST(test_a_link_may_be_freed_or_closed_in_each_of_its_callbacks),
		TEST(test_a_link_that_was_closed_is_silent),
		TEST(test_credentials_that_cannot_be_used_are_named),
	};

	return cmocka_run_group_tests_name("link_datagrams", tests, NULL, NULL);
}
