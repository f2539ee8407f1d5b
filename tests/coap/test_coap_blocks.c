/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/coap: bodies in blocks (RFC 7959), one after the other and through bad networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/coap_lossy.h"

#define BODY 65536

static uint8_t body[BODY], other[BODY];

static int set_up(void **state)
{
	for (size_t i = 0; i < BODY; i++) {
		body[i] = (uint8_t)(i * 7 + i / 251);
		other[i] = (uint8_t)(i * 11 + i / 241);
	}
	*state = fixture_new();
	return 0;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static uint16_t next_mid = 1;

static struct coap_seen put_block(struct session *s, const char *path, const uint8_t *from,
				  size_t len, uint32_t num, bool more, unsigned szx)
{
	struct coap_bytes b;
	size_t size = (size_t)16 << szx;

	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, path);
	bytes_block(&b, OPT_BLOCK1, num, more, szx);
	if (num * size < len)
		bytes_payload(&b, from + num * size,
			      len - num * size < size ? len - num * size : size);
	deliver(s, &b);
	return expect(s);
}

static struct coap_seen get_block(struct session *s, const char *path, uint32_t num, unsigned szx)
{
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, "t");
	bytes_path(&b, path);
	bytes_block(&b, OPT_BLOCK2, num, false, szx);
	deliver(s, &b);
	return expect(s);
}

/* --- Up --- */

static void test_an_upload_is_one_call_of_the_handler(void **state)
{
	struct fixture *f = *state;

	for (unsigned szx = 0; szx <= 6; szx++) {
		size_t size = (size_t)16 << szx, len = 3 * size + 5;
		struct coap_seen seen;

		for (uint32_t num = 0; num < 3; num++) {
			seen = put_block(f->a, "msg", body, len, num, true, szx);
			assert_int_equal(seen.code, CODE(2, 31));
			assert_int_equal(seen_number(&seen, OPT_BLOCK1),
					 block_value(num, true, szx));
			assert_int_equal(f->called, szx);
		}
		assert_int_equal(stats_of(f).transfers, 1);
		seen = put_block(f->a, "msg", body, len, 3, false, szx);
		assert_int_equal(seen.code, CODE(2, 4));
		assert_int_equal(seen_number(&seen, OPT_BLOCK1), block_value(3, false, szx));
		assert_int_equal(f->called, szx + 1);
		assert_int_equal(f->payload_len, len);
		assert_memory_equal(f->payload, body, len);
		assert_int_equal(stats_of(f).transfers, 0);
		assert_null(f->a->peer);
	}
}

static void test_a_body_in_a_single_block_is_not_kept(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen = put_block(f->a, "msg", body, 10, 0, false, 2);

	assert_int_equal(seen.code, CODE(2, 4));
	assert_int_equal(seen_number(&seen, OPT_BLOCK1), block_value(0, false, 2));
	assert_int_equal(f->payload_len, 10);
}

static void test_admit_is_asked_for_every_block(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "msg", body, 48, 0, true, 0);
	put_block(f->a, "msg", body, 48, 1, true, 0);
	assert_int_equal(f->admit_asked, 2);
	f->admit = false;
	assert_int_equal(put_block(f->a, "msg", body, 48, 2, false, 0).code, CODE(4, 1));
	assert_int_equal(f->called, 0);
	f->admit = true;
	assert_int_equal(put_block(f->a, "msg", body, 48, 2, false, 0).code, CODE(2, 4));
}

static void test_a_missing_block_is_4_08(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put_block(f->a, "msg", body, 64, 1, true, 0).code, CODE(4, 8));
	assert_int_equal(put_block(f->a, "msg", body, 64, 3, false, 0).code, CODE(4, 8));
	assert_int_equal(put_block(f->a, "msg", body, 64, 0, true, 0).code, CODE(2, 31));
	assert_int_equal(put_block(f->a, "msg", body, 64, 2, true, 0).code, CODE(4, 8));
	assert_int_equal(f->called, 0);
	assert_null(f->a->peer);
}

