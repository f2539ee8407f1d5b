/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: requests, their answers, and what is wrong with messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_fixture.h"

static int set_up(void **state)
{
	*state = fixture_new();
	return 0;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void test_a_confirmable_request_is_answered_in_its_acknowledgement(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	send_request(f->a, B_CON, CODE(0, 2), 0x1234, "tok", "msg", "hello");
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, CODE(2, 4));
	assert_int_equal(seen.mid, 0x1234);
	assert_true(seen_token(&seen, "tok"));
	assert_int_equal(seen.option_count, 0);
	assert_int_equal(seen.payload_len, 0);
	expect_nothing(f->a);
	expect_nothing(f->b);
	assert_int_equal(f->called, 1);
	assert_string_equal(f->path, "msg");
	assert_int_equal(f->last.method, FG_COAP_POST);
	assert_memory_equal(f->payload, "hello", 5);
	assert_ptr_equal(f->last.session, f->a);
}

static void test_a_non_confirmable_request_gets_a_non_confirmable_answer(void **state)
{
	struct fixture *f = *state;
	struct coap_seen first, second;

	send_request(f->a, B_NON, CODE(0, 2), 1, "x", "msg", NULL);
	send_request(f->a, B_NON, CODE(0, 2), 20, "y", "msg", NULL);
	first = expect(f->a);
	second = expect(f->a);
	assert_int_equal(first.type, B_NON);
	assert_true(seen_token(&first, "x"));
	assert_true(seen_token(&second, "y"));
	/* message IDs of our own, not the request's: RFC 7252 section 5.2.3 */
	assert_int_equal(second.mid, (uint16_t)(first.mid + 1));
}

static void test_all_of_a_request_reaches_the_handler(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 3), 1, "12345678");
	bytes_option(&b, OPT_IF_MATCH, "etag", 4);
	bytes_option(&b, OPT_IF_NONE_MATCH, NULL, 0);
	bytes_path(&b, "store/a/b");
	bytes_number(&b, OPT_CONTENT_FORMAT, FG_COAP_CBOR);
	bytes_option(&b, OPT_URI_QUERY, "x=1", 3);
	bytes_option(&b, OPT_URI_QUERY, "y", 1);
	bytes_number(&b, OPT_ACCEPT, FG_COAP_JSON);
	bytes_payload(&b, "p", 1);
	deliver(f->a, &b);
	assert_int_equal(f->called, 1);
	assert_string_equal(f->path, "store/a/b");
	assert_string_equal(f->rest, "a/b");
	assert_string_equal(f->query, "x=1&y");
	assert_int_equal(f->last.format, FG_COAP_CBOR);
	assert_int_equal(f->last.accept, FG_COAP_JSON);
	assert_true(f->last.if_match);
	assert_true(f->last.if_none_match);
	assert_int_equal(f->last.etag_len, 4);
	assert_memory_equal(f->last.etag, "etag", 4);
	assert_false(f->last.observe);
	assert_false(f->last.notification);
}

static void test_text_without_a_content_format_option_has_none(void **state)
{
	struct fixture *f = *state;

	send_request(f->a, B_CON, CODE(0, 2), 1, "", "msg", "x");
	assert_int_equal(f->last.format, FG_COAP_FORMAT_NONE);
	assert_int_equal(f->last.accept, FG_COAP_FORMAT_NONE);
	assert_string_equal(f->query, "");
}

/* RFC 7252 section 3.2: numbers in as few bytes as they take; Content-Format 0 takes none. */
static void test_options_of_an_answer_are_written_minimally(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_with(f, FG_COAP_CODE(2, 5), "{}");
	f->reply.format = FG_COAP_TEXT;
	f->reply.max_age_s = 300;
	memcpy(f->reply.etag, "12345678", 8);
	f->reply.etag_len = 8;
	send_request(f->a, B_CON, CODE(0, 1), 1, "t", "state", NULL);
	seen = expect(f->a);
	assert_int_equal(seen.option_count, 3);
	assert_int_equal(seen.option[0].number, OPT_ETAG);
	assert_int_equal(seen.option[0].len, 8);
	assert_int_equal(seen.option[1].number, OPT_CONTENT_FORMAT);
	assert_int_equal(seen.option[1].len, 0);
	assert_int_equal(seen.option[2].number, OPT_MAX_AGE);
	assert_int_equal(seen.option[2].len, 2);
	assert_int_equal(seen_number(&seen, OPT_MAX_AGE), 300);
	assert_true(seen_text(&seen, "{}"));
}

