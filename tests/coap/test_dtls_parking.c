/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/dtls: few contexts for many sessions, sessions that outlive the process, tickets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/internal.h"
#include "tests/coap/dtls_world.h"

static struct dtls_stats stats_of(const struct world *w)
{
	struct dtls_stats s;

	world_stats(w, &s);
	return s;
}

/* --- Parking --- */

static void check_live_and_echo(struct world *w, struct dtls_session *s)
{
	assert_true(stats_of(w).live <= w->options.live_contexts);
	assert_int_equal(dtls_send(s, (const uint8_t *)w->text, strlen(w->text)), 0);
}

static void check_bound(struct world *w)
{
	struct world_client *c[200];
	char text[48];

	w->options.live_contexts = 16;
	w->on_data = check_live_and_echo;
	world_open(w);
	for (int i = 0; i < 200; i++) {
		c[i] = world_connect(w, i % 2 ? WORLD_PSK_CLIENT : WORLD_CLIENT_CERTIFICATE,
				     i % 3 != 0);
		snprintf(text, sizeof(text), "first of %d", i);
		world_check_echo(c[i], text);
		assert_true(stats_of(w).live <= 16);
	}
	assert_int_equal(stats_of(w).sessions, 200);
	assert_int_equal(stats_of(w).parked, 200 - stats_of(w).live);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 200; i++) {
			snprintf(text, sizeof(text), "round %d of %d", round, i);
			world_check_echo(c[i], text);
			assert_true(stats_of(w).live <= 16);
		}
	}
	assert_int_equal(stats_of(w).sessions, 200);
	assert_int_equal(w->closed_count, 0);
	assert_true(stats_of(w).woken_total >= 400);
}

static void test_sixteen_contexts_serve_two_hundred_sessions(void **state)
{
	check_bound(*state);
}

static void test_cbc_and_silent_sessions_are_not_parked_and_count(void **state)
{
	static const int cbc[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CBC_SHA256, 0};
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *first, *c;

	world_client_options(w, WORLD_PSK_CLIENT, true, &o);
	o.suites = cbc;
	w->options.legacy_cbc = true;
	w->options.live_contexts = 4;
	world_open(w);
	first = world_client_with(w, &o);
	assert_int_equal(world_handshake(first), 0);
	world_check_echo(first, "cbc");
	/* Silent ones go before one that has spoken. */
	for (int i = 0; i < 8; i++)
		world_connect(w, WORLD_PSK_CLIENT, true);
	assert_int_equal(stats_of(w).live, 4);
	assert_int_equal(stats_of(w).parked, 0);
	assert_int_equal(w->closed_count, 5);
	world_check_echo(first, "still there");
	/* And when all of them have spoken, the one that was silent longest. */
	for (int i = 0; i < 4; i++) {
		c = world_client_with(w, &o);
		assert_int_equal(world_handshake(c), 0);
		world_check_echo(c, "cbc");
	}
	assert_int_equal(stats_of(w).live, 4);
	world_check_echo(c, "x");
}

static void test_parked_session_can_be_ended_with_notice(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	struct dtls_session *s;
	uint8_t byte;

	w->options.live_contexts = 1;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	s = w->spoke;
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "y");
	assert_int_equal(stats_of(w).parked, 1);
	dtls_end(s, true, "revoked");
	assert_int_equal(stats_of(w).parked + stats_of(w).live, 1);
	assert_int_equal(dtls_peer_read(c->peer, &byte, 1), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
}

static void answer_all(struct world *w, struct dtls_session *s)
{
	static const char *const parts[] = {"1", "2", "3"};
	struct dtls_session *const all[] = {s, w->arg};

	for (size_t i = 0; i < 3; i++)
		for (size_t j = 0; j < 2; j++)
			assert_int_equal(dtls_send(all[j], (const uint8_t *)parts[i], 1), 0);
}