/* In a new message, because the device lost the answer: RFC 7959 section 2.5 */
static void test_the_same_block_again_is_harmless(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "msg", body, 48, 0, true, 0);
	assert_int_equal(put_block(f->a, "msg", body, 48, 0, true, 0).code, CODE(2, 31));
	put_block(f->a, "msg", body, 48, 1, true, 0);
	assert_int_equal(put_block(f->a, "msg", body, 48, 0, true, 0).code, CODE(2, 31));
	assert_int_equal(put_block(f->a, "msg", body, 48, 1, true, 0).code, CODE(2, 31));
	assert_int_equal(put_block(f->a, "msg", body, 48, 2, false, 0).code, CODE(2, 4));
	assert_int_equal(f->payload_len, 48);
	assert_memory_equal(f->payload, body, 48);
}

static void test_block_0_with_other_content_begins_anew(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "msg", body, 64, 0, true, 0);
	put_block(f->a, "msg", body, 64, 1, true, 0);
	assert_int_equal(put_block(f->a, "msg", other, 40, 0, true, 0).code, CODE(2, 31));
	assert_int_equal(stats_of(f).transfers, 1);
	put_block(f->a, "msg", other, 40, 1, true, 0);
	assert_int_equal(put_block(f->a, "msg", other, 40, 2, false, 0).code, CODE(2, 4));
	assert_int_equal(f->payload_len, 40);
	assert_memory_equal(f->payload, other, 40);
}

static void test_blocks_of_two_bodies_are_never_mixed(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "msg", body, 64, 0, true, 0);
	put_block(f->a, "msg", body, 64, 1, true, 0);
	assert_int_equal(put_block(f->a, "msg", other, 64, 1, true, 0).code, CODE(4, 8));
	assert_int_equal(put_block(f->a, "msg", body, 64, 2, true, 0).code, CODE(4, 8));
	assert_int_equal(f->called, 0);
}

/* RFC 9175 section 3 */
static void test_request_tags_keep_bodies_apart(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	for (uint32_t num = 0; num < 3; num++) {
		for (unsigned which = 0; which < 2; which++) {
			bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
			bytes_path(&b, "msg");
			bytes_block(&b, OPT_BLOCK1, num, num < 2, 0);
			if (which == 1)
				bytes_option(&b, OPT_REQUEST_TAG, NULL, 0);
			bytes_payload(&b, (which == 0 ? body : other) + 16 * num, 16);
			deliver(f->a, &b);
			assert_int_equal(expect(f->a).code, num < 2 ? CODE(2, 31) : CODE(2, 4));
		}
	}
	assert_int_equal(f->called, 2);
	assert_memory_equal(f->payload, other, 48);
}

static void test_another_content_format_is_another_body(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	put_block(f->a, "msg", body, 48, 0, true, 0);
	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, "msg");
	bytes_number(&b, OPT_CONTENT_FORMAT, FG_COAP_CBOR);
	bytes_block(&b, OPT_BLOCK1, 1, true, 0);
	bytes_payload(&b, body + 16, 16);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 8));
}

static void test_a_block_of_another_length_than_it_says_is_a_bad_request(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put_block(f->a, "msg", body, 10, 0, true, 0).code, CODE(4, 0));
	assert_int_equal(put_block(f->a, "msg", body, 0, 0, true, 0).code, CODE(4, 0));
	/* SZX 7 is reserved: RFC 7959 section 2.2 */
	assert_int_equal(put_block(f->a, "msg", body, 16, 0, true, 7).code, CODE(4, 0));

	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, "msg");
	bytes_block(&b, OPT_BLOCK1, 0, false, 0);
	bytes_payload(&b, body, 17);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 0));
	assert_int_equal(f->called, 0);
	assert_null(f->a->peer);
}

static void test_a_get_has_no_body(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, "t");
	bytes_path(&b, "state");
	bytes_block(&b, OPT_BLOCK1, 0, true, 0);
	bytes_payload(&b, body, 16);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 0));
	assert_null(f->a->peer);
}

