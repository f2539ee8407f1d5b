/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/jwt, time and fota/exec/current, as a device meets them: through the table of routes and the
 * CoAP server, in sessions of the DTLS endpoint.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "tests/coap/coap_bytes.h"
#include "tests/coap/dtls_world.h"
#include "tests/coap/jwt_text.h"

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))
#define NOW	    INT64_C(1700000000)
#define HEADER	    "{\"typ\":\"JWT\",\"alg\":\"ES256\"}"
#define CLAIMS(sub) "{\"sub\":\"" sub "\",\"iat\":1699999990,\"exp\":1700000600}"

/* --- The server --- */

enum key {
	KEY_DEV_1,
	KEY_DEV_1_NEW,
	KEY_DEV_1_REVOKED,
	KEY_DEV_2,
	KEY_SUSPENDED,
	KEY_PSK_DEVICE, /* of a device that has a pre-shared key, too */
	KEY_NOBODYS,
	KEY_COUNT,
};

static EVP_PKEY *keys[KEY_COUNT];
static const struct snapshot *fleet;
static char err[256];
static int64_t wall_us = NOW * US_PER_S;
static unsigned authenticated;
static uint16_t next_mid;
static struct world *world;

static struct {
	uint8_t bytes[2048];
	size_t len;
} sent;

static struct log_lines {
	unsigned count;
	char last[LOG_LINE_MAX];
} logged;

static struct config config = {
	.coap_idle_days = 30,
	.coap_idle_without_cid_s = 3600,
	.coap_lifetime_days = 365,
};

static struct resources resources;

static int64_t realtime(void)
{
	return wall_us;
}

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	logged.count++;
	snprintf(logged.last, sizeof(logged.last), "%s", line);
}

static bool identified(const struct dtls_session *s)
{
	return dtls_identity_proven(dtls_session_identity(s));
}

static void note_authenticated(struct resources *r, struct dtls_session *s)
{
	assert_ptr_equal(r, &resources);
	assert_true(identified(s));
	authenticated++;
}

static bool admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	(void)session;
	(void)method;
	(void)path;
	(void)reply;
	assert_ptr_equal(arg, &resources);
	return true;
}

static int keep_sent(void *arg, void *session, const uint8_t *data, size_t len)
{
	(void)arg;
	(void)session;
	assert_true(len <= sizeof(sent.bytes));
	memcpy(sent.bytes, data, len);
	sent.len = len;
	return 0;
}

static void add_device(struct snapshot_builder *b, const char *id, enum principal_state state)
{
	assert_int_equal(
		snapshot_add_principal(b, id, PRINCIPAL_DEVICE, state, "device", err, sizeof(err)),
		0);
}

static void fingerprint_of(enum key key, uint8_t out[FINGERPRINT_LEN])
{
	uint8_t *der;
	size_t len = jwt_public_key(keys[key], &der);

	assert_true(EVP_Digest(der, len, out, NULL, EVP_sha256(), NULL));
	OPENSSL_free(der);
}

static void add_key(struct snapshot_builder *b, const char *id, enum key key, bool revoked)
{
	uint8_t *der, fingerprint[FINGERPRINT_LEN];
	size_t len = jwt_public_key(keys[key], &der);

	fingerprint_of(key, fingerprint);
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_JWT, fingerprint, id, revoked, der,
						 len, err, sizeof(err)),
			 0);
	OPENSSL_free(der);
}

static void allow(struct snapshot_builder *b, enum policy_action action, const char *filter)
{
	assert_int_equal(
		snapshot_add_policy_rule(b, "device", false, action, filter, err, sizeof(err)), 0);
}