static void test_sending_to_another_session_inside_a_callback(void **state)
{
	struct world *w = *state;
	struct world_client *a, *b;

	w->options.live_contexts = 1; /* each wakes at the other's expense */
	world_open(w);
	a = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(a, "a");
	w->arg = w->spoke;
	b = world_connect(w, WORLD_PSK_CLIENT, true);
	w->on_data = answer_all;
	world_say(b, "b");
	for (int expected = '1'; expected <= '3'; expected++) {
		assert_int_equal(world_heard(a)[0], expected);
		assert_int_equal(world_heard(b)[0], expected);
	}
}

static void end_it(struct world *w, struct dtls_session *s)
{
	(void)w;
	dtls_end(s, true, "ended in its callback");
	assert_int_equal(dtls_send(s, (const uint8_t *)"x", 1), -ENOTCONN);
	memset(dtls_user(s), 1, 16);
}

static void test_session_may_be_ended_inside_its_callback(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	w->on_data = end_it;
	world_say(c, "x");
	world_say(c, "y");
	assert_int_equal(w->closed_count, 1);
	assert_int_equal(w->data_count, 1);
	assert_int_equal(stats_of(w).unknown_cid, 1);
}

static size_t visited;

static void count_and_end(void *arg, struct dtls_session *s)
{
	(void)arg;
	visited++;
	dtls_end(s, false, "walked over");
}

static void count_only(void *arg, struct dtls_session *s)
{
	(void)arg;
	(void)s;
	visited++;
}

static void test_walk_visits_every_session(void **state)
{
	struct world *w = *state;
	uint64_t cursor = 0;
	size_t steps = 0;

	world_open(w);
	for (int i = 0; i < 50; i++)
		world_connect(w, WORLD_PSK_CLIENT, true);
	visited = 0;
	do {
		dtls_walk(w->endpoint, &cursor, 7, count_only, NULL);
		steps++;
	} while (cursor != 0 && steps < 10000);
	assert_true(steps > 5);
	assert_int_equal(visited, 50);
	visited = 0;
	do {
		dtls_walk(w->endpoint, &cursor, 7, count_and_end, NULL);
	} while (cursor != 0);
	assert_int_equal(visited, 50);
	assert_int_equal(w->closed_count, 50);
}

/* --- Restart --- */

static char slots_dir[64];

static int slots_setup(void **state)
{
	static char path[96];
	struct world *w;

	if (world_setup(state) != 0)
		return -1;
	w = *state;
	snprintf(slots_dir, sizeof(slots_dir), "/dev/shm/fg-dtls-XXXXXX");
	if (!mkdtemp(slots_dir))
		return -1;
	snprintf(path, sizeof(path), "%s/worker-7.slots", slots_dir);
	w->options.slots_path = path;
	return 0;
}

static int slots_teardown(void **state)
{
	DIR *d;
	const struct dirent *e;
	int rc = world_teardown(state);

	d = opendir(slots_dir);
	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	return rmdir(slots_dir) == 0 ? rc : -1;
}

static void test_sixteen_contexts_serve_two_hundred_sessions_with_slots(void **state)
{
	check_bound(*state);
}

