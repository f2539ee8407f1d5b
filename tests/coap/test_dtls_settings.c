/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls: limits, key log, certificates and their reload, want of memory.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/coap/dtls_world.h"

static struct dtls_stats stats_of(const struct world *w)
{
	struct dtls_stats s;

	world_stats(w, &s);
	return s;
}

/* --- Want of memory: the n-th allocation fails --- */

static size_t allocations, fail_at;

static bool fails(void);

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, count, size);
}

static bool inside, for_good;
static void (*deliver)(void *arg, const struct address *to, const uint8_t *data, size_t len);

static bool fails(void)
{
	if (!inside || !fail_at)
		return false;
	allocations++;
	return for_good ? allocations >= fail_at : allocations == fail_at;
}

/* What the test itself allocates does not count. */
static void send_outside(void *arg, const struct address *to, const uint8_t *data, size_t len)
{
	bool was = inside;

	inside = false;
	deliver(arg, to, data, len);
	inside = was;
}

static bool receive_inside(struct world *w, struct world_client *c, bool to_server,
			   const uint8_t *data, size_t len)
{
	if (!to_server)
		return true;
	inside = true;
	dtls_receive(w->endpoint, &c->address, data, len);
	inside = false;
	return false;
}

/* One device's handshake, message and end while the n-th allocation fails: does it get that far? */
static bool try_with_failure(struct world *w, enum world_kind kind, size_t n)
{
	struct world_client *c = world_client(w, kind, true);
	char heard[8] = "";

	w->passes = receive_inside;
	allocations = 0;
	fail_at = n;
	if (world_handshake(c) == 0 && dtls_peer_write(c->peer, "x", 1) == 1)
		snprintf(heard, sizeof(heard), "%s", world_heard(c));
	fail_at = 0;
	w->passes = NULL;
	if (w->spoke)
		dtls_end(w->spoke, false, "next");
	else if (w->opened)
		dtls_end(w->opened, false, "next");
	world_client_free(c);
	return strcmp(heard, "x") == 0;
}

static void answer_if_possible(struct world *w, struct dtls_session *s)
{
	(void)w;
	dtls_send(s, (const uint8_t *)"x", 1);
}

static void check_no_memory(struct world *w, enum world_kind kind)
{
	size_t failed = 0, n;

	deliver = w->callbacks.send;
	w->callbacks.send = send_outside;
	w->on_data = answer_if_possible;
	w->options.live_contexts = 1;
	world_open(w);
	for (int mode = 0; mode < 2; mode++) {
		for_good = mode == 1;
		for (n = 1; n < 5000; n++) {
			bool complete = try_with_failure(w, kind, n);

			failed += !complete;
			if (complete && allocations < n)
				break;
			/* Whatever is left of it does not hinder the next one. */
			if (n % 10 == 0) {
				struct world_client *next = world_connect(w, kind, true);

				world_check_echo(next, "x");
				dtls_end(w->spoke, false, "next");
				world_client_free(next);
			}
			assert_true(stats_of(w).handshaking <= n);
		}
		assert_in_range(n, 20, 4999);
	}
	assert_true(failed > 20);
	world_wait(w, 61 * US_PER_S);
	assert_int_equal(stats_of(w).handshaking, 0);
	assert_int_equal(stats_of(w).sessions, 0);
	assert_int_equal(stats_of(w).live, 0);
}

static void test_want_of_memory_anywhere_in_a_psk_handshake_ends_only_that(void **state)
{
	check_no_memory(*state, WORLD_PSK_CLIENT);
}

static void test_want_of_memory_anywhere_in_a_certificate_handshake_ends_only_that(void **state)
{
	check_no_memory(*state, WORLD_CLIENT_CERTIFICATE);
}

static void test_parked_sessions_outlive_moments_without_memory(void **state)
{
	struct world *w = *state;
	struct world_client *c[2];

	deliver = w->callbacks.send;
	w->callbacks.send = send_outside;
	w->on_data = answer_if_possible;
	w->options.live_contexts = 1; /* one wakes when the other is parked */
	world_open(w);
	for (int i = 0; i < 2; i++) {
		c[i] = world_connect(w, WORLD_PSK_CLIENT, true);
		world_check_echo(c[i], "x");
	}
	for (size_t n = 1; n < 200; n++) {
		for_good = n % 4 < 2;
		w->passes = receive_inside;
		allocations = 0;
		fail_at = n / 4 + 1;
		world_say(c[n % 2], "may be lost");
		fail_at = 0;
		w->passes = NULL;
		for (int i = 0; i < 2; i++) {
			while (world_heard(c[i])[0])
				;
			world_check_echo(c[(n + (size_t)i) % 2], "x");
		}
	}
	assert_int_equal(stats_of(w).sessions, 2);
	assert_int_equal(w->closed_count, 0);
}

/* --- Forgeries --- */

static struct world_datagram forgery(struct world_client *c)
{
	struct world_datagram d;