static void test_a_diagnostic_is_a_payload_without_a_format(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_with(f, FG_COAP_CODE(4, 0), NULL);
	f->reply.diagnostic = "not CBOR at byte 7";
	f->reply.format = FG_COAP_JSON;
	send_request(f->a, B_CON, CODE(0, 2), 1, "t", "msg", "x");
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 0));
	assert_true(seen_text(&seen, "not CBOR at byte 7"));
	assert_false(seen_has(&seen, OPT_CONTENT_FORMAT));
}

static unsigned answer_to(struct fixture *f, unsigned code, const char *path)
{
	static uint16_t mid = 100;
	struct coap_seen seen;

	send_request(f->a, B_CON, code, mid++, "t", path, NULL);
	seen = expect(f->a);
	return seen.code;
}

static void test_unknown_paths_and_methods(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(answer_to(f, CODE(0, 1), "nothing"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "msg/x"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "store"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "store/"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "storex/y"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "/msg"), CODE(4, 4));
	assert_int_equal(answer_to(f, CODE(0, 1), "msg"), CODE(4, 5));
	assert_int_equal(answer_to(f, CODE(0, 4), "state"), CODE(4, 5));
	assert_int_equal(answer_to(f, CODE(0, 8), "state"), CODE(4, 5));
	assert_int_equal(answer_to(f, CODE(0, 31), "state"), CODE(4, 5));
	assert_int_equal(f->called, 0);
}

/* The handler sees segments joined by '/': a segment that holds one must not become two. */
static void test_segments_that_would_read_as_others_are_not_found(void **state)
{
	static const struct {
		const char *segment;
		size_t len;
	} bad[] = {{"a/b", 3}, {".", 1}, {"..", 2}, {"a\0b", 3}};
	struct fixture *f = *state;
	struct coap_bytes b;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		bytes_begin(&b, B_CON, CODE(0, 1), (uint16_t)i, "t");
		bytes_option(&b, OPT_URI_PATH, "store", 5);
		bytes_option(&b, OPT_URI_PATH, bad[i].segment, bad[i].len);
		deliver(f->a, &b);
		assert_int_equal(expect(f->a).code, CODE(4, 4));
	}
	bytes_begin(&b, B_CON, CODE(0, 1), 10, "t");
	bytes_option(&b, OPT_URI_PATH, "store/x", 7);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 4));
	assert_int_equal(f->called, 0);
}

static void test_a_path_that_is_too_long_is_not_found(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;
	char segment[200];

	memset(segment, 'x', sizeof(segment));
	bytes_begin(&b, B_CON, CODE(0, 1), 1, "t");
	bytes_option(&b, OPT_URI_PATH, "store", 5);
	bytes_option(&b, OPT_URI_PATH, segment, sizeof(segment));
	bytes_option(&b, OPT_URI_PATH, segment, sizeof(segment));
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 4));
}

static void test_a_query_that_is_too_long_is_a_bad_request(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;
	char part[250];

	memset(part, 'x', sizeof(part));
	bytes_begin(&b, B_CON, CODE(0, 1), 1, "t");
	bytes_path(&b, "state");
	for (int i = 0; i < 5; i++)
		bytes_option(&b, OPT_URI_QUERY, part, sizeof(part));
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 0));
	assert_int_equal(f->called, 0);
}

/* RFC 7252 section 5.4.1 */
static void test_an_unknown_critical_option_is_4_02_and_an_elective_one_nothing(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;
	struct coap_seen seen;

	bytes_begin(&b, B_CON, CODE(0, 1), 1, "t");
	bytes_path(&b, "state");
	bytes_number(&b, 65001, 7);
	deliver(f->a, &b);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 2));
	assert_true(seen_text(&seen, "option 65001 is not understood here"));
	assert_int_equal(f->called, 0);

	bytes_begin(&b, B_NON, CODE(0, 1), 2, "t");
	bytes_path(&b, "state");
	bytes_number(&b, 65001, 7);
	deliver(f->a, &b);
	expect_nothing(f->a);

	bytes_begin(&b, B_CON, CODE(0, 1), 3, "t");
	bytes_path(&b, "state");
	bytes_number(&b, 65000, 7);
	deliver(f->a, &b);
	expect(f->a);
	assert_int_equal(f->called, 1);
}

/* RFC 7252 sections 5.4.3 and 5.4.5: a length that it cannot have, or twice, is the same as unknown
 */