static void test_sessions_survive_a_crash(void **state)
{
	struct world *w = *state;
	struct world_client *c[20];
	struct dtls_identity who = {.id = "told-by-jwt", .kind = CREDENTIAL_JWT};
	uint64_t ids[20];
	struct world_datagram replay;
	char text[48];

	w->options.live_contexts = 4;
	world_open(w);
	for (int i = 0; i < 20; i++) {
		c[i] = world_connect(w, i % 2 ? WORLD_PSK_CLIENT : WORLD_CERTIFICATE, i % 4 < 2);
		for (int j = 0; j < i % 5 + 1; j++)
			world_check_echo(c[i], "before");
		if (i % 2 == 0)
			assert_int_equal(dtls_identify(w->spoke, &who), 0);
		ids[i] = dtls_session_id(w->spoke);
		dtls_session_set_note(w->spoke, text,
				      (size_t)snprintf(text, sizeof(text), "note %d", i));
	}
	replay = *world_sent(c[19], 0);
	world_crash(w);
	world_open(w);
	assert_int_equal(stats_of(w).restored, 20);
	assert_int_equal(stats_of(w).sessions, 20);
	world_inject(w, &c[19]->address, replay.bytes, replay.len);
	assert_ptr_equal(w->spoke, NULL);
	for (int i = 0; i < 20; i++) {
		uint8_t note[DTLS_NOTE_MAX];
		size_t len;

		if (i % 4 < 2)
			world_client_move(c[i]);
		world_check_echo(c[i], "after");
		assert_true(dtls_session_id(w->spoke) == ids[i]);
		assert_string_equal(dtls_session_identity(w->spoke)->id,
				    i % 2 ? WORLD_PSK_IDENTITY : "told-by-jwt");
		len = dtls_session_note(w->spoke, note);
		snprintf(text, sizeof(text), "note %d", i);
		assert_int_equal(len, strlen(text));
		assert_memory_equal(note, text, len);
	}
	assert_int_equal(stats_of(w).handshakes_begun, 0);
	assert_int_equal(stats_of(w).authentic, 20);
}

static void test_crash_between_two_records_of_a_session(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	struct world_datagram held[3];

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "first");
	for (int crashes = 0; crashes < 10; crashes++) {
		world_check_echo(c, "a");
		c->mute = true;
		for (int i = 0; i < 3; i++) {
			world_say(c, "late");
			held[i] = *world_sent(c, 0);
		}
		c->mute = false;
		world_check_echo(c, "b");
		world_crash(w);
		world_open(w);
		/* What was on its way arrives once. */
		w->data_count = 0;
		for (int twice = 0; twice < 2; twice++)
			for (int i = 2; i >= 0; i--)
				world_inject(w, &c->address, held[i].bytes, held[i].len);
		assert_int_equal(w->data_count, 3);
		for (int i = 0; i < 3; i++)
			assert_string_equal(world_heard(c), "late");
	}
}

static void (*deliver)(void *arg, const struct address *to, const uint8_t *data, size_t len);
static size_t checked;

/* When a record leaves, the slot says that its number is used. */
static void check_slot_and_send(void *arg, const struct address *to, const uint8_t *data,
				size_t len)
{
	struct world *w = arg;
	struct slot_content slot;
	struct blob_counters counters;
	struct record r;

	assert_int_equal(dtls_record_parse(&r, data, len), 0);
	if (r.epoch == 1 && w->spoke && w->spoke->slot) {
		assert_true(slots_get(w->endpoint->slots, w->spoke->slot, &slot));
		assert_int_equal(blob_counters(slot.blob, slot.blob_len, &counters), 0);
		assert_true(counters.out == r.number + 1);
		checked++;
	}
	deliver(arg, to, data, len);
}

/* When its content is used, the slot says that it was received. */
static void check_slot_and_echo(struct world *w, struct dtls_session *s)
{
	struct slot_content slot;
	struct blob_counters counters;

	assert_true(slots_get(w->endpoint->slots, s->slot, &slot));
	assert_int_equal(blob_counters(slot.blob, slot.blob_len, &counters), 0);
	assert_true(counters.top == s->context->ssl.MBEDTLS_PRIVATE(in_window_top));
	assert_true(counters.window == s->context->ssl.MBEDTLS_PRIVATE(in_window));
	assert_true(address_equal(&slot.address, &s->address));
	assert_int_equal(dtls_send(s, (const uint8_t *)w->text, strlen(w->text)), 0);
}

static void test_slot_is_ahead_of_what_is_sent_and_of_what_is_used(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	deliver = w->callbacks.send;
	w->callbacks.send = check_slot_and_send;
	w->on_data = check_slot_and_echo;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	for (int i = 0; i < 10; i++) {
		world_check_echo(c, "x");
		world_client_move(c);
	}
	assert_int_equal(checked, 10);
}