	c->mute = true;
	world_say(c, "never arrives");
	c->mute = false;
	d = *world_sent(c, 0);
	d.bytes[d.len - 1] ^= 1;
	return d;
}

static void next_minute(struct world *w)
{
	world_wait(w, 60 * US_PER_S - world_now_us() % (60 * US_PER_S));
}

static void test_forgeries_are_dropped_unread_beyond_their_limit(void **state)
{
	struct world *w = *state;
	struct address forger = world_address(6666);
	struct world_client *c;
	struct world_datagram d;

	forger.ip[15] = 66;
	w->options.forgeries_per_source = 10;
	world_open(w);
	next_minute(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	d = forgery(c);
	for (int i = 0; i < 100; i++)
		world_inject(w, &forger, d.bytes, d.len);
	assert_int_equal(stats_of(w).dropped, 10);
	assert_int_equal(stats_of(w).limited, 90);
	/* The device is elsewhere. */
	world_check_echo(c, "y");
	world_client_move(c);
	world_check_echo(c, "z");
	next_minute(w);
	world_inject(w, &forger, d.bytes, d.len);
	assert_int_equal(stats_of(w).dropped, 11);
}

static void test_forger_behind_the_same_nat_does_not_hurt_his_neighbours(void **state)
{
	struct world *w = *state;
	struct address forger = world_address(6666);
	struct world_client *neighbour, *victim;
	struct world_datagram d;

	w->options.forgeries_per_source = 10;
	world_open(w);
	next_minute(w);
	neighbour = world_connect(w, WORLD_PSK_CLIENT, true);
	victim = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(neighbour, "x");
	world_check_echo(victim, "x");
	d = forgery(victim);
	for (int i = 0; i < 100; i++)
		world_inject(w, &forger, d.bytes, d.len);
	assert_int_equal(stats_of(w).limited, 90);
	world_check_echo(neighbour, "y");
	/* The one whose ID he has must wait for the next minute. */
	world_say(victim, "y");
	assert_string_equal(world_heard(victim), "");
	next_minute(w);
	world_check_echo(victim, "z");
}

static void test_unknown_cids_do_not_count_as_forgeries(void **state)
{
	struct world *w = *state;
	struct address forger = world_address(6666);
	struct world_client *c;
	struct world_datagram d;

	w->options.forgeries_per_source = 10;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(c, "x");
	d = forgery(c);
	for (int i = 0; i < 1000; i++) {
		random_bytes(d.bytes + 12, 7);
		world_inject(w, &forger, d.bytes, d.len);
	}
	assert_int_equal(stats_of(w).unknown_cid, 1000);
	world_client_move(c);
	world_check_echo(c, "y");
}

static void test_network_that_repeats_datagrams_is_no_forger(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	w->options.forgeries_per_source = 10;
	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	for (int i = 0; i < 100; i++) {
		world_check_echo(c, "x");
		world_inject(w, &c->address, world_sent(c, 0)->bytes, world_sent(c, 0)->len);
	}
	assert_int_equal(stats_of(w).limited, 0);
	world_client_move(c);
	world_check_echo(c, "y");
}

/* --- The key log --- */

static char keylog[64];

static int keylog_setup(void **state)
{
	struct world *w;

	if (world_setup(state) != 0)
		return -1;
	w = *state;
	snprintf(keylog, sizeof(keylog), "/tmp/fg-keylog-%d", (int)getpid());
	w->options.keylog_file = keylog;
	w->options.keylog_device = WORLD_PSK_IDENTITY;
	return 0;
}

static int keylog_teardown(void **state)
{
	unlink(keylog);
	return world_teardown(state);
}

static size_t keylog_lines(void)
{
	char line[512], random[80], secret[128];
	FILE *f = fopen(keylog, "r");
	size_t count = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "CLIENT_RANDOM %79s %127s", random, secret), 2);
		assert_int_equal(strlen(random), 64);
		assert_int_equal(strlen(secret), 96);
		count++;
	}
	fclose(f);
	return count;
}