/* As early as it can be known. */
static void test_a_body_beyond_max_body_is_4_13(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, "msg");
	bytes_block(&b, OPT_BLOCK1, 0, true, 6);
	bytes_number(&b, OPT_SIZE1, BODY + 1);
	bytes_payload(&b, body, 1024);
	deliver(f->a, &b);
	seen = expect(f->a);
	assert_int_equal(seen.code, CODE(4, 13));
	assert_int_equal(seen_number(&seen, OPT_SIZE1), BODY);
	assert_int_equal(put_block(f->a, "msg", body, BODY, 65, false, 6).code, CODE(4, 13));
	assert_int_equal(put_block(f->a, "msg", body, BODY, 63, true, 6).code, CODE(4, 13));
	assert_int_equal(put_block(f->a, "msg", body, BODY, 0xfffff, false, 6).code, CODE(4, 13));
	assert_int_equal(stats_of(f).transfers, 0);
	assert_int_equal(f->called, 0);
}

static void test_a_body_of_max_body_is_taken(void **state)
{
	struct fixture *f = *state;

	for (uint32_t num = 0; num < 63; num++)
		assert_int_equal(put_block(f->a, "msg", body, BODY, num, true, 6).code,
				 CODE(2, 31));
	assert_int_equal(put_block(f->a, "msg", body, BODY, 63, false, 6).code, CODE(2, 4));
	assert_int_equal(f->payload_len, BODY);
	assert_memory_equal(f->payload, body, BODY);
}

static void test_a_size_that_is_promised_is_not_allocated(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	/* The datagram that ends a server which lets libcoap 4.3.5 put bodies together. */
	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, "msg");
	bytes_block(&b, OPT_BLOCK1, 0, true, 0);
	bytes_number(&b, OPT_SIZE1, 16);
	bytes_payload(&b, body, 16);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(2, 31));
	assert_int_equal(f->called, 0);
}

static void test_abandoned_transfers_expire(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "msg", body, 64, 0, true, 0);
	fixture_run(f, 246 * US_PER_S);
	put_block(f->a, "msg", body, 64, 1, true, 0);
	fixture_run(f, 246 * US_PER_S);
	assert_int_equal(stats_of(f).transfers, 1);
	fixture_run(f, 2 * US_PER_S);
	assert_int_equal(stats_of(f).transfers, 0);
	assert_null(f->a->peer);
	assert_int_equal(put_block(f->a, "msg", body, 64, 2, true, 0).code, CODE(4, 8));
}

/* One that was abandoned does not keep the device from the next. */
static void test_beyond_max_transfers_the_oldest_of_the_session_goes(void **state)
{
	struct fixture *f = *state;

	put_block(f->a, "store/1", body, 32, 0, true, 0);
	fixture_pass(1);
	put_block(f->a, "store/2", body, 32, 0, true, 0);
	fixture_pass(1);
	put_block(f->a, "store/3", body, 32, 0, true, 0);
	assert_int_equal(stats_of(f).transfers, 2);
	assert_int_equal(put_block(f->a, "store/2", body, 32, 1, false, 0).code, CODE(2, 4));
	assert_int_equal(put_block(f->a, "store/3", body, 32, 1, false, 0).code, CODE(2, 4));
	assert_int_equal(put_block(f->a, "store/1", body, 32, 1, false, 0).code, CODE(4, 8));
}