static void test_session_that_ended_does_not_come_back(void **state)
{
	struct world *w = *state;
	struct world_client *a, *b;

	world_open(w);
	a = world_connect(w, WORLD_PSK_CLIENT, true);
	b = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(b, "b");
	world_check_echo(a, "a");
	dtls_end(w->spoke, false, "revoked");
	world_crash(w);
	world_open(w);
	assert_int_equal(stats_of(w).restored, 1);
	world_say(a, "x");
	assert_int_equal(stats_of(w).unknown_cid, 1);
	world_check_echo(b, "b");
}

static void test_silent_session_does_not_survive(void **state)
{
	struct world *w = *state;

	world_open(w);
	world_connect(w, WORLD_PSK_CLIENT, true);
	world_crash(w);
	world_open(w);
	assert_int_equal(stats_of(w).restored, 0);
}

static void test_close_keeps_what_is_in_slots_and_tells_the_others(void **state)
{
	struct world *w = *state;
	struct world_client *kept, *silent;
	uint8_t byte;

	world_open(w);
	kept = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(kept, "x");
	silent = world_connect(w, WORLD_PSK_CLIENT, true);
	dtls_close(w->endpoint);
	assert_int_equal(w->closed_count, 0);
	assert_int_equal(dtls_peer_read(silent->peer, &byte, 1), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
	world_open(w);
	assert_int_equal(stats_of(w).restored, 1);
	world_check_echo(kept, "y");
}

static void test_anonymous_session_has_to_say_who_it_is_after_a_crash_too(void **state)
{
	struct world *w = *state;

	world_open(w);
	world_check_echo(world_connect(w, WORLD_CERTIFICATE, true), "x");
	world_crash(w);
	world_open(w);
	assert_int_equal(stats_of(w).sessions, 1);
	world_wait(w, 59 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 1);
	world_wait(w, 2 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 0);
}

static void test_limits_count_from_before_the_crash(void **state)
{
	struct world *w = *state;

	world_open(w);
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "x");
	world_wait(w, 29 * US_PER_DAY);
	world_crash(w);
	world_open(w);
	world_wait(w, US_PER_DAY - 20 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 1);
	world_wait(w, 40 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 0);
}

static void test_session_ids_are_not_used_twice(void **state)
{
	struct world *w = *state;
	uint64_t id;

	world_open(w);
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "x");
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "x");
	id = dtls_session_id(w->spoke);
	dtls_end(w->spoke, false, "ended");
	world_crash(w);
	world_wait_clock(US_PER_S);
	world_open(w);
	world_connect(w, WORLD_PSK_CLIENT, true);
	assert_true(dtls_session_id(w->opened) > id);
}

static void test_session_ends_with_its_credential_over_crashes_and_parked_too(void **state)
{
	struct world *w = *state;
	struct world_client *c[20];

	w->options.live_contexts = 4;
	world_open(w);
	for (int i = 0; i < 20; i++) {
		w->valid_for_s = i % 2 ? 7 * 86400 : INT64_MAX;
		c[i] = world_connect(w, WORLD_PSK_CLIENT, true);
		world_check_echo(c[i], "x");
	}
	assert_true(stats_of(w).parked >= 16);
	world_wait(w, 6 * US_PER_DAY);
	world_crash(w);
	world_open(w);
	for (int i = 0; i < 20; i++)
		world_check_echo(c[i], "y");
	world_crash(w);
	world_wait_clock(US_PER_DAY);
	world_open(w);
	assert_int_equal(stats_of(w).restored, 20);
	world_wait(w, 17 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 10);
	assert_string_equal(w->reason, "its credential expired");
	for (int i = 0; i < 20; i += 2)
		world_check_echo(c[i], "z");
	for (int i = 1; i < 20; i += 2) {
		size_t heard = w->data_count;

		world_say(c[i], "z");
		assert_int_equal(w->data_count, heard);
	}
}