static int make_all(void **state)
{
	const struct coap_server_options o = {
		.routes = resource_routes,
		.route_count = resource_route_count,
		.arg = &resources,
		.admit = admit,
		.send = keep_sent,
		.max_body = 65536,
		.max_transfers = 2,
		.max_transfers_all = 8,
		.max_exchanges = 16,
		.max_observations = 4,
		.dedup_per_session = 4,
		.dedup_bytes = 1 << 20,
	};
	struct snapshot_builder *b = snapshot_builder_new();

	(void)state;
	for (int i = 0; i < KEY_COUNT; i++)
		keys[i] = EVP_EC_gen("P-256");
	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	allow(b, POLICY_PUBLISH, "m/d/${device}/d2c/#");
	allow(b, POLICY_RECEIVE, "m/d/${device}/state");
	add_device(b, "dev-1", PRINCIPAL_ACTIVE);
	add_key(b, "dev-1", KEY_DEV_1, false);
	add_key(b, "dev-1", KEY_DEV_1_NEW, false);
	add_key(b, "dev-1", KEY_DEV_1_REVOKED, true);
	add_device(b, "dev-2", PRINCIPAL_ACTIVE);
	add_key(b, "dev-2", KEY_DEV_2, false);
	add_device(b, WORLD_PSK_IDENTITY, PRINCIPAL_ACTIVE);
	add_key(b, WORLD_PSK_IDENTITY, KEY_PSK_DEVICE, false);
	add_device(b, "dev-s", PRINCIPAL_SUSPENDED);
	add_key(b, "dev-s", KEY_SUSPENDED, false);
	fleet = snapshot_build(b, 1);
	resources.config = &config;
	resources.jwt_rules = (struct jwt_rules){.leeway_s = 300, .max_lifetime_s = 3600};
	resources.authenticated = note_authenticated;
	arena_init(&resources.arena, 4096, 65536);
	return coap_server_open(&resources.server, &o);
}

static int drop_all(void **state)
{
	(void)state;
	coap_server_close(resources.server);
	arena_free(&resources.arena);
	snapshot_release(fleet);
	for (int i = 0; i < KEY_COUNT; i++)
		EVP_PKEY_free(keys[i]);
	return 0;
}

static int begin(void **state)
{
	if (world_setup(state) != 0)
		return -1;
	world = *state;
	clock_override(realtime, world_now_us);
	log_set_sink(keep_line, NULL);
	world_open(world);
	resources.snapshot = fleet;
	memset(&resources.refused, 0, sizeof(resources.refused));
	memset(&logged, 0, sizeof(logged));
	authenticated = 0;
	return 0;
}

/* --- Asking --- */

/* A new session of somebody at 192.0.2.<last_byte>. */
static struct dtls_session *session_with(enum world_kind kind, bool cid, uint8_t last_byte)
{
	struct world_client *c = world_client(world, kind, cid);

	c->address.ip[15] = last_byte;
	world->opened = NULL;
	assert_int_equal(world_handshake(c), 0);
	assert_non_null(world->opened);
	return world->opened;
}

static struct dtls_session *session_at(uint8_t last_byte)
{
	return session_with(WORLD_CERTIFICATE, true, last_byte);
}

static struct coap_seen answer_to(struct dtls_session *s, const struct coap_bytes *b)
{
	struct coap_peer *peer = NULL;
	struct coap_seen seen;

	sent.len = 0;
	coap_server_receive(resources.server, &peer, dtls_session_id(s), s, b->data, b->len);
	assert_true(coap_see(&seen, sent.bytes, sent.len));
	assert_int_equal(seen.type, B_ACK);
	coap_server_forget(resources.server, &peer);
	return seen;
}

static struct coap_seen ask(struct dtls_session *s, unsigned method, const char *path, int format,
			    int accept, const void *payload, size_t len)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, method, next_mid++, "t");
	bytes_path(&b, path);
	if (format != FG_COAP_FORMAT_NONE)
		bytes_number(&b, OPT_CONTENT_FORMAT, (uint32_t)format);
	if (accept != FG_COAP_FORMAT_NONE)
		bytes_number(&b, OPT_ACCEPT, (uint32_t)accept);
	if (len > 0)
		bytes_payload(&b, payload, len);
	return answer_to(s, &b);
}

static struct coap_seen log_in_with(struct dtls_session *s, const void *token, size_t len)
{
	return ask(s, FG_COAP_POST, "auth/jwt", FG_COAP_TEXT, FG_COAP_FORMAT_NONE, token, len);
}

static struct coap_seen log_in(struct dtls_session *s, enum key key, const char *claims)
{
	struct jwt_text t;

	jwt_make(&t, keys[key], HEADER, claims);
	return log_in_with(s, t.at, t.len);
}

