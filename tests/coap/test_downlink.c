/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg/c2d where tests with the real database cannot reach: what happens between a question to it
 * and its answer, and answers that it gives once in a thousand years. So the database is played
 * here; tests/integration/test_downlink_coap.py has the real one.
 *
 * LINK: -Wl,--wrap=dtls_session_identity,--wrap=documents_ask,--wrap=documents_waiting
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "tests/coap/coap_fixture.h"

#define ASKED_MAX 32

static struct resources resources;
static struct fixture *f;
static const struct snapshot *all, *none;
static const struct dtls_identity identity = {.id = "x"};
static uint16_t next_mid;
static bool is_let_in;

static struct {
	struct document_request asked[ASKED_MAX];
	size_t count, answered;
	int refuse; /* -errno */
	bool waiting;
} database;

const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s);
const struct dtls_identity *__wrap_dtls_session_identity(const struct dtls_session *s)
{
	(void)s;
	return &identity;
}

int __wrap_documents_ask(struct documents *d, const struct document_request *r);
int __wrap_documents_ask(struct documents *d, const struct document_request *r)
{
	(void)d;
	assert_string_equal(r->device, "x");
	assert_true(database.count < ASKED_MAX);
	if (database.refuse != 0)
		return database.refuse;
	database.asked[database.count++] = *r;
	return 0;
}

bool __wrap_documents_waiting(struct documents *d, const char *device);
bool __wrap_documents_waiting(struct documents *d, const char *device)
{
	(void)d;
	assert_string_equal(device, "x");
	return database.waiting;
}

static bool let_in(struct resources *r, struct dtls_session *s)
{
	(void)r;
	(void)s;
	return is_let_in;
}

static void quiet(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

static const struct snapshot *make_snapshot(const char *filter)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	char err[128];

	assert_int_equal(snapshot_add_policy(b, "p", err, sizeof(err)), 0);
	assert_int_equal(
		snapshot_add_policy_rule(b, "p", false, POLICY_RECEIVE, filter, err, sizeof(err)),
		0);
	assert_int_equal(snapshot_add_principal(b, "x", PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE, "p",
						err, sizeof(err)),
			 0);
	s = snapshot_build(b, 1);
	assert_non_null(s);
	return s;
}

static int set_up(void **state)
{
	(void)state;
	log_set_sink(quiet, NULL);
	memset(&resources, 0, sizeof(resources));
	memset(&database, 0, sizeof(database));
	all = make_snapshot("m/d/${device}/#");
	none = make_snapshot("m/d/${device}/c2d/yes");
	is_let_in = true;
	resources.snapshot = all;
	resources.let_in = let_in;
	arena_init(&resources.arena, 65536, 1u << 20);
	fixture_defaults();
	fixture_options.arg = &resources;
	fixture_options.admit = NULL;
	fixture_options.routes = resource_routes;
	fixture_options.route_count = resource_route_count;
	fixture_options.delivered = resource_delivered;
	fixture_options.acknowledge_after_us = US_PER_S / 2;
	f = fixture_new();
	resources.server = f->server;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fixture_free(f);
	arena_free(&resources.arena);
	snapshot_release(all);
	snapshot_release(none);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

/* --- The device --- */

struct ask {
	const char *path, *query;
	const char *etag;
	size_t etag_len;
	int accept; /* the number + 1 */
	bool observe;
};

static void get_with(struct ask a)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), ++next_mid, "t");
	if (a.etag_len > 0)
		bytes_option(&b, OPT_ETAG, a.etag, a.etag_len);
	if (a.observe)
		bytes_number(&b, OPT_OBSERVE, 0);
	bytes_path(&b, a.path ? a.path : "msg/c2d");
	if (a.query)
		bytes_option(&b, OPT_URI_QUERY, a.query, strlen(a.query));
	if (a.accept)
		bytes_number(&b, OPT_ACCEPT, (uint32_t)a.accept - 1);
	deliver(f->a, &b);
}

#define GET(...) get_with((struct ask){__VA_ARGS__})

/* --- The database --- */

static const struct document_request *question(enum document_operation op)
{
	const struct document_request *q;

	coap_server_tick(f->server);
	if (database.answered == database.count)
		fail_msg("nothing is asked");
	q = &database.asked[database.answered];
	assert_int_equal(q->operation, op);
	assert_string_equal(q->over, "coap");
	return q;
}