static void test_session_ends_with_a_credential_that_was_shown_later(void **state)
{
	struct world *w = *state;
	struct dtls_identity who = {.id = "told-by-jwt", .kind = CREDENTIAL_JWT};
	struct world_client *c;

	world_open(w);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, "x");
	dtls_identity_limit(&who, 100);
	dtls_identity_limit(&who, 200); /* a limit is never taken back */
	assert_int_equal(dtls_identify(w->spoke, &who), 0);
	world_crash(w);
	world_wait_clock(99 * US_PER_S);
	world_open(w);
	world_check_echo(c, "y");
	assert_false(dtls_identity_expired(dtls_session_identity(w->spoke)));
	world_wait_clock(3 * US_PER_S);
	assert_true(dtls_identity_expired(dtls_session_identity(w->spoke)));
	world_wait(w, 17 * US_PER_S);
	assert_int_equal(stats_of(w).sessions, 0);
}

/* --- Tickets --- */

static struct world_client *resuming(struct world *w, enum world_kind kind, bool cid,
				     struct world_client *from)
{
	struct dtls_peer_options o;
	struct world_client *c;
	mbedtls_ssl_session session;

	mbedtls_ssl_session_init(&session);
	world_client_options(w, kind, cid, &o);
	o.tickets = true;
	c = world_client_with(w, &o);
	if (from) {
		assert_int_equal(dtls_peer_get_session(from->peer, &session), 0);
		assert_int_equal(dtls_peer_set_session(c->peer, &session), 0);
	}
	mbedtls_ssl_session_free(&session);
	assert_int_equal(world_handshake(c), 0);
	return c;
}

static void check_resumed(struct world *w, enum world_kind kind, const char *id)
{
	struct world_client *first, *second;

	world_open(w);
	first = resuming(w, kind, false, NULL);
	world_check_echo(first, "x");
	second = resuming(w, kind, true, first);
	assert_int_equal(stats_of(w).resumed, 1);
	assert_int_equal(w->resumed_asked, id[0] ? 1 : 0);
	assert_string_equal(w->resumed_who.id, id);
	assert_string_equal(dtls_session_identity(w->opened)->id, id);
	assert_true(dtls_session_has_cid(w->opened)); /* it is negotiated anew */
	world_check_echo(second, "y");
	world_client_move(second);
	world_check_echo(second, "z");
}

static void test_resumed_psk_session_has_its_identity(void **state)
{
	check_resumed(*state, WORLD_PSK_CLIENT, WORLD_PSK_IDENTITY);
}

static void test_resumed_certificate_session_has_its_identity(void **state)
{
	check_resumed(*state, WORLD_CLIENT_CERTIFICATE, "device-crt");
}

static void test_resumed_anonymous_session_is_anonymous(void **state)
{
	check_resumed(*state, WORLD_CERTIFICATE, "");
}

static void test_identity_of_a_jwt_is_not_resumed(void **state)
{
	struct world *w = *state;
	struct dtls_identity who = {.id = "told-by-jwt", .kind = CREDENTIAL_JWT};
	struct world_client *first;

	world_open(w);
	first = resuming(w, WORLD_CERTIFICATE, false, NULL);
	assert_int_equal(dtls_identify(w->opened, &who), 0);
	resuming(w, WORLD_CERTIFICATE, false, first);
	assert_int_equal(stats_of(w).resumed, 1);
	assert_string_equal(dtls_session_identity(w->opened)->id, "");
}

static void check_full(struct world *w, size_t asked)
{
	assert_int_equal(stats_of(w).resumed, 0);
	assert_int_equal(stats_of(w).handshakes_done, 2);
	assert_int_equal(w->resumed_asked, asked);
}

