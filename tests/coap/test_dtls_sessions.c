/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/dtls: who a session belongs to, and what moves or ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "coap-server/dtls/record.h"
#include "tests/coap/dtls_world.h"

static struct dtls_stats stats_of(const struct world *w)
{
	struct dtls_stats s;

	world_stats(w, &s);
	return s;
}

/* --- Handshakes --- */

static void check_kind(struct world *w, enum world_kind kind, bool cid, const char *id)
{
	struct world_client *c;

	world_open(w);
	c = world_connect(w, kind, cid);
	assert_int_equal(w->opened_count, 1);
	assert_string_equal(dtls_session_identity(w->opened)->id, id);
	assert_int_equal(dtls_session_has_cid(w->opened), cid);
	world_check_echo(c, "one");
	world_check_echo(c, "two");
	assert_int_equal(stats_of(w).sessions, 1);
	assert_int_equal(stats_of(w).handshaking, 0);
}

static void test_server_certificate_with_cid(void **state)
{
	check_kind(*state, WORLD_CERTIFICATE, true, "");
}

static void test_server_certificate_without_cid(void **state)
{
	check_kind(*state, WORLD_CERTIFICATE, false, "");
}

static void test_psk_with_cid(void **state)
{
	check_kind(*state, WORLD_PSK_CLIENT, true, WORLD_PSK_IDENTITY);
}

static void test_psk_without_cid(void **state)
{
	check_kind(*state, WORLD_PSK_CLIENT, false, WORLD_PSK_IDENTITY);
}

static void test_client_certificate_with_cid(void **state)
{
	check_kind(*state, WORLD_CLIENT_CERTIFICATE, true, "device-crt");
}

static void test_client_certificate_without_cid(void **state)
{
	check_kind(*state, WORLD_CLIENT_CERTIFICATE, false, "device-crt");
}

/* Sessions move when the number of workers changes, and answers are kept under these ids. */
static void test_sessions_of_two_workers_never_have_one_id(void **state)
{
	struct world *w = *state;
	uint64_t id[2];

	for (unsigned n = 0; n < 2; n++) {
		w->options.worker = n;
		world_open(w);
		world_connect(w, WORLD_PSK_CLIENT, true);
		id[n] = dtls_session_id(w->opened);
		dtls_close(w->endpoint);
		w->endpoint = NULL;
	}
	assert_true(id[0] != id[1]);
}

static void test_cid_begins_with_the_worker(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_say(c, "x");
	assert_int_equal(world_sent(c, 0)->bytes[0], RECORD_CID);
	assert_int_equal(world_sent(c, 0)->bytes[11], 7);
}

/* --- Addresses --- */

/* A record that the client made, and that has not arrived. */
static struct world_datagram hold(struct world_client *c, const char *text)
{
	c->mute = true;
	world_say(c, text);
	c->mute = false;
	return *world_sent(c, 0);
}

static void check_is_at(struct dtls_session *s, const struct address *a)
{
	assert_true(address_equal(dtls_session_address(s), a));
}

/* Parked by two others that speak. */
static void park_others(struct world *w)
{
	struct world_client *a = world_connect(w, WORLD_PSK_CLIENT, true);
	struct world_client *b = world_connect(w, WORLD_PSK_CLIENT, true);

	world_check_echo(a, "a");
	world_check_echo(b, "b");
}

static void check_forged(struct world *w, bool parked)
{
	struct address attacker = world_address(6666);
	struct world_client *c;
	struct dtls_session *s;
	struct world_datagram forged;

	w->options.live_contexts = 2;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "one");
	s = w->spoke;
	forged = hold(c, "two");
	forged.bytes[forged.len - 1] ^= 1;
	if (parked)
		park_others(w);
	assert_int_equal(stats_of(w).parked, parked);
	world_inject(w, &attacker, forged.bytes, forged.len);
	check_is_at(s, &c->address);
	assert_int_equal(stats_of(w).moved, 0);
	world_check_echo(c, "three");
	assert_int_equal(w->unaddressed, 0);
	assert_int_equal(w->closed_count, 0);
}