static void test_beyond_max_transfers_all_it_is_5_03(void **state)
{
	struct fixture *f = *state;
	struct session *s[5];
	struct coap_seen seen;

	for (size_t i = 0; i < 5; i++)
		s[i] = session_new(f, 100 + i);
	for (size_t i = 0; i < 4; i++) {
		put_block(s[i], "store/1", body, 32, 0, true, 0);
		put_block(s[i], "store/2", body, 32, 0, true, 0);
	}
	seen = put_block(s[4], "store/1", body, 32, 0, true, 0);
	assert_int_equal(seen.code, CODE(5, 3));
	assert_true(seen_has(&seen, OPT_MAX_AGE));
	assert_null(s[4]->peer);
	reply_with(f, FG_COAP_CODE(2, 5), NULL);
	f->reply.payload = body;
	f->reply.payload_len = 100;
	assert_int_equal(get_block(s[4], "state", 0, 0).code, CODE(5, 3));
	session_end(s[0]);
	assert_int_equal(put_block(s[4], "store/1", body, 32, 0, true, 0).code, CODE(2, 31));
	for (size_t i = 1; i < 5; i++)
		session_end(s[i]);
	assert_int_equal(stats_of(f).transfers, 0);
}

static void test_the_answer_to_an_upload_can_be_late(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	f->done = COAP_LATER;
	put_block(f->a, "msg", body, 32, 0, true, 0);
	seen = put_block(f->a, "msg", body, 32, 1, false, 0);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen.code, 0);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen.code, CODE(2, 4));
	assert_int_equal(seen_number(&seen, OPT_BLOCK1), block_value(1, false, 0));
}

static void test_the_answer_to_an_upload_can_be_held(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;
	struct coap_seen seen;

	f->reply.hold = 3;
	put_block(f->a, "msg", body, 32, 0, true, 0);
	bytes_begin(&b, B_CON, CODE(0, 3), next_mid++, "t");
	bytes_path(&b, "msg");
	bytes_block(&b, OPT_BLOCK1, 1, false, 0);
	bytes_payload(&b, body + 16, 16);
	deliver(f->a, &b);
	deliver(f->a, &b);
	expect_nothing(f->a);
	coap_server_release(f->server, 3, true);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_ACK);
	assert_int_equal(seen_number(&seen, OPT_BLOCK1), block_value(1, false, 0));
	assert_int_equal(f->called, 1);
}

/* --- Down --- */

static void reply_body(struct fixture *f, const uint8_t *from, size_t len)
{
	reply_with(f, FG_COAP_CODE(2, 5), NULL);
	f->reply.payload = from;
	f->reply.payload_len = len;
	f->reply.format = FG_COAP_CBOR;
}

static void test_a_large_answer_goes_in_blocks_of_the_size_that_is_asked_for(void **state)
{
	struct fixture *f = *state;

	for (unsigned szx = 0; szx <= 6; szx++) {
		size_t size = (size_t)16 << szx, len = 2 * size + 3;

		reply_body(f, body, len);
		for (uint32_t num = 0; num < 3; num++) {
			struct coap_seen seen = get_block(f->a, "state", num, szx);

			assert_int_equal(seen.code, CODE(2, 5));
			assert_int_equal(seen_number(&seen, OPT_BLOCK2),
					 block_value(num, num < 2, szx));
			assert_int_equal(seen_number(&seen, OPT_CONTENT_FORMAT), FG_COAP_CBOR);
			assert_int_equal(seen_number(&seen, OPT_SIZE2),
					 num == 0 ? (int64_t)len : -1);
			assert_int_equal(seen.payload_len, num < 2 ? size : 3);
			assert_memory_equal(seen.payload, body + num * size, seen.payload_len);
		}
		assert_int_equal(f->called, szx + 1);
		assert_null(f->a->peer);
	}
}

static void test_without_a_wish_blocks_are_of_1024_bytes(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_body(f, body, 1025);
	send_request(f->a, B_CON, CODE(0, 1), next_mid++, "t", "state", NULL);
	seen = expect(f->a);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(0, true, 6));
	assert_int_equal(seen.payload_len, 1024);
	reply_body(f, body, 1024);
	send_request(f->a, B_CON, CODE(0, 1), next_mid++, "t", "store/x", NULL);
	seen = expect(f->a);
	assert_false(seen_has(&seen, OPT_BLOCK2));
	assert_int_equal(seen.payload_len, 1024);
}