static void test_whoever_is_not_let_in_any_more_shakes_hands_in_full(void **state)
{
	struct world *w = *state;
	struct world_client *first;

	world_open(w);
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	w->refuse_resumed = true;
	resuming(w, WORLD_PSK_CLIENT, false, first);
	check_full(w, 1);
	assert_string_equal(dtls_session_identity(w->opened)->id, WORLD_PSK_IDENTITY);
}

static void test_ticket_is_good_no_longer_than_what_proved_its_identity(void **state)
{
	struct world *w = *state;
	struct world_client *first, *second;

	w->valid_for_s = 3600;
	world_open(w);
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	w->valid_for_s = INT64_MAX; /* as the clock says that has jumped */
	world_wait(w, 3000 * US_PER_S);
	second = resuming(w, WORLD_PSK_CLIENT, false, first);
	assert_int_equal(stats_of(w).resumed, 1);
	world_check_echo(second, "x");
	world_wait(w, 599 * US_PER_S);
	world_check_echo(second, "y");
	world_wait(w, 17 * US_PER_S);
	assert_string_equal(w->reason, "its credential expired");
	resuming(w, WORLD_PSK_CLIENT, false, second);
	assert_int_equal(stats_of(w).resumed, 1);
}

static void test_ticket_of_another_process_is_not_taken(void **state)
{
	struct world *w = *state;
	struct world_client *first;

	world_open(w);
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	dtls_close(w->endpoint);
	world_open(w);
	resuming(w, WORLD_PSK_CLIENT, false, first);
	assert_int_equal(stats_of(w).resumed, 0);
	assert_int_equal(stats_of(w).handshakes_done, 1);
}

static int64_t real_offset_us;

static int64_t moved_realtime_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000 + real_offset_us;
}

static void test_ticket_is_good_for_its_time_over_changes_of_keys(void **state)
{
	struct world *w = *state;
	struct world_client *first, *late;

	real_offset_us = 0;
	clock_override(moved_realtime_us, world_now_us);
	world_open(w);
	resuming(w, WORLD_PSK_CLIENT, false, NULL);
	real_offset_us = US_PER_DAY - 60 * US_PER_S;
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	real_offset_us = US_PER_DAY + 60 * US_PER_S; /* the key has changed */
	late = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	resuming(w, WORLD_PSK_CLIENT, false, first);
	assert_int_equal(stats_of(w).resumed, 1);
	real_offset_us = 2 * US_PER_DAY + 120 * US_PER_S;
	resuming(w, WORLD_PSK_CLIENT, false, late);
	assert_int_equal(stats_of(w).resumed, 1);
}

static void test_no_tickets_when_resumption_is_off(void **state)
{
	struct world *w = *state;
	struct world_client *first;

	w->options.resumption = false;
	world_open(w);
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	resuming(w, WORLD_PSK_CLIENT, false, first);
	check_full(w, 0);
}

static void test_session_with_extended_master_secret_is_not_resumed_without(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *first, *second;
	mbedtls_ssl_session session;

	world_open(w);
	first = resuming(w, WORLD_PSK_CLIENT, false, NULL);
	world_client_options(w, WORLD_PSK_CLIENT, false, &o);
	o.tickets = o.no_extended_master_secret = true;
	second = world_client_with(w, &o);
	mbedtls_ssl_session_init(&session);
	assert_int_equal(dtls_peer_get_session(first->peer, &session), 0);
	assert_int_equal(dtls_peer_set_session(second->peer, &session), 0);
	mbedtls_ssl_session_free(&session);
	assert_int_equal(world_handshake(second), 0);
	check_full(w, 0);
}

/* --- A walk, while it makes others end --- */

static struct dtls_session *first_in_bucket;
static unsigned visits_behind;

static void end_the_first(void *arg, struct dtls_session *s)
{
	if (s == first_in_bucket)
		dtls_end(s, true, "revoked");
	else if (s == arg)
		visits_behind++;
}