static void test_forged_record_does_not_move_a_session(void **state)
{
	check_forged(*state, false);
}

static void test_forged_record_does_not_move_a_parked_session(void **state)
{
	check_forged(*state, true);
}

static void test_record_of_noise_with_a_valid_cid_changes_nothing(void **state)
{
	struct world *w = *state;
	struct address attacker = world_address(6666);
	struct world_client *c;
	struct world_datagram d;
	struct dtls_session *s;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "one");
	s = w->spoke;
	d = hold(c, "x");
	for (size_t len = RECORD_CID_HEADER_LEN + 1; len <= d.len; len++) {
		for (unsigned epoch = 0; epoch < 4; epoch++) {
			struct world_datagram noise = d;

			random_bytes(noise.bytes + RECORD_CID_HEADER_LEN,
				     sizeof(noise.bytes) - RECORD_CID_HEADER_LEN);
			noise.bytes[4] = (uint8_t)epoch;
			noise.bytes[RECORD_CID_HEADER_LEN - 1] =
				(uint8_t)(len - RECORD_CID_HEADER_LEN);
			world_inject(w, &attacker, noise.bytes, len);
			world_inject(w, &c->address, noise.bytes, len);
		}
	}
	check_is_at(s, &c->address);
	world_check_echo(c, "two");
	assert_int_equal(w->data_count, 2);
}

static void check_replay(struct world *w, bool parked)
{
	struct address attacker = world_address(6666);
	struct world_client *c;
	struct dtls_session *s;
	struct world_datagram replay;
	size_t count;

	w->options.live_contexts = 2;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "one");
	s = w->spoke;
	replay = *world_sent(c, 0);
	if (parked)
		park_others(w);
	count = w->data_count;
	world_inject(w, &attacker, replay.bytes, replay.len);
	world_inject(w, &c->address, replay.bytes, replay.len);
	assert_int_equal(w->data_count, count);
	check_is_at(s, &c->address);
	assert_int_equal(w->unaddressed, 0);
}

static void test_replayed_record_is_dropped(void **state)
{
	check_replay(*state, false);
}

static void test_replayed_record_is_dropped_after_parking(void **state)
{
	check_replay(*state, true);
}

static void test_old_authentic_record_is_heard_but_does_not_move_a_session(void **state)
{
	struct world *w = *state;
	struct address elsewhere = world_address(6666);
	struct world_client *c;
	struct world_datagram old;
	struct dtls_session *s;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "one");
	s = w->spoke;
	old = hold(c, "late");
	world_check_echo(c, "newer");
	world_inject(w, &elsewhere, old.bytes, old.len);
	assert_string_equal(w->text, "late");
	check_is_at(s, &c->address);
	assert_string_equal(world_heard(c), "late");
}

static void check_move(struct world *w, bool parked)
{
	struct world_client *c;
	struct dtls_session *s;

	w->options.live_contexts = 2;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "here");
	s = w->spoke;
	if (parked)
		park_others(w);
	world_client_move(c);
	world_check_echo(c, "there");
	assert_ptr_equal(w->spoke, s);
	check_is_at(s, &c->address);
	assert_int_equal(stats_of(w).moved, 1);
	assert_int_equal(dtls_send(s, (const uint8_t *)"news", 4), 0);
	assert_string_equal(world_heard(c), "news");
}

static void test_newer_authentic_record_moves_a_session(void **state)
{
	check_move(*state, false);
}

static void test_newer_authentic_record_moves_a_parked_session(void **state)
{
	check_move(*state, true);
}

/* Else whoever may shake hands could have answers sent to a victim that never asked. */
static void test_session_without_identity_does_not_move_to_another_host(void **state)
{
	struct world *w = *state;
	struct dtls_identity who = {.id = "device-jwt"};
	struct world_client *c;
	struct address home;

	world_open(w);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, "here");
	world_client_move(c);
	world_check_echo(c, "another port");
	home = c->address;
	c->address.ip[15] = 99;
	world_say(c, "another host");
	assert_string_equal(w->text, "another host");
	check_is_at(w->spoke, &home);
	assert_int_equal(w->unaddressed, 1);
	assert_int_equal(dtls_identify(w->spoke, &who), 0);
	world_check_echo(c, "who is known may move");
}