static void test_options_of_impossible_length_or_number(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), 1, "t");
	bytes_path(&b, "state");
	bytes_option(&b, OPT_ACCEPT, "\1\2\3", 3);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 2));

	bytes_begin(&b, B_CON, CODE(0, 1), 2, "t");
	bytes_path(&b, "state");
	bytes_number(&b, OPT_ACCEPT, 50);
	bytes_number(&b, OPT_ACCEPT, 60);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 2));
	assert_int_equal(f->called, 0);

	bytes_begin(&b, B_CON, CODE(0, 1), 3, "t");
	bytes_path(&b, "state");
	bytes_option(&b, OPT_CONTENT_FORMAT, "\1\2\3", 3);
	deliver(f->a, &b);
	expect(f->a);
	assert_int_equal(f->called, 1);
	assert_int_equal(f->last.format, FG_COAP_FORMAT_NONE);
}

static void test_proxying_is_not_supported(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), 1, "t");
	bytes_option(&b, OPT_PROXY_URI, "coap://x/", 9);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(5, 5));
}

/* RFC 7252 section 4.3 */
static void test_a_ping_is_answered_by_a_reset(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	send_empty(f->a, B_CON, 77);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_RST);
	assert_int_equal(seen.code, 0);
	assert_int_equal(seen.mid, 77);
	assert_int_equal(f->a->sent[0].len, 4);
	assert_int_equal(stats_of(f).malformed, 0);
}

static void deliver_raw(struct session *s, const void *data, size_t len)
{
	struct coap_bytes b = {.len = len};

	memcpy(b.data, data, len);
	deliver(s, &b);
}

/* RFC 7252 sections 3, 4.2 and 4.3: a confirmable message that is malformed is reset, others are
 * ignored, and another version is no message. */
static void test_malformed_messages_are_reset_or_ignored_and_counted(void **state)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
		bool reset;
	} cases[] = {
		{"nothing", "", 0, false},
		{"three bytes", "\x40\x01\x00", 3, false},
		{"version 0", "\x00\x01\x00\x01", 4, false},
		{"version 2", "\x80\x01\x00\x01", 4, false},
		{"token of 9",
		 "\x49\x01\x00\x01"
		 "123456789",
		 13, true},
		{"token length 13",
		 "\x4d\x01\x00\x01\x00"
		 "1234567890123",
		 18, true},
		{"token cut off",
		 "\x44\x01\x00\x01"
		 "12",
		 6, true},
		{"empty with a token", "\x41\x00\x00\x01\x01", 5, true},
		{"empty with a payload", "\x40\x00\x00\x01\xff\x01", 6, true},
		{"option delta 15", "\x40\x01\x00\x01\xf1\x01", 6, true},
		{"option length 15", "\x40\x01\x00\x01\x1f\x01", 6, true},
		{"option cut off", "\x40\x01\x00\x01\xb5\x61", 6, true},
		{"extended delta cut off", "\x40\x01\x00\x01\xd0", 5, true},
		{"extended length cut off", "\x40\x01\x00\x01\xbe\x01", 6, true},
		{"option delta beyond 65535", "\x40\x01\x00\x01\xe0\xff\x00", 7, true},
		{"option number beyond 65535", "\x40\x01\x00\x01\xe0\x9b\x33\xe0\x9b\x33", 10,
		 true},
		{"marker without payload", "\x40\x01\x00\x01\xb1\x61\xff", 7, true},
		{"confirmable response", "\x40\x45\x00\x01", 4, true},
		{"reserved class", "\x40\x21\x00\x01", 4, true},
		{"signalling", "\x40\xe1\x00\x01", 4, true},
		{"non-confirmable and malformed", "\x50\x01\x00\x01\xf1\x01", 6, false},
		{"non-confirmable and empty", "\x50\x00\x00\x01", 4, false},
		{"non-confirmable response", "\x50\x45\x00\x01", 4, false},
		{"acknowledgement with a response", "\x60\x45\x00\x01", 4, false},
		{"acknowledgement with a request", "\x60\x01\x00\x01", 4, false},
		{"reset with a code", "\x70\x01\x00\x01", 4, false},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t before = f->a->sent_count;

		deliver_raw(f->a, cases[i].bytes, cases[i].len);
		if (f->a->sent_count - before != cases[i].reset)
			fail_msg("%s: %zu messages sent", cases[i].what, f->a->sent_count - before);
		if (cases[i].reset) {
			struct coap_seen seen = expect(f->a);

			assert_int_equal(seen.type, B_RST);
			assert_int_equal(seen.mid, 1);
		}
		assert_int_equal(stats_of(f).malformed, i + 1);
	}
	assert_int_equal(f->called, 0);
	assert_null(f->a->peer);
}