static void expect_let_in(const struct coap_seen *seen, int64_t max_age_s)
{
	if (seen->code != CODE(2, 1))
		fail_msg("%u.%02u: %s", seen->code >> 5, seen->code & 31, logged.last);
	assert_int_equal(seen->payload_len, 0);
	assert_int_equal(seen->option_count, 1);
	assert_int_equal(seen_number(seen, OPT_MAX_AGE), max_age_s);
}

/* All that a refused peer is told. */
static void expect_refused(const struct coap_seen *seen, const char *name)
{
	if (seen->code != CODE(4, 1) || seen->option_count != 0 || !seen_text(seen, "not let in"))
		fail_msg("%s: %u.%02u", name, seen->code >> 5, seen->code & 31);
}

static void expect_line(const char *what)
{
	if (!strstr(logged.last, what))
		fail_msg("'%s' is not in: %s", what, logged.last);
}

/* --- Being let in --- */

static void test_a_good_token_makes_the_session_its_devices(void **state)
{
	struct dtls_session *s = session_at(1);
	uint8_t fingerprint[FINGERPRINT_LEN];
	struct coap_seen seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));

	(void)state;
	expect_let_in(&seen, 30 * 86400);
	assert_string_equal(dtls_session_identity(s)->id, "dev-1");
	assert_int_equal(dtls_session_identity(s)->kind, CREDENTIAL_JWT);
	fingerprint_of(KEY_DEV_1, fingerprint);
	assert_memory_equal(dtls_session_identity(s)->fingerprint, fingerprint, FINGERPRINT_LEN);
	assert_int_equal(authenticated, 1);
	assert_int_equal(logged.count, 0);
}

static void test_nordics_library_asks_with_a_query(void **state)
{
	struct dtls_session *s = session_at(1);
	struct coap_seen seen;
	struct coap_bytes b;
	struct jwt_text t;

	(void)state;
	jwt_make(&t, keys[KEY_DEV_1], HEADER, CLAIMS("dev-1"));
	bytes_begin(&b, B_CON, CODE(0, 2), next_mid++, "12345678");
	bytes_path(&b, "auth/jwt");
	bytes_number(&b, OPT_CONTENT_FORMAT, FG_COAP_TEXT);
	bytes_option(&b, OPT_URI_QUERY, "mver=mfw_nrf9160_1.3.5", 22);
	bytes_option(&b, OPT_URI_QUERY, "cver=1", 6);
	bytes_option(&b, OPT_URI_QUERY, "dver=2.7.0", 10);
	bytes_payload(&b, t.at, t.len);
	seen = answer_to(s, &b);
	expect_let_in(&seen, 30 * 86400);
}

static void test_max_age_is_how_long_the_device_may_sleep(void **state)
{
	struct dtls_session *s = session_with(WORLD_CERTIFICATE, false, 1);
	struct coap_seen seen;

	(void)state;
	seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	expect_let_in(&seen, 3600);
	config.coap_lifetime_days = 7;
	seen = log_in(session_at(1), KEY_DEV_1, CLAIMS("dev-1"));
	expect_let_in(&seen, 7 * 86400);
	config.coap_lifetime_days = 365;
}

static void test_a_token_without_content_format_is_text(void **state)
{
	struct dtls_session *s = session_at(1);
	struct coap_seen seen;
	struct jwt_text t;

	(void)state;
	jwt_make(&t, keys[KEY_DEV_1], HEADER, CLAIMS("dev-1"));
	seen = ask(s, FG_COAP_POST, "auth/jwt", FG_COAP_FORMAT_NONE, FG_COAP_FORMAT_NONE, t.at,
		   t.len);
	expect_let_in(&seen, 30 * 86400);
	s = session_at(1);
	seen = ask(s, FG_COAP_POST, "auth/jwt", FG_COAP_CBOR, FG_COAP_FORMAT_NONE, t.at, t.len);
	assert_int_equal(seen.code, CODE(4, 15));
	assert_false(identified(s));
	seen = ask(s, FG_COAP_GET, "auth/jwt", FG_COAP_FORMAT_NONE, FG_COAP_FORMAT_NONE, NULL, 0);
	assert_int_equal(seen.code, CODE(4, 5));
}