static void test_record_with_an_unknown_cid_is_dropped(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	struct world_datagram d;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "one");
	d = hold(c, "two");
	d.bytes[15] ^= 1;
	world_inject(w, &c->address, d.bytes, d.len);
	assert_int_equal(w->data_count, 1);
	assert_int_equal(stats_of(w).unknown_cid, 1);
}

static void test_two_devices_swap_their_ports(void **state)
{
	struct world *w = *state;
	struct world_client *a, *b;
	struct address was;

	world_open(w);
	a = world_connect(w, WORLD_PSK_CLIENT, true);
	b = world_connect(w, WORLD_CLIENT_CERTIFICATE, true);
	world_check_echo(a, "a");
	world_check_echo(b, "b");
	was = a->address;
	a->address = b->address;
	b->address = was;
	world_check_echo(a, "a again");
	assert_string_equal(dtls_session_identity(w->spoke)->id, WORLD_PSK_IDENTITY);
	world_check_echo(b, "b again");
	assert_string_equal(dtls_session_identity(w->spoke)->id, "device-crt");
	assert_int_equal(stats_of(w).moved, 2);
	assert_int_equal(stats_of(w).sessions, 2);
}

static void test_record_without_cid_from_elsewhere_is_dropped(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, false);
	world_check_echo(c, "one");
	world_client_move(c);
	world_say(c, "two");
	assert_int_equal(w->data_count, 1);
}

/* --- A new handshake on a used address --- */

static bool only_cookie(struct world *w, struct world_client *c, bool to_server,
			const uint8_t *data, size_t len)
{
	(void)w;
	(void)c;
	return to_server || (len > RECORD_HEADER_LEN && data[RECORD_HEADER_LEN] == 3);
}

/* The server has a handshake running; the client waits for its flight, which was lost. */
static void begin_handshake(struct world_client *c)
{
	struct world *w = c->world;
	size_t running = stats_of(w).handshakes_begun;

	w->passes = only_cookie;
	assert_int_equal(dtls_peer_handshake(c->peer), MBEDTLS_ERR_SSL_WANT_READ);
	w->passes = NULL;
	assert_int_equal(stats_of(w).handshakes_begun, running + 1);
}

static void check_new_handshake(struct world *w, bool cid)
{
	struct world_client *old, *new;
	struct world_datagram from_old;
	struct dtls_session *s;
	struct dtls_identity who = {.id = "told-by-jwt", .kind = CREDENTIAL_JWT};

	world_open(w);
	old = world_connect(w, WORLD_CERTIFICATE, cid);
	world_check_echo(old, "hello");
	s = w->spoke;
	assert_int_equal(dtls_identify(s, &who), 0);
	from_old = hold(old, "still here");

	new = world_client(w, WORLD_CERTIFICATE, cid);
	new->address = old->address;
	new->shares_address = true;
	old->address = world_address(1);
	begin_handshake(new);
	assert_int_equal(stats_of(w).handshaking, 1);
	world_inject(w, &new->address, from_old.bytes, from_old.len);
	assert_ptr_equal(w->spoke, s);
	assert_string_equal(w->text, "still here");

	assert_int_equal(world_handshake_for(new, 3), 0);
	assert_string_equal(dtls_session_identity(w->opened)->id, "");
	assert_int_equal(w->closed_count, cid ? 0 : 1);
	world_check_echo(new, "me");
	assert_ptr_not_equal(w->spoke, s);
	assert_string_equal(dtls_session_identity(w->spoke)->id, "");
}

static void test_old_session_works_until_a_new_handshake_is_complete(void **state)
{
	check_new_handshake(*state, true);
}