static void test_acknowledgements_of_nothing_are_ignored(void **state)
{
	struct fixture *f = *state;

	send_empty(f->a, B_ACK, 5);
	send_empty(f->a, B_RST, 5);
	expect_nothing(f->a);
	assert_null(f->a->peer);
}

static void test_what_is_not_admitted_reaches_no_handler_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	f->admit = false;
	send_request(f->a, B_CON, CODE(0, 2), 1, "t", "msg", "x");
	assert_int_equal(expect(f->a).code, CODE(4, 1));
	for (uint16_t i = 0; i < 10; i++) {
		uint8_t block[1024] = {0};

		bytes_begin(&b, B_CON, CODE(0, 2), (uint16_t)(100 + i), "t");
		bytes_path(&b, "msg");
		bytes_block(&b, OPT_BLOCK1, i, true, 6);
		bytes_payload(&b, block, sizeof(block));
		deliver(f->a, &b);
		assert_int_equal(expect(f->a).code, CODE(4, 1));
	}
	assert_int_equal(f->admit_asked, 11);
	assert_int_equal(f->called, 0);
	assert_null(f->a->peer);
	assert_int_equal(stats_of(f).refused, 11);
	assert_int_equal(stats_of(f).transfers, 0);
	assert_int_equal(stats_of(f).dedup_entries, 0);
}

static void test_admit_is_asked_for_unknown_paths_too(void **state)
{
	struct fixture *f = *state;

	f->admit = false;
	assert_int_equal(answer_to(f, CODE(0, 1), "nothing"), CODE(4, 1));
	assert_int_equal(answer_to(f, CODE(0, 1), "store/.."), CODE(4, 1));
	assert_int_equal(f->admit_asked, 2);
}

static void test_a_request_leaves_no_peer(void **state)
{
	struct fixture *f = *state;

	send_request(f->a, B_CON, CODE(0, 2), 1, "t", "msg", "x");
	assert_null(f->a->peer);
	assert_int_equal(stats_of(f).peers, 0);
	assert_int_equal(stats_of(f).exchanges, 0);
}

static void end_session(struct fixture *f, const struct coap_call *call)
{
	(void)call;
	coap_server_forget(f->server, &f->a->peer);
}

static void test_a_handler_may_end_the_session_that_it_is_called_for(void **state)
{
	struct fixture *f = *state;

	f->in_handler = end_session;
	send_request(f->a, B_CON, CODE(0, 2), 1, "t", "msg", "x");
	expect_nothing(f->a);
	assert_null(f->a->peer);
	f->done = COAP_LATER;
	send_request(f->a, B_CON, CODE(0, 2), 2, "t", "msg", "x");
	expect_nothing(f->a);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	assert_int_equal(stats_of(f).peers, 0);
}

/* Whatever comes, what goes out is CoAP; under the sanitizers nothing is read beyond the message.
 */
static void test_damaged_messages_do_no_harm(void **state)
{
	static const char *const paths[] = {"msg", "state", "store/a", ".well-known/core", "none"};
	struct fixture *f = *state;
	unsigned seed = 4711;

	for (unsigned i = 0; i < 100000; i++) {
		struct coap_bytes b;
		uint8_t payload[64] = {0};
		unsigned kind = (unsigned)rand_r(&seed);
		const struct sent *m;

		bytes_begin(&b, kind % 4, kind % 16 == 0 ? 0 : CODE(0, 1 + kind % 7), (uint16_t)i,
			    "tok");
		if (kind % 3 == 0)
			bytes_number(&b, OPT_OBSERVE, kind % 2);
		bytes_path(&b, paths[kind % 5]);
		if (kind % 7 == 0)
			bytes_option(&b, OPT_URI_QUERY, "rt=fg.*", 7);
		if (kind % 5 < 2)
			bytes_block(&b, OPT_BLOCK2, kind % 3, false, kind % 7);
		if (kind % 5 > 2)
			bytes_block(&b, OPT_BLOCK1, kind % 3, kind % 2, kind % 3);
		bytes_payload(&b, payload, 16u << kind % 3);
		for (unsigned n = (unsigned)rand_r(&seed) % 4; n > 0; n--)
			b.data[(unsigned)rand_r(&seed) % b.len] = (uint8_t)rand_r(&seed);
		if (kind % 11 == 0)
			b.len = (unsigned)rand_r(&seed) % b.len;
		reply_with(f, FG_COAP_CODE(2, 5), kind % 2 ? "short" : paths[kind % 5]);
		f->reply.payload = payload;
		f->reply.payload_len = kind % sizeof(payload);
		f->reply.observe_key = kind % 13 == 0 ? NULL : "key";
		deliver(i % 2 == 0 ? f->a : f->b, &b);
		if (i % 50 == 0) {
			coap_server_changed(f->server, "key");
			fixture_run(f, (kind % 9) * US_PER_S);
		}
		while ((m = take(f->a)) != NULL || (m = take(f->b)) != NULL) {
			struct coap_seen seen;

			assert_true(coap_see(&seen, m->data, m->len));
		}
	}
	assert_in_range(f->called, 1000, 100000);
}