/* --- Being refused --- */

static const struct {
	const char *name;
	enum key key;
	const char *claims;
	const char *device, *why; /* in the log */
} refused[] = {
	{"forged", KEY_NOBODYS, CLAIMS("dev-1"), "device=dev-1",
	 "signed with none of its 2 key(s)"},
	{"another's", KEY_DEV_2, CLAIMS("dev-1"), "device=dev-1", "signed with none of its"},
	{"unknown", KEY_NOBODYS, CLAIMS("dev-9"), NULL, "'dev-9', who is not registered"},
	{"no id", KEY_NOBODYS, CLAIMS("a b"), NULL, "'a b', which can be no device's id"},
	{"revoked", KEY_DEV_1_REVOKED, CLAIMS("dev-1"), "device=dev-1",
	 "key of this JWT is revoked"},
	{"suspended", KEY_SUSPENDED, CLAIMS("dev-s"), "device=dev-s", "suspended; to let it in"},
	{"expired", KEY_DEV_1, "{\"sub\":\"dev-1\",\"exp\":1699990000}", "device=dev-1", "expired"},
	{"no dates", KEY_DEV_1, "{\"sub\":\"dev-1\"}", "device=dev-1", "neither `exp` nor `iat`"},
};

static void test_every_refusal_looks_the_same_outside_and_is_precise_inside(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(refused); i++) {
		struct dtls_session *s = session_at(10);
		struct coap_seen seen;

		memset(&resources.refused, 0, sizeof(resources.refused));
		seen = log_in(s, refused[i].key, refused[i].claims);
		expect_refused(&seen, refused[i].name);
		assert_false(identified(s));
		assert_int_equal(logged.count, i + 1);
		expect_line("level=warn event=login_refused ");
		expect_line("from 192.0.2.");
		expect_line(refused[i].why);
		if (refused[i].device)
			expect_line(refused[i].device);
		else
			assert_null(strstr(logged.last, "device="));
	}
	assert_int_equal(authenticated, 0);
}

static void test_what_is_no_token_is_refused_like_a_bad_one(void **state)
{
	static const uint8_t bytes[1100] = {0xff};
	static const size_t lengths[] = {0, 1, 100, 1024, 1025, 1100};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		struct dtls_session *s = session_at(20);
		struct coap_seen seen = log_in_with(s, bytes, lengths[i]);

		expect_refused(&seen, "bytes");
	}
	assert_int_equal(logged.count, 1);
}

static void test_nothing_of_a_token_is_logged(void **state)
{
	struct dtls_session *s = session_at(21);
	struct coap_seen seen;
	struct jwt_text t;
	char part[9];

	(void)state;
	jwt_make(&t, keys[KEY_NOBODYS], HEADER, CLAIMS("dev-1"));
	seen = log_in_with(s, t.at, t.len);
	expect_refused(&seen, "forged");
	assert_int_equal(logged.count, 1);
	for (size_t i = 0; i + 8 < t.len; i++) {
		snprintf(part, sizeof(part), "%.8s", t.at + i);
		assert_null(strstr(logged.last, part));
	}
}

static void test_one_line_in_ten_seconds_for_who_keeps_on_trying(void **state)
{
	struct dtls_session *s = session_at(22);

	(void)state;
	for (int i = 0; i < 50; i++)
		log_in(s, KEY_NOBODYS, CLAIMS("dev-1"));
	assert_int_equal(logged.count, 1);
	world_wait(world, 10 * US_PER_S);
	log_in(s, KEY_NOBODYS, CLAIMS("dev-1"));
	assert_int_equal(logged.count, 2);
	expect_line("(49 more since the last such line)");
}

/* Two who share a slot of the limits share a line, one in 1024 times: so there are more here. */

static void test_a_stranger_cannot_silence_the_log_of_a_device(void **state)
{
	struct dtls_session *stranger = session_at(23);

	(void)state;
	for (int i = 0; i < 50; i++)
		log_in(stranger, KEY_NOBODYS, CLAIMS("dev-1"));
	assert_int_equal(logged.count, 1);
	for (uint8_t i = 0; i < 4; i++)
		log_in(session_at(30 + i), KEY_DEV_1_REVOKED, CLAIMS("dev-1"));
	assert_true(logged.count > 1);
	expect_line("from 192.0.2.3");
	expect_line("key of this JWT is revoked");
}