static void test_old_session_without_cid_ends_when_a_new_handshake_is_complete(void **state)
{
	check_new_handshake(*state, false);
}

static void test_session_with_cid_outlives_a_new_handshake_on_its_address(void **state)
{
	struct world *w = *state;
	struct world_client *old, *new;

	world_open(w);
	/* silent: it is still found by its address as well */
	old = world_connect(w, WORLD_PSK_CLIENT, true);
	new = world_client(w, WORLD_PSK_CLIENT, true);
	new->address = old->address;
	old->address = world_address(1);
	assert_int_equal(world_handshake(new), 0);
	world_check_echo(new, "new");
	world_check_echo(old, "old");
	assert_int_equal(stats_of(w).sessions, 2);
}

static void test_device_that_restarts_shakes_hands_again_from_its_port(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, false);
	for (int i = 0; i < 5; i++) {
		world_check_echo(c, "x");
		world_client_again(c);
		assert_int_equal(world_handshake(c), 0);
	}
	world_check_echo(c, "x");
	assert_int_equal(stats_of(w).sessions, 1);
	assert_int_equal(w->closed_count, 5);
}

static void test_new_attempt_replaces_a_running_handshake(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_client(w, WORLD_PSK_CLIENT, true);
	begin_handshake(c);
	assert_int_equal(stats_of(w).handshaking, 1);
	world_client_again(c);
	assert_int_equal(world_handshake(c), 0);
	world_check_echo(c, "x");
	assert_int_equal(stats_of(w).handshaking, 0);
	assert_int_equal(stats_of(w).handshakes_begun, 2);
}

static void test_repeated_client_hello_is_answered_by_the_same_handshake(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	size_t answered;

	world_open(w);
	c = world_client(w, WORLD_PSK_CLIENT, true);
	begin_handshake(c);
	answered = w->out_count;
	/* The same message in a record with another number: the client's timer. */
	struct world_datagram again = *world_sent(c, 0);
	again.bytes[10] = (uint8_t)(again.bytes[10] + 5);
	world_inject(w, &c->address, again.bytes, again.len);
	assert_true(w->out_count > answered);
	assert_int_equal(stats_of(w).handshakes_begun, 1);
	assert_int_equal(world_handshake(c), 0); /* it did get that answer */
}

static void test_hello_for_an_established_session_does_not_reach_it(void **state)
{
	struct world *w = *state;
	struct world_client *c, *other;
	struct world_datagram first, second;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, false);
	world_check_echo(c, "one");
	other = world_client(w, WORLD_PSK_CLIENT, false);
	other->address = c->address;
	c->world->client[1] = NULL; /* so that answers go to c, who must bear them */
	assert_int_equal(dtls_peer_handshake(other->peer), MBEDTLS_ERR_SSL_WANT_READ);
	first = *world_sent(other, 0);
	for (int i = 0; i < 3; i++)
		world_inject(w, &c->address, first.bytes, first.len);
	second = *world_sent(c, 1); /* the hello of its own handshake, long done */
	world_inject(w, &c->address, second.bytes, second.len);
	world_check_echo(c, "two");
	w->client[1] = other;
}

/* --- Alerts --- */

static void test_alert_in_clear_ends_nothing(void **state)
{
	static const uint8_t alerts[][2] = {{2, 40}, {1, 0}, {2, 20}, {2, 0}};
	struct world *w = *state;
	struct world_client *plain, *cid, *shaking;

	world_open(w);
	plain = world_connect(w, WORLD_PSK_CLIENT, false);
	cid = world_connect(w, WORLD_PSK_CLIENT, true);
	shaking = world_client(w, WORLD_PSK_CLIENT, true);
	begin_handshake(shaking);
	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		for (uint8_t epoch = 0; epoch < 3; epoch++) {
			uint8_t record[] = {
				RECORD_ALERT, 0xfe,	   0xfd, 0, epoch, 0, 0, 0, 0, 0, 99, 0, 2,
				alerts[i][0], alerts[i][1]};

			world_inject(w, &plain->address, record, sizeof(record));
			world_inject(w, &cid->address, record, sizeof(record));
			world_inject(w, &shaking->address, record, sizeof(record));
		}
	}
	assert_int_equal(w->closed_count, 0);
	assert_int_equal(stats_of(w).handshakes_failed, 0);
	world_check_echo(plain, "x");
	world_check_echo(cid, "y");
	assert_int_equal(world_handshake_for(shaking, 3), 0);
}