/* --- .well-known/core --- */

static void expect_links(struct fixture *f, const char *query, const char *links)
{
	static uint16_t mid = 500;
	struct coap_bytes b;
	struct coap_seen seen;

	bytes_begin(&b, B_CON, CODE(0, 1), mid++, "t");
	bytes_path(&b, ".well-known/core");
	if (query != NULL)
		bytes_option(&b, OPT_URI_QUERY, query, strlen(query));
	deliver(f->a, &b);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_int_equal(seen_number(&seen, OPT_CONTENT_FORMAT), FG_COAP_LINK_FORMAT);
	if (!seen_text(&seen, links))
		fail_msg("%s: %.*s", query == NULL ? "" : query, (int)seen.payload_len,
			 (const char *)seen.payload);
}

#define LINK_MSG   "</msg>;rt=\"fg.telemetry\";ct=\"50 60\""
#define LINK_STATE "</state>;rt=\"fg.state core.x\";title=\"State\";obs"
#define LINK_STORE "</store>;obs"

static void test_well_known_core_lists_the_routes(void **state)
{
	expect_links(*state, NULL, LINK_MSG "," LINK_STATE "," LINK_STORE);
}

/* RFC 6690 section 4.1 */
static void test_well_known_core_is_filtered_by_the_query(void **state)
{
	struct fixture *f = *state;

	expect_links(f, "rt=fg.telemetry", LINK_MSG);
	expect_links(f, "rt=fg.*", LINK_MSG "," LINK_STATE);
	expect_links(f, "rt=core.x", LINK_STATE);
	expect_links(f, "rt=core.*", LINK_STATE);
	expect_links(f, "rt=core", "");
	expect_links(f, "rt=core.xx*", "");
	expect_links(f, "rt=*", LINK_MSG "," LINK_STATE);
	expect_links(f, "ct=60", LINK_MSG);
	expect_links(f, "title=State", LINK_STATE);
	expect_links(f, "href=/msg", LINK_MSG);
	expect_links(f, "href=/st*", LINK_STATE "," LINK_STORE);
	expect_links(f, "href=", "");
	expect_links(f, "none=1", "");
	expect_links(f, "=", LINK_MSG "," LINK_STATE "," LINK_STORE);
}

static void test_well_known_core_takes_no_post(void **state)
{
	assert_int_equal(answer_to(*state, CODE(0, 2), ".well-known/core"), CODE(4, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_confirmable_request_is_answered_in_its_acknowledgement),
		TEST(test_a_non_confirmable_request_gets_a_non_confirmable_answer),
		TEST(test_all_of_a_request_reaches_the_handler),
		TEST(test_text_without_a_content_format_option_has_none),
		TEST(test_options_of_an_answer_are_written_minimally),
		TEST(test_a_diagnostic_is_a_payload_without_a_format),
		TEST(test_unknown_paths_and_methods),
		TEST(test_segments_that_would_read_as_others_are_not_found),
		TEST(test_a_path_that_is_too_long_is_not_found),
		TEST(test_a_query_that_is_too_long_is_a_bad_request),
		TEST(test_an_unknown_critical_option_is_4_02_and_an_elective_one_nothing),
		TEST(test_options_of_impossible_length_or_number),
		TEST(test_proxying_is_not_supported),
		TEST(test_a_ping_is_answered_by_a_reset),
		TEST(test_malformed_messages_are_reset_or_ignored_and_counted),
		TEST(test_acknowledgements_of_nothing_are_ignored),
		TEST(test_what_is_not_admitted_reaches_no_handler_and_leaves_nothing),
		TEST(test_admit_is_asked_for_unknown_paths_too),
		TEST(test_a_request_leaves_no_peer),
		TEST(test_a_handler_may_end_the_session_that_it_is_called_for),
		TEST(test_damaged_messages_do_no_harm),
		TEST(test_well_known_core_lists_the_routes),
		TEST(test_well_known_core_is_filtered_by_the_query),
		TEST(test_well_known_core_takes_no_post),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