static void no_question(void)
{
	coap_server_tick(f->server);
	assert_int_equal(database.answered, database.count);
}

/* To the oldest question that is not answered yet. */
static void answer(const struct document_answer *given)
{
	struct document_answer a = *given;

	a.request = &database.asked[database.answered++];
	a.cookie = a.request->cookie;
	a.why = "";
	resource_document_answered(&resources, &a);
	coap_server_tick(f->server);
}

static void answer_message(int64_t id, const char *payload)
{
	question(DOCUMENT_DOWNLINK_NEXT);
	answer(&(struct document_answer){.outcome = DOCUMENT_OK,
					 .version = id,
					 .format = FG_COAP_JSON,
					 .payload = payload,
					 .payload_len = strlen(payload)});
}

static void answer_outcome(enum document_operation op, enum document_outcome outcome)
{
	question(op);
	answer(&(struct document_answer){.outcome = outcome, .format = -1});
}

static void insert(void)
{
	resource_document_changed(
		&resources,
		&(struct document_change){.what = DOCUMENT_CHANGED_DOWNLINK, .device = "x"});
	coap_server_tick(f->server);
}

/* Registers while nothing waits. */
static void observe(void)
{
	GET(.observe = true);
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_NOT_FOUND);
	assert_int_equal(expect(f->a).code, CODE(2, 5));
	assert_int_equal(stats_of(f).observations, 1);
}

static uint16_t expect_notified(const char *payload)
{
	struct coap_seen seen = expect(f->a);

	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_true(seen_text(&seen, payload));
	return seen.mid;
}

/* --- Numbers and ETags --- */

static void test_an_etag_is_the_number_as_short_as_it_can_be(void **state)
{
	static const struct {
		int64_t id;
		const char *etag;
		size_t len;
	} lines[] = {
		{1, "\1", 1},
		{255, "\xff", 1},
		{256, "\1\0", 2},
		{INT64_C(1) << 40, "\1\0\0\0\0\0", 6},
		{INT64_MAX, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct coap_seen seen;

		GET(.etag = lines[i].etag, .etag_len = lines[i].len);
		assert_int_equal(question(DOCUMENT_DOWNLINK_NEXT)->if_version, lines[i].id);
		answer_message(lines[i].id, "1");
		seen = expect(f->a);
		for (size_t o = 0; o < seen.option_count; o++)
			if (seen.option[o].number == OPT_ETAG) {
				assert_int_equal(seen.option[o].len, lines[i].len);
				assert_memory_equal(seen.option[o].value, lines[i].etag,
						    lines[i].len);
			}
		assert_true(seen_has(&seen, OPT_ETAG));
	}
}

static void test_other_etags_are_no_numbers(void **state)
{
	static const struct {
		const char *etag;
		size_t len;
	} lines[] = {{"\0", 1}, {"\0\1", 2}, {"\x80\0\0\0\0\0\0\0", 8}, {NULL, 0}};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		GET(.etag = lines[i].etag, .etag_len = lines[i].len);
		assert_int_equal(question(DOCUMENT_DOWNLINK_NEXT)->if_version, -1);
		answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_NOT_FOUND);
		expect(f->a);
	}
}

static void test_a_path_below_asks_for_its_subtopic(void **state)
{
	(void)state;
	GET(.path = "msg/c2d/a/b");
	assert_string_equal(question(DOCUMENT_DOWNLINK_NEXT)->name, "a/b");
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_NOT_FOUND);
	GET(.path = "msg/c2d");
	assert_null(question(DOCUMENT_DOWNLINK_NEXT)->name);
}

/* --- What is marked --- */

static void test_an_acknowledgement_marks_and_asks_for_the_next(void **state)
{
	const struct document_request *q;

	(void)state;
	observe();
	insert();
	answer_message(7, "1");
	send_empty(f->a, B_ACK, expect_notified("1"));
	q = question(DOCUMENT_DOWNLINK_DONE);
	assert_int_equal(q->if_version, 7);
	assert_null(q->cookie);
	assert_true(q->uncounted);
	answer_outcome(DOCUMENT_DOWNLINK_DONE, DOCUMENT_OK);
	assert_int_equal(question(DOCUMENT_DOWNLINK_NEXT)->if_version, 7);
	answer_message(8, "2");
	expect_notified("2");
	expect_nothing(f->a);
}