static void test_devices_behind_one_address_have_a_line_each(void **state)
{
	(void)state;
	log_in(session_at(26), KEY_NOBODYS, CLAIMS("dev-1"));
	log_in(session_at(26), KEY_NOBODYS, CLAIMS("dev-2"));
	log_in(session_at(26), KEY_NOBODYS, CLAIMS("dev-s"));
	log_in(session_at(26), KEY_NOBODYS, CLAIMS(WORLD_PSK_IDENTITY));
	assert_true(logged.count > 1);
	log_in(session_at(26), KEY_NOBODYS, CLAIMS("dev-1"));
	assert_true(logged.count <= 4);
}

static void test_without_a_registry_nobody_is_refused(void **state)
{
	const struct snapshot *empty = snapshot_build(snapshot_builder_new(), 0);
	struct dtls_session *s = session_at(25);
	struct coap_seen seen;

	(void)state;
	resources.snapshot = empty;
	seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	assert_int_equal(seen.code, CODE(5, 3));
	assert_int_equal(seen_number(&seen, OPT_MAX_AGE), 5);
	assert_false(identified(s));
	expect_line("event=login_delayed");
	resources.snapshot = fleet;
	seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	expect_let_in(&seen, 30 * 86400);
	snapshot_release(empty);
}

/* --- Again --- */

static void test_logging_in_again_changes_nothing(void **state)
{
	struct dtls_session *s = session_at(1);
	struct coap_seen seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	struct dtls_identity before = *dtls_session_identity(s);

	(void)state;
	seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	expect_let_in(&seen, 30 * 86400);
	seen = log_in(s, KEY_DEV_1_NEW, CLAIMS("dev-1"));
	expect_let_in(&seen, 30 * 86400);
	assert_memory_equal(dtls_session_identity(s), &before, sizeof(before));
	assert_int_equal(authenticated, 1);
	assert_int_equal(logged.count, 0);
}

static void test_a_session_cannot_become_another_devices(void **state)
{
	struct dtls_session *s = session_at(1);
	struct coap_seen seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	struct dtls_identity before = *dtls_session_identity(s);

	(void)state;
	seen = log_in(s, KEY_DEV_2, CLAIMS("dev-2"));
	expect_refused(&seen, "dev-2 in dev-1's session");
	assert_memory_equal(dtls_session_identity(s), &before, sizeof(before));
	assert_int_equal(authenticated, 1);
	expect_line("device=dev-2");
	expect_line("a session that belongs to dev-1 until it ends");
}

static void test_a_bad_token_leaves_the_session_as_it_was(void **state)
{
	struct dtls_session *s = session_at(1);
	struct coap_seen seen = log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	struct dtls_identity before = *dtls_session_identity(s);

	(void)state;
	seen = log_in(s, KEY_NOBODYS, CLAIMS("dev-1"));
	expect_refused(&seen, "forged");
	assert_memory_equal(dtls_session_identity(s), &before, sizeof(before));
}

static void test_a_session_that_the_handshake_identified_keeps_that_credential(void **state)
{
	struct dtls_session *s = session_with(WORLD_PSK_CLIENT, true, 1);
	struct dtls_identity before = *dtls_session_identity(s);
	struct coap_seen seen;

	(void)state;
	assert_string_equal(before.id, WORLD_PSK_IDENTITY);
	seen = log_in(s, KEY_PSK_DEVICE, CLAIMS(WORLD_PSK_IDENTITY));
	expect_let_in(&seen, 30 * 86400);
	assert_memory_equal(dtls_session_identity(s), &before, sizeof(before));
	assert_int_equal(authenticated, 0);
	seen = log_in(s, KEY_DEV_2, CLAIMS("dev-2"));
	expect_refused(&seen, "dev-2 in another's session");
	assert_memory_equal(dtls_session_identity(s), &before, sizeof(before));
}

/* --- time, fota/exec/current --- */