static void test_key_log_has_the_named_devices_sessions_only(void **state)
{
	struct world *w = *state;
	struct dtls_identity other = {.id = "other"}, same = {.id = WORLD_PSK_IDENTITY};
	struct world_client *c;
	struct stat st;

	world_open(w);
	assert_int_equal(stat(keylog, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	world_connect(w, WORLD_CLIENT_CERTIFICATE, true);
	assert_int_equal(keylog_lines(), 0);
	world_connect(w, WORLD_PSK_CLIENT, true);
	assert_int_equal(keylog_lines(), 1);
	world_connect(w, WORLD_CERTIFICATE, true);
	assert_int_equal(dtls_identify(w->opened, &other), 0);
	assert_int_equal(keylog_lines(), 1);
	c = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(c, "anonymous so far");
	assert_int_equal(keylog_lines(), 1);
	assert_int_equal(dtls_identify(w->opened, &same), 0);
	assert_int_equal(keylog_lines(), 2);
}

static void test_secret_of_the_key_log_is_the_sessions(void **state)
{
	struct world *w = *state;
	struct world_client *c;
	char line[512], hex[65];
	FILE *f;

	world_open(w);
	c = world_connect(w, WORLD_PSK_CLIENT, true);
	for (size_t i = 0; i < 32; i++) /* of its ClientHello */
		snprintf(hex + 2 * i, 3, "%02x", c->kept[0].bytes[13 + 12 + 2 + i]);
	f = fopen(keylog, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_memory_equal(line + strlen("CLIENT_RANDOM "), hex, 64);
}

/* --- Files and their errors --- */

static void check_refused(struct world *w, const char *said)
{
	char err[512] = "";

	assert_int_equal(dtls_open(&w->endpoint, &w->options, &w->callbacks, err, sizeof(err)), -1);
	assert_null(w->endpoint);
	if (!strstr(err, said))
		fail_msg("\"%s\" is not in: %s", said, err);
}

static void test_wrong_settings_are_refused_by_name(void **state)
{
	struct world *w = *state;
	struct dtls_options good = w->options;

	w->options.suites = "PSK-AES128-CCM8 NULL-SHA";
	check_refused(w, "coap.suites: \"NULL-SHA\" is not known");
	w->options.suites = "PSK-AES128-CBC-SHA256";
	check_refused(w, "coap.legacy_cbc");
	w->options.suites = "";
	check_refused(w, "no suite is left");
	w->options = good;
	w->options.key_file = world_file("other.key");
	check_refused(w, "not the key of the first certificate");
	w->options.key_file = NULL;
	check_refused(w, "coap.key_file is not set");
	w->options = good;
	w->options.certificate_file = "/nonexistent";
	check_refused(w, "coap.certificate_file: /nonexistent");
	w->options.certificate_file = world_file("p384.pem");
	check_refused(w, "not P-256");
	w->options = good;
	w->options.client_ca_file = world_file("inter384.pem");
	check_refused(w, "coap.client_ca_file");
	w->options = good;
	w->options.slots_path = "/tmp/not-on-tmpfs/x.slots";
	check_refused(w, "tmpfs");
}

static void test_without_certificate_there_are_pre_shared_keys(void **state)
{
	struct world *w = *state;

	w->options.certificate_file = w->options.key_file = w->options.client_ca_file = NULL;
	world_open(w);
	world_check_echo(world_connect(w, WORLD_PSK_CLIENT, true), "x");
	assert_int_not_equal(world_handshake(world_client(w, WORLD_CERTIFICATE, true)), 0);
}

static void test_reload_changes_handshakes_from_now_on(void **state)
{
	struct world *w = *state;
	struct dtls_peer_options o;
	struct world_client *old, *parked, *new;
	struct dtls_options changed = w->options;
	char err[512] = "";

	w->options.live_contexts = 1;
	world_open(w);
	parked = world_connect(w, WORLD_PSK_CLIENT, true);
	world_check_echo(parked, "x");
	old = world_connect(w, WORLD_CERTIFICATE, true);
	world_check_echo(old, "x");

	changed.key_file = world_file("other.key");
	assert_int_equal(dtls_reload(w->endpoint, &changed, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "coap.key_file"));
	world_check_echo(world_connect(w, WORLD_CERTIFICATE, true), "as before");

	changed.certificate_file = world_file("stranger.pem");
	changed.key_file = world_file("stranger.key");
	assert_int_equal(dtls_reload(w->endpoint, &changed, err, sizeof(err)), 0);
	world_check_echo(old, "y");
	world_check_echo(parked, "y");
	assert_int_not_equal(world_handshake(world_client(w, WORLD_CERTIFICATE, true)), 0);
	world_client_options(w, WORLD_CERTIFICATE, true, &o);
	o.ca_file = NULL;
	new = world_client_with(w, &o);
	assert_int_equal(world_handshake(new), 0);
	world_check_echo(new, "z");
	world_check_echo(old, "z");
}

int main(void)
{
#define TEST(f)	       cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
#define KEYLOG_TEST(f) cmocka_unit_test_setup_teardown(f, keylog_setup, keylog_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_want_of_memory_anywhere_in_a_psk_handshake_ends_only_that),
		TEST(test_want_of_memory_anywhere_in_a_certificate_handshake_ends_only_that),
		TEST(test_parked_sessions_outlive_moments_without_memory),
		TEST(test_forgeries_are_dropped_unread_beyond_their_limit),
		TEST(test_forger_behind_the_same_nat_does_not_hurt_his_neighbours),
		TEST(test_unknown_cids_do_not_count_as_forgeries),
		TEST(test_network_that_repeats_datagrams_is_no_forger),
		KEYLOG_TEST(test_key_log_has_the_named_devices_sessions_only),
		KEYLOG_TEST(test_secret_of_the_key_log_is_the_sessions),
		TEST(test_wrong_settings_are_refused_by_name),
		TEST(test_without_certificate_there_are_pre_shared_keys),
		TEST(test_reload_changes_handshakes_from_now_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