static void test_a_reset_or_silence_marks_nothing(void **state)
{
	(void)state;
	observe();
	insert();
	answer_message(7, "1");
	send_empty(f->a, B_RST, expect_notified("1"));
	no_question();
	observe();
	insert();
	answer_message(7, "1");
	fixture_run(f, 200 * US_PER_S);
	no_question();
	assert_int_equal(stats_of(f).observations, 0);
}

static void test_the_acknowledgement_of_an_error_marks_nothing(void **state)
{
	struct coap_seen seen;

	(void)state;
	GET(.observe = true, .accept = FG_COAP_CBOR + 1);
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_NOT_FOUND);
	expect(f->a);
	insert();
	answer_message(7, "1");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 6));
	assert_int_equal(seen.type, B_CON);
	assert_false(seen_has(&seen, OPT_ETAG));
	send_empty(f->a, B_ACK, seen.mid);
	no_question();
}

static void test_an_acknowledgement_that_cannot_be_marked_is_said_again(void **state)
{
	(void)state;
	observe();
	insert();
	answer_message(7, "1");
	database.refuse = -ENOTCONN;
	send_empty(f->a, B_ACK, expect_notified("1"));
	fixture_run(f, 10 * COAP_NOT_NOW_US);
	no_question();
	assert_int_equal(stats_of(f).observations, 1);
	database.refuse = 0;
	fixture_run(f, COAP_NOT_NOW_US + 1);
	assert_int_equal(question(DOCUMENT_DOWNLINK_NEXT)->if_version, 7);
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_NOT_FOUND);
	fixture_run(f, 10 * COAP_NOT_NOW_US);
	no_question();
	expect_nothing(f->a);
}

static void test_a_database_that_does_not_answer_does_not_end_an_observation(void **state)
{
	(void)state;
	observe();
	insert();
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_UNAVAILABLE);
	no_question();
	expect_nothing(f->a);
	fixture_run(f, COAP_NOT_NOW_US + 1);
	answer_message(7, "1");
	expect_notified("1");

	GET(.path = "msg/c2d");
	answer_outcome(DOCUMENT_DOWNLINK_NEXT, DOCUMENT_UNAVAILABLE);
	assert_int_equal(expect(f->a).code, CODE(5, 3));
}

/* --- Rights that are lost while the database is asked --- */

static void test_who_is_not_let_in_any_more_gets_nothing(void **state)
{
	struct coap_seen seen;

	(void)state;
	observe();
	insert();
	is_let_in = false;
	answer_message(7, "secret");
	expect_nothing(f->a);
	GET(.path = "msg/c2d");
	answer_message(7, "secret");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 1));
	assert_int_equal(seen.payload_len, 0);
	assert_false(seen_has(&seen, OPT_ETAG));
}

static void test_the_policy_counts_that_holds_when_the_answer_comes(void **state)
{
	struct coap_seen seen;

	(void)state;
	observe();
	insert();
	resources.snapshot = none;
	answer_message(7, "secret");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 3));
	assert_int_equal(stats_of(f).observations, 0);
	send_empty(f->a, B_ACK, seen.mid);
	no_question();
	GET(.path = "msg/c2d");
	no_question();
	assert_int_equal(expect(f->a).code, CODE(4, 3));
}

static void test_the_policy_is_asked_for_the_messages_own_topic(void **state)
{
	static const struct {
		const char *subtopic;
		unsigned code;
	} lines[] = {{"yes", CODE(2, 5)}, {"no", CODE(4, 3)}, {NULL, CODE(4, 3)}};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		resources.snapshot = all;
		GET(.path = "msg/c2d");
		question(DOCUMENT_DOWNLINK_NEXT);
		resources.snapshot = none;
		answer(&(struct document_answer){.outcome = DOCUMENT_OK,
						 .version = 7,
						 .format = 0,
						 .payload = "x",
						 .payload_len = 1,
						 .name = lines[i].subtopic});
		assert_int_equal(expect(f->a).code, lines[i].code);
	}
}