/* A device that wants smaller blocks than the first: RFC 7959 section 2.4 */
static void test_the_block_size_may_get_smaller_on_the_way(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_body(f, body, 2000);
	send_request(f->a, B_CON, CODE(0, 1), next_mid++, "t", "state", NULL);
	expect(f->a);
	seen = get_block(f->a, "state", 8, 3);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(8, true, 3));
	assert_memory_equal(seen.payload, body + 1024, 128);
	assert_int_equal(f->called, 1);
}

static void test_the_etag_is_the_same_over_all_blocks_and_another_for_other_content(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;
	int64_t etag;

	reply_body(f, body, 100);
	seen = get_block(f->a, "state", 0, 1);
	etag = seen_number(&seen, OPT_ETAG);
	assert_true(etag >= 0);
	for (uint32_t num = 1; num < 4; num++) {
		seen = get_block(f->a, "state", num, 1);
		assert_int_equal(seen_number(&seen, OPT_ETAG), etag);
	}
	reply_body(f, other, 100);
	seen = get_block(f->a, "state", 0, 1);
	assert_int_not_equal(seen_number(&seen, OPT_ETAG), etag);

	memcpy(f->reply.etag, "\1\2\3", 3);
	f->reply.etag_len = 3;
	for (uint32_t num = 0; num < 3; num++) {
		seen = get_block(f->a, "state", num, 1);
		assert_int_equal(seen_number(&seen, OPT_ETAG), 0x010203);
	}
}

/* What changes while a device collects its blocks does not change what it collects. */
static void test_blocks_are_of_the_answer_that_was_begun(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_body(f, body, 100);
	get_block(f->a, "state", 0, 1);
	reply_body(f, other, 100);
	seen = get_block(f->a, "state", 1, 1);
	assert_memory_equal(seen.payload, body + 32, 32);
}

static void test_a_block_of_what_is_not_kept_is_made_again_for_get(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	reply_body(f, body, 100);
	seen = get_block(f->a, "state", 1, 1);
	assert_int_equal(seen.code, CODE(2, 5));
	assert_memory_equal(seen.payload, body + 32, 32);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(1, true, 1));
	assert_int_equal(get_block(f->a, "store/x", 9, 1).code, CODE(4, 0));
}

static void test_a_block_of_what_is_not_kept_is_4_08_for_others(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;

	bytes_begin(&b, B_CON, CODE(0, 5), next_mid++, "t");
	bytes_path(&b, "store/x");
	bytes_block(&b, OPT_BLOCK2, 1, false, 1);
	deliver(f->a, &b);
	assert_int_equal(expect(f->a).code, CODE(4, 8));
	assert_int_equal(f->called, 0);
}

static void test_answers_are_kept_for_each_query_and_accept_alone(void **state)
{
	struct fixture *f = *state;
	struct coap_bytes b;
	struct coap_seen seen;

	reply_body(f, body, 100);
	get_block(f->a, "state", 0, 1);
	reply_body(f, other, 100);
	bytes_begin(&b, B_CON, CODE(0, 1), next_mid++, "t");
	bytes_path(&b, "state");
	bytes_option(&b, OPT_URI_QUERY, "delta", 5);
	bytes_block(&b, OPT_BLOCK2, 0, false, 1);
	deliver(f->a, &b);
	seen = expect(f->a);
	assert_memory_equal(seen.payload, other, 32);
	seen = get_block(f->a, "state", 1, 1);
	assert_memory_equal(seen.payload, body + 32, 32);
	seen = get_block(f->b, "state", 1, 1);
	assert_memory_equal(seen.payload, other + 32, 32);
}