static struct coap_seen get(const char *path, int accept)
{
	return ask(session_at(1), FG_COAP_GET, path, FG_COAP_FORMAT_NONE, accept, NULL, 0);
}

static void test_time_in_three_forms(void **state)
{
	static const struct {
		int accept, format;
		const char *payload;
	} lines[] = {
		{FG_COAP_FORMAT_NONE, FG_COAP_TEXT, "2023-11-14T22:13:20Z"},
		{FG_COAP_TEXT, FG_COAP_TEXT, "2023-11-14T22:13:20Z"},
		{FG_COAP_JSON, FG_COAP_JSON, "1700000000"},
		{FG_COAP_CBOR, FG_COAP_CBOR, "\x1a\x65\x53\xf1\x00"},
	};

	(void)state;
	wall_us = NOW * US_PER_S + US_PER_S - 1;
	for (size_t i = 0; i < COUNT_OF(lines); i++) {
		struct coap_seen seen = get("time", lines[i].accept);
		size_t len = lines[i].format == FG_COAP_CBOR ? 5 : strlen(lines[i].payload);

		assert_int_equal(seen.code, CODE(2, 5));
		assert_int_equal(seen_number(&seen, OPT_CONTENT_FORMAT), lines[i].format);
		assert_int_equal(seen_number(&seen, OPT_MAX_AGE), 0);
		assert_int_equal(seen.payload_len, len);
		assert_memory_equal(seen.payload, lines[i].payload, len);
	}
	assert_int_equal(get("time", FG_COAP_LINK_FORMAT).code, CODE(4, 6));
	wall_us = NOW * US_PER_S;
}

static void test_there_is_no_update(void **state)
{
	struct coap_seen seen = get("fota/exec/current", FG_COAP_FORMAT_NONE);

	(void)state;
	assert_int_equal(seen.code, CODE(4, 4));
	assert_true(seen_text(&seen, "no update is waiting"));
}

/* --- What they share --- */

static void test_three_paths_are_public_and_no_other(void **state)
{
	static const char *const out[] = {
		"",	    "auth",	  "auth/jw", "auth/jwt2",   "auth/jwt/",
		"Auth/jwt", "time/x",	  "time2",   ".well-known", "msg/d2c",
		"state",    "store/time", "store",   "auth/jwt/x",
	};

	(void)state;
	assert_true(resource_public("auth/jwt"));
	assert_true(resource_public(".well-known/core"));
	assert_true(resource_public("time"));
	for (size_t i = 0; i < COUNT_OF(out); i++)
		assert_false(resource_public(out[i]));
}

static bool allowed(struct dtls_session *s, enum policy_action action, const char *rest)
{
	struct coap_reply reply = {.max_age_s = -1};
	bool yes = resource_allowed(&resources, s, action, rest, &reply);

	if (!yes) {
		assert_int_equal(reply.code, CODE(4, 3));
		assert_string_equal(reply.diagnostic, "this device's policy does not allow it");
		assert_null(reply.payload);
	}
	return yes;
}