static void test_an_answer_for_a_session_that_has_ended_goes_nowhere(void **state)
{
	(void)state;
	GET(.observe = true);
	question(DOCUMENT_DOWNLINK_NEXT);
	coap_server_forget(f->server, &f->a->peer);
	answer_message(7, "1");
	expect_nothing(f->a);
	assert_int_equal(stats_of(f).exchanges, 0);
}

/* --- The envelope --- */

static void test_what_is_not_what_it_is_said_to_be_is_base64url(void **state)
{
	static const struct {
		int format;
		const char *payload, *shown;
	} lines[] = {
		{FG_COAP_JSON, "{\"a\":1}", "\"format\":50,\"payload\":{\"a\":1}"},
		{FG_COAP_JSON, "{\"a\":", "\"format\":50,\"payload_base64url\":\"eyJhIjo\""},
		{FG_COAP_TEXT, "\"", "\"format\":0,\"payload\":\"\\\"\""},
		{FG_COAP_TEXT, "\xff", "\"format\":0,\"payload_base64url\":\"_w\""},
		{FG_COAP_CBOR, "\1", "\"format\":60,\"payload_base64url\":\"AQ\""},
		{-1, "", "\"payload_base64url\":\"\""},
	};
	char expected[200];

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct coap_seen seen;

		GET(.query = "envelope", .accept = FG_COAP_JSON + 1);
		question(DOCUMENT_DOWNLINK_NEXT);
		answer(&(struct document_answer){.outcome = DOCUMENT_OK,
						 .version = 7,
						 .format = lines[i].format,
						 .payload = lines[i].payload,
						 .payload_len = strlen(lines[i].payload),
						 .name = "led",
						 .created_at_us = 5 * US_PER_S,
						 .expires_at_us = INT64_MAX});
		snprintf(expected, sizeof(expected),
			 "{\"id\":7,\"topic\":\"c2d/led\",\"created_at\":5,%s}", lines[i].shown);
		seen = expect(f->a);
		if (!seen_text(&seen, expected))
			fail_msg("%.*s, not %s", (int)seen.payload_len, (const char *)seen.payload,
				 expected);
	}
}

/* --- The hint --- */

static void test_only_a_success_without_content_has_the_hint(void **state)
{
	static const struct {
		uint8_t code;
		int accept;
		bool waiting, hint;
	} lines[] = {
		{FG_COAP_CODE(2, 1), -1, true, true},
		{FG_COAP_CODE(2, 4), FG_COAP_CBOR, true, true},
		{FG_COAP_CODE(2, 4), FG_COAP_TEXT, true, false},
		{FG_COAP_CODE(2, 1), -1, false, false},
		{FG_COAP_CODE(2, 2), -1, true, false},
		{FG_COAP_CODE(2, 5), -1, true, false},
		{FG_COAP_CODE(4, 0), -1, true, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct coap_reply reply = {.code = lines[i].code, .format = FG_COAP_FORMAT_NONE};

		database.waiting = lines[i].waiting;
		resource_hint(&resources, "x", lines[i].accept, &reply);
		assert_int_equal(reply.payload_len, lines[i].hint ? 6 : 0);
		assert_int_equal(reply.format, lines[i].hint ? FG_COAP_CBOR : FG_COAP_FORMAT_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_etag_is_the_number_as_short_as_it_can_be),
		TEST(test_other_etags_are_no_numbers),
		TEST(test_a_path_below_asks_for_its_subtopic),
		TEST(test_an_acknowledgement_marks_and_asks_for_the_next),
		TEST(test_a_reset_or_silence_marks_nothing),
		TEST(test_the_acknowledgement_of_an_error_marks_nothing),
		TEST(test_an_acknowledgement_that_cannot_be_marked_is_said_again),
		TEST(test_a_database_that_does_not_answer_does_not_end_an_observation),
		TEST(test_who_is_not_let_in_any_more_gets_nothing),
		TEST(test_the_policy_counts_that_holds_when_the_answer_comes),
		TEST(test_the_policy_is_asked_for_the_messages_own_topic),
		TEST(test_an_answer_for_a_session_that_has_ended_goes_nowhere),
		TEST(test_what_is_not_what_it_is_said_to_be_is_base64url),
		TEST(test_only_a_success_without_content_has_the_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