static void test_a_large_answer_can_be_late(void **state)
{
	struct fixture *f = *state;
	struct coap_seen seen;

	f->done = COAP_LATER;
	send_request(f->a, B_CON, CODE(0, 1), next_mid++, "t", "state", NULL);
	expect(f->a);
	reply_body(f, body, 1500);
	coap_server_answer(f->server, f->exchange[0], &f->reply);
	seen = expect(f->a);
	assert_int_equal(seen.type, B_CON);
	assert_int_equal(seen_number(&seen, OPT_BLOCK2), block_value(0, true, 6));
	send_empty(f->a, B_ACK, seen.mid);
	seen = get_block(f->a, "state", 1, 6);
	assert_int_equal(seen.payload_len, 1500 - 1024);
	assert_int_equal(f->called, 1);
	assert_null(f->a->peer);
}

/* --- Through a bad network --- */

struct mover {
	struct client c;
	bool up;
	const char *path;
	const uint8_t *want; /* down: what is expected; up: what is sent */
	size_t len;
	unsigned szx;
	uint32_t num;
	uint8_t *got;
	int64_t etag;
	unsigned code; /* 0: not done */
	unsigned restarts;
};

static void mover_send(struct net *n, struct mover *m)
{
	size_t size = (size_t)16 << m->szx, offset = m->num * size;

	client_begin(n, &m->c, m->up ? CODE(0, 3) : CODE(0, 1));
	bytes_path(&m->c.request, m->path);
	if (m->up) {
		size_t len = m->len - offset < size ? m->len - offset : size;

		bytes_block(&m->c.request, OPT_BLOCK1, m->num, offset + size < m->len, m->szx);
		bytes_payload(&m->c.request, m->want + offset, len);
	} else {
		bytes_block(&m->c.request, OPT_BLOCK2, m->num, false, m->szx);
	}
	client_send(n, &m->c);
}

static void mover_go_on(struct net *n, struct mover *m)
{
	struct coap_seen seen;
	size_t size = (size_t)16 << m->szx;

	if (!m->c.answered || m->code != 0)
		return;
	m->c.answered = false;
	assert_true(coap_see(&seen, m->c.answer.data, m->c.answer.len));
	if (m->up && seen.code == CODE(2, 31)) {
		m->num++;
	} else if (m->up && seen.code == CODE(4, 8)) {
		m->num = 0;
		m->restarts++;
	} else if (!m->up && seen.code == CODE(2, 5)) {
		if (m->num == 0)
			m->etag = seen_number(&seen, OPT_ETAG);
		assert_int_equal(seen_number(&seen, OPT_ETAG), m->etag);
		assert_int_equal(seen_number(&seen, OPT_BLOCK2) >> 4, m->num);
		assert_true(m->num * size + seen.payload_len <= m->len);
		memcpy(m->got + m->num * size, seen.payload, seen.payload_len);
		if ((seen_number(&seen, OPT_BLOCK2) & 8) == 0) {
			assert_int_equal(m->num * size + seen.payload_len, m->len);
			m->code = seen.code;
			return;
		}
		m->num++;
	} else {
		m->code = seen.code;
		return;
	}
	mover_send(n, m);
}

static void mover_start(struct net *n, struct mover *m, struct session *s, const char *token,
			const char *path, const uint8_t *want, unsigned szx, bool up)
{
	memset(m, 0, sizeof(*m));
	net_add(n, &m->c, s, token);
	m->up = up;
	m->path = path;
	m->want = want;
	m->len = BODY;
	m->szx = szx;
	m->got = calloc(1, BODY);
	assert_non_null(m->got);
	mover_send(n, m);
}

static unsigned bodies_seen, others_seen;

static void check_body(struct fixture *f, const struct coap_call *call)
{
	if (call->method == FG_COAP_PUT) {
		assert_int_equal(call->payload_len, BODY);
		if (memcmp(call->payload, body, BODY) == 0)
			bodies_seen++;
		else if (memcmp(call->payload, other, BODY) == 0)
			others_seen++;
		else
			fail_msg("a body that nobody sent");
		reply_with(f, FG_COAP_CODE(2, 4), NULL);
	} else {
		reply_body(f, strcmp(call->path, "store/other") == 0 ? other : body, BODY);
	}
}