static void into_bucket_of(struct dtls_session *s, const struct dtls_session *other)
{
	size_t mask = table_buckets(&s->endpoint->cids) - 1;

	table_remove(&s->endpoint->cids, &s->by_cid);
	while ((hash_cid(&s->by_cid) & mask) != (hash_cid(&other->by_cid) & mask))
		random_bytes(s->cid, sizeof(s->cid));
	table_insert(&s->endpoint->cids, &s->by_cid);
}

static struct dtls_session *parked(struct world *w)
{
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "x");
	assert_int_equal(dtls_session_park(w->spoke), 0);
	return w->spoke;
}

/* To tell the first that it ends, a context is needed, so the silent one in the same bucket is
 * ended for it: then the one behind that is still visited. */
static void test_walk_visits_what_is_behind_a_session_that_ended_for_want_of_room(void **state)
{
	struct world *w = *state;
	struct dtls_session *last, *silent;
	uint64_t cursor = 0;

	visits_behind = 0;
	world_open(w);
	last = parked(w);
	first_in_bucket = parked(w);
	world_connect(w, WORLD_PSK_CLIENT, true);
	silent = w->opened;
	w->endpoint->options.live_contexts = 1;
	into_bucket_of(last, first_in_bucket);
	into_bucket_of(silent, first_in_bucket);
	into_bucket_of(first_in_bucket, last);
	do {
		dtls_walk(w->endpoint, &cursor, 100, end_the_first, last);
	} while (cursor != 0);
	assert_int_equal(w->closed_count, 2);
	assert_true(visits_behind > 0);
}

int main(void)
{
#define TEST(f)	      cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
#define SLOTS_TEST(f) cmocka_unit_test_setup_teardown(f, slots_setup, slots_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sixteen_contexts_serve_two_hundred_sessions),
		TEST(test_cbc_and_silent_sessions_are_not_parked_and_count),
		TEST(test_parked_session_can_be_ended_with_notice),
		TEST(test_sending_to_another_session_inside_a_callback),
		TEST(test_session_may_be_ended_inside_its_callback),
		TEST(test_walk_visits_every_session),
		SLOTS_TEST(test_sixteen_contexts_serve_two_hundred_sessions_with_slots),
		SLOTS_TEST(test_sessions_survive_a_crash),
		SLOTS_TEST(test_crash_between_two_records_of_a_session),
		SLOTS_TEST(test_slot_is_ahead_of_what_is_sent_and_of_what_is_used),
		SLOTS_TEST(test_session_that_ended_does_not_come_back),
		SLOTS_TEST(test_silent_session_does_not_survive),
		SLOTS_TEST(test_close_keeps_what_is_in_slots_and_tells_the_others),
		SLOTS_TEST(test_anonymous_session_has_to_say_who_it_is_after_a_crash_too),
		SLOTS_TEST(test_limits_count_from_before_the_crash),
		SLOTS_TEST(test_session_ids_are_not_used_twice),
		SLOTS_TEST(test_session_ends_with_its_credential_over_crashes_and_parked_too),
		SLOTS_TEST(test_session_ends_with_a_credential_that_was_shown_later),
		TEST(test_resumed_psk_session_has_its_identity),
		TEST(test_resumed_certificate_session_has_its_identity),
		TEST(test_resumed_anonymous_session_is_anonymous),
		TEST(test_identity_of_a_jwt_is_not_resumed),
		TEST(test_whoever_is_not_let_in_any_more_shakes_hands_in_full),
		TEST(test_ticket_is_good_no_longer_than_what_proved_its_identity),
		TEST(test_ticket_of_another_process_is_not_taken),
		TEST(test_ticket_is_good_for_its_time_over_changes_of_keys),
		TEST(test_no_tickets_when_resumption_is_off),
		TEST(test_session_with_extended_master_secret_is_not_resumed_without),
		TEST(test_walk_visits_what_is_behind_a_session_that_ended_for_want_of_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