static void check_close_notify(struct world *w, bool cid)
{
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, cid);
	world_check_echo(c, "x");
	assert_int_equal(dtls_peer_close_notify(c->peer), 0);
	assert_int_equal(w->closed_count, 1);
	assert_string_equal(w->reason, "closed by the peer");
	assert_int_equal(stats_of(w).sessions, 0);
	assert_int_equal(stats_of(w).live, 0);
}

static void test_authentic_close_notify_ends_a_session(void **state)
{
	check_close_notify(*state, true);
}

static void test_authentic_close_notify_ends_a_session_without_cid(void **state)
{
	check_close_notify(*state, false);
}

static void test_forged_close_notify_ends_nothing(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	struct world_datagram d;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	c->mute = true;
	assert_int_equal(dtls_peer_close_notify(c->peer), 0);
	c->mute = false;
	d = *world_sent(c, 0);
	d.bytes[d.len - 1] ^= 0x80;
	world_inject(w, &c->address, d.bytes, d.len);
	assert_int_equal(w->closed_count, 0);
}

static void test_end_with_notice_tells_the_peer(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	uint8_t byte;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	dtls_end(w->spoke, true, "revoked");
	assert_string_equal(w->reason, "revoked");
	assert_int_equal(dtls_peer_read(c->peer, &byte, 1), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
}

/* --- Identity --- */

static void test_session_is_identified_once(void **state)
{
	struct world *w = *state;
	struct dtls_identity a = {.id = "device-a"}, b = {.id = "device-b"};

	world_open(w);
	world_connect(w, WORLD_CERTIFICATE, true);
	assert_int_equal(dtls_identify(w->opened, &a), 0);
	assert_int_equal(dtls_identify(w->opened, &b), -EALREADY);
	assert_string_equal(dtls_session_identity(w->opened)->id, "device-a");
}

static int failed_handshake(struct world *w, struct dtls_peer_options *o, struct world_client **c)
{
	int ret;

	*c = world_client_with(w, o);
	ret = world_handshake(*c);
	assert_int_equal(w->opened_count, 0);
	assert_int_equal(stats_of(w).handshaking, 0);
	assert_int_equal(stats_of(w).handshakes_failed, 1);
	return ret;
}

static void test_unknown_psk_identity_and_wrong_key_look_the_same(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *unknown, *wrong;
	int first;
	size_t datagrams, bytes;
	struct world_datagram alert;

	world_client_options(w, WORLD_PSK_CLIENT, true, &o);
	world_open(w);
	o.psk_identity = "nobody-psk";
	first = failed_handshake(w, &o, &unknown);
	assert_int_equal(first, MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
	datagrams = w->out_count;
	bytes = w->out_bytes;
	alert = w->out_last;
	dtls_close(w->endpoint);

	w->out_count = w->out_bytes = 0;
	world_open(w);
	o.psk_identity = WORLD_PSK_IDENTITY;
	o.psk = "another sixteen.";
	assert_int_equal(failed_handshake(w, &o, &wrong), first);
	assert_int_equal(w->out_count, datagrams);
	assert_int_equal(w->out_bytes, bytes);
	assert_int_equal(alert.len, w->out_last.len);
	assert_memory_equal(alert.bytes, w->out_last.bytes, alert.len);
	assert_int_equal(unknown->sent, wrong->sent);
}

static void test_refused_certificate_opens_no_session(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	w->refuse_certificate = true;
	world_open(w);
	assert_int_equal(failed_handshake(w, &o, &c), MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
}

static char refusals[4096];

static void keep_lines(enum log_level level, const char *line, void *arg)
{
	size_t len = strlen(refusals);

	(void)level;
	(void)arg;
	snprintf(refusals + len, sizeof(refusals) - len, "%s\n", line);
}

static void check_bad_certificate(struct world *w, const char *pem, const char *key,
				  const char *said)
{
	struct dtls_peer_options o;
	struct world_client *c;

	refusals[0] = '\0';
	log_set_sink(keep_lines, NULL);
	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	o.certificate_file = world_file(pem);
	o.key_file = world_file(key);
	world_open(w);
	assert_int_not_equal(failed_handshake(w, &o, &c), 0);
	if (!strstr(refusals, said))
		fail_msg("\"%s\" is not in: %s", said, refusals);
}

static void test_certificate_of_another_ca_opens_no_session(void **state)
{
	check_bad_certificate(*state, "stranger.pem", "stranger.key",
			      "it is signed by no CA of this fleet: the issuer is CN=Foreign CA");
}

static void test_expired_certificate_opens_no_session(void **state)
{
	check_bad_certificate(*state, "expired.pem", "expired.key",
			      "its certificate: it expired on ");
}

static void test_chain_over_p384_is_refused_and_the_log_says_why(void **state)
{
	check_bad_certificate(*state, "via384.pem", "via384.key", "that is not P-256");
}

static void test_certificate_with_someone_elses_key_opens_no_session(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	o.key_file = world_file("stranger.key");
	world_open(w);
	assert_int_not_equal(failed_handshake(w, &o, &c), 0);
	assert_int_equal(w->certificate_asked, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_server_certificate_with_cid),
		TEST(test_server_certificate_without_cid),
		TEST(test_psk_with_cid),
		TEST(test_psk_without_cid),
		TEST(test_client_certificate_with_cid),
		TEST(test_client_certificate_without_cid),
		TEST(test_cid_begins_with_the_worker),
		TEST(test_sessions_of_two_workers_never_have_one_id),
		TEST(test_forged_record_does_not_move_a_session),
		TEST(test_forged_record_does_not_move_a_parked_session),
		TEST(test_record_of_noise_with_a_valid_cid_changes_nothing),
		TEST(test_replayed_record_is_dropped),
		TEST(test_replayed_record_is_dropped_after_parking),
		TEST(test_old_authentic_record_is_heard_but_does_not_move_a_session),
		TEST(test_newer_authentic_record_moves_a_session),
		TEST(test_newer_authentic_record_moves_a_parked_session),
		TEST(test_session_without_identity_does_not_move_to_another_host),
		TEST(test_record_with_an_unknown_cid_is_dropped),
		TEST(test_two_devices_swap_their_ports),
		TEST(test_record_without_cid_from_elsewhere_is_dropped),
		TEST(test_old_session_works_until_a_new_handshake_is_complete),
		TEST(test_old_session_without_cid_ends_when_a_new_handshake_is_complete),
		TEST(test_session_with_cid_outlives_a_new_handshake_on_its_address),
		TEST(test_device_that_restarts_shakes_hands_again_from_its_port),
		TEST(test_new_attempt_replaces_a_running_handshake),
		TEST(test_repeated_client_hello_is_answered_by_the_same_handshake),
		TEST(test_hello_for_an_established_session_does_not_reach_it),
		TEST(test_alert_in_clear_ends_nothing),
		TEST(test_authentic_close_notify_ends_a_session),
		TEST(test_authentic_close_notify_ends_a_session_without_cid),
		TEST(test_forged_close_notify_ends_nothing),
		TEST(test_end_with_notice_tells_the_peer),
		TEST(test_session_is_identified_once),
		TEST(test_unknown_psk_identity_and_wrong_key_look_the_same),
		TEST(test_refused_certificate_opens_no_session),
		TEST(test_certificate_of_another_ca_opens_no_session),
		TEST(test_expired_certificate_opens_no_session),
		TEST(test_chain_over_p384_is_refused_and_the_log_says_why),
		TEST(test_certificate_with_someone_elses_key_opens_no_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