static void move(struct fixture *f, unsigned seed, unsigned loss)
{
	struct net *n = net_new(f, seed);
	struct mover m[6];
	unsigned left = 6;

	n->loss = loss;
	n->doubling = 20;
	n->delay = 3;
	bodies_seen = others_seen = 0;
	f->in_handler = check_body;
	mover_start(n, &m[0], f->a, "up1", "msg", body, 6, true);
	mover_start(n, &m[1], f->a, "up2", "store/1", other, 5, true);
	mover_start(n, &m[2], f->b, "up3", "msg", other, 6, true);
	mover_start(n, &m[3], f->a, "dn1", "store/body", body, 6, false);
	mover_start(n, &m[4], f->a, "dn2", "store/other", other, 5, false);
	mover_start(n, &m[5], f->b, "dn3", "store/other", other, 6, false);
	for (unsigned step = 0; step < 20000 && left > 0; step++) {
		net_step(n);
		left = 0;
		for (size_t i = 0; i < 6; i++) {
			mover_go_on(n, &m[i]);
			left += m[i].code == 0;
		}
	}
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(m[i].code, m[i].up ? CODE(2, 4) : CODE(2, 5));
		assert_int_equal(m[i].restarts, 0);
		if (!m[i].up)
			assert_memory_equal(m[i].got, m[i].want, BODY);
		free(m[i].got);
	}
	assert_int_equal(bodies_seen, 1);
	assert_int_equal(others_seen, 2);
	assert_int_equal(f->called, 6);
	net_free(n);
}

static void test_64_kb_up_and_down_through_a_network_that_works(void **state)
{
	move(*state, 1, 0);
}

/* Six transfers at once, four of them of one session: each handler is called once. */
static void test_64_kb_up_and_down_with_loss_doubling_and_reordering(void **state)
{
	struct fixture *f = *state;

	for (unsigned seed = 1; seed <= 10; seed++) {
		move(f, seed, 30);
		fixture_free(f);
		f = *state = fixture_new();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_upload_is_one_call_of_the_handler),
		TEST(test_a_body_in_a_single_block_is_not_kept),
		TEST(test_admit_is_asked_for_every_block),
		TEST(test_a_missing_block_is_4_08),
		TEST(test_the_same_block_again_is_harmless),
		TEST(test_block_0_with_other_content_begins_anew),
		TEST(test_blocks_of_two_bodies_are_never_mixed),
		TEST(test_request_tags_keep_bodies_apart),
		TEST(test_another_content_format_is_another_body),
		TEST(test_a_block_of_another_length_than_it_says_is_a_bad_request),
		TEST(test_a_get_has_no_body),
		TEST(test_a_body_beyond_max_body_is_4_13),
		TEST(test_a_body_of_max_body_is_taken),
		TEST(test_a_size_that_is_promised_is_not_allocated),
		TEST(test_abandoned_transfers_expire),
		TEST(test_beyond_max_transfers_the_oldest_of_the_session_goes),
		TEST(test_beyond_max_transfers_all_it_is_5_03),
		TEST(test_the_answer_to_an_upload_can_be_late),
		TEST(test_the_answer_to_an_upload_can_be_held),
		TEST(test_a_large_answer_goes_in_blocks_of_the_size_that_is_asked_for),
		TEST(test_without_a_wish_blocks_are_of_1024_bytes),
		TEST(test_the_block_size_may_get_smaller_on_the_way),
		TEST(test_the_etag_is_the_same_over_all_blocks_and_another_for_other_content),
		TEST(test_blocks_are_of_the_answer_that_was_begun),
		TEST(test_a_block_of_what_is_not_kept_is_made_again_for_get),
		TEST(test_a_block_of_what_is_not_kept_is_4_08_for_others),
		TEST(test_answers_are_kept_for_each_query_and_accept_alone),
		TEST(test_a_large_answer_can_be_late),
		TEST(test_64_kb_up_and_down_through_a_network_that_works),
		TEST(test_64_kb_up_and_down_with_loss_doubling_and_reordering),
	};

	fixture_defaults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