static void test_policy_is_asked_for_the_devices_own_topics(void **state)
{
	const struct dtls_identity removed = {.id = "dev-9", .kind = CREDENTIAL_JWT};
	struct dtls_session *s = session_at(1), *gone = session_at(1);
	char too_long[400];

	(void)state;
	log_in(s, KEY_DEV_1, CLAIMS("dev-1"));
	assert_true(allowed(s, POLICY_PUBLISH, "d2c"));
	assert_true(allowed(s, POLICY_PUBLISH, "d2c/bulk"));
	assert_true(allowed(s, POLICY_RECEIVE, "state"));
	assert_int_equal(logged.count, 0);
	assert_false(allowed(s, POLICY_PUBLISH, "state"));
	expect_line("event=publish_refused device=dev-1");
	expect_line("may not publish m/d/dev-1/state: no rule allows it in policy device");
	assert_false(allowed(s, POLICY_RECEIVE, "d2c"));
	assert_int_equal(logged.count, 1);
	world_wait(world, 10 * US_PER_S);
	assert_false(allowed(s, POLICY_RECEIVE, "d2c"));
	expect_line("event=receive_refused device=dev-1");
	assert_false(allowed(s, POLICY_PUBLISH, "d2c/#"));
	assert_false(allowed(s, POLICY_PUBLISH, "d2c/+"));
	memset(too_long, 'a', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	memcpy(too_long, "d2c/", 4);
	assert_false(allowed(s, POLICY_PUBLISH, too_long));

	assert_int_equal(dtls_identify(gone, &removed), 0);
	memset(&resources.refused, 0, sizeof(resources.refused));
	assert_false(allowed(gone, POLICY_PUBLISH, "d2c"));
	expect_line("it is not registered any more");
}

static void test_well_known_core_lists_every_resource_once(void **state)
{
	struct coap_seen seen = get(".well-known/core", FG_COAP_FORMAT_NONE);
	char links[2048], link[128];

	(void)state;
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen.payload_len < sizeof(links));
	memcpy(links, seen.payload, seen.payload_len);
	links[seen.payload_len] = '\0';
	for (size_t i = 0; i < resource_route_count; i++) {
		const char *found;

		snprintf(link, sizeof(link), "</%s>;%s", resource_routes[i].path,
			 resource_routes[i].attributes);
		found = strstr(links, link);
		if (!found || strstr(found + 1, link))
			fail_msg("%s in %s", link, links);
	}
}

static void test_resources_and_methods_are_those_of_the_contract(void **state)
{
	static const struct {
		const char *path, *methods;
		bool subtree, observable;
	} lines[] = {
		{"auth/jwt", "-+-----", false, false},
		{"time", "+------", false, false},
		{"msg/d2c", "-++----", false, false},
		{"msg/d2c/bulk", "-++----", false, false},
		{"msg/d2c/raw", "-++----", false, false},
		{"msg/d2c/bin", "-++----", false, false},
		{"msg/c2d", "+--+---", false, true},
		{"msg/c2d", "+--+---", true, true},
		{"state", "+------", false, true},
		{"state/reported", "--+--++", false, false},
		{"state/desired", "--+--++", false, false},
		{"store", "+-++---", true, true},
		{"fota/exec/current", "+------", false, false},
	};

	(void)state;
	assert_int_equal(resource_route_count, COUNT_OF(lines));
	for (size_t i = 0; i < COUNT_OF(lines); i++) {
		const struct coap_route *r = &resource_routes[i];

		assert_string_equal(r->path, lines[i].path);
		assert_int_equal(r->subtree, lines[i].subtree);
		assert_int_equal(r->observable, lines[i].observable);
		for (unsigned m = FG_COAP_GET; m <= FG_COAP_IPATCH; m++)
			if (((r->methods & FG_COAP_METHOD(m)) != 0) !=
			    (lines[i].methods[m - 1] == '+'))
				fail_msg("%s, method %u", r->path, m);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_good_token_makes_the_session_its_devices),
		TEST(test_nordics_library_asks_with_a_query),
		TEST(test_max_age_is_how_long_the_device_may_sleep),
		TEST(test_a_token_without_content_format_is_text),
		TEST(test_every_refusal_looks_the_same_outside_and_is_precise_inside),
		TEST(test_what_is_no_token_is_refused_like_a_bad_one),
		TEST(test_nothing_of_a_token_is_logged),
		TEST(test_one_line_in_ten_seconds_for_who_keeps_on_trying),
		TEST(test_a_stranger_cannot_silence_the_log_of_a_device),
		TEST(test_devices_behind_one_address_have_a_line_each),
		TEST(test_without_a_registry_nobody_is_refused),
		TEST(test_logging_in_again_changes_nothing),
		TEST(test_a_session_cannot_become_another_devices),
		TEST(test_a_bad_token_leaves_the_session_as_it_was),
		TEST(test_a_session_that_the_handshake_identified_keeps_that_credential),
		TEST(test_time_in_three_forms),
		TEST(test_there_is_no_update),
		TEST(test_three_paths_are_public_and_no_other),
		TEST(test_policy_is_asked_for_the_devices_own_topics),
		TEST(test_well_known_core_lists_every_resource_once),
		TEST(test_resources_and_methods_are_those_of_the_contract),
	};

	return cmocka_run_group_tests(tests, make_all, drop_all);
}
