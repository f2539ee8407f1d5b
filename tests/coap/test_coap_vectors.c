/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of tests/vectors/coap_messages.txt, which the device's code reads and writes, are
 * the same to libcoap and to the server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <coap3/coap.h>

#include "coap-server/coap/glue.h"
#include "tests/firmware/coap_vectors.h"

static struct coap_vector v;

static void expect_options(const coap_pdu_t *pdu)
{
	coap_opt_iterator_t all;
	coap_opt_t *option;

	if (!coap_option_iterator_init(pdu, &all, COAP_OPT_ALL)) {
		assert_int_equal(v.option_count, 0);
		return;
	}
	for (size_t i = 0; i < v.option_count; i++) {
		option = coap_option_next(&all);
		assert_non_null(option);
		assert_int_equal(all.number, v.options[i].number);
		assert_int_equal(coap_opt_length(option), v.options[i].length);
		assert_memory_equal(coap_opt_value(option), v.options[i].value,
				    v.options[i].length);
	}
	assert_null(coap_option_next(&all));
}

static void expect_libcoap_reads(void)
{
	coap_pdu_t *pdu = coap_pdu_init(COAP_MESSAGE_CON, COAP_EMPTY_CODE, 0, v.length);
	const uint8_t *payload = NULL;
	size_t length = 0;

	assert_non_null(pdu);
	assert_int_equal(coap_pdu_parse(COAP_PROTO_UDP, v.bytes, v.length, pdu), 1);
	assert_int_equal(coap_pdu_get_type(pdu), v.type);
	assert_int_equal(coap_pdu_get_code(pdu), v.code);
	assert_int_equal(coap_pdu_get_mid(pdu), v.id);
	assert_int_equal(coap_pdu_get_token(pdu).length, v.token_length);
	if (v.token_length > 0)
		assert_memory_equal(coap_pdu_get_token(pdu).s, v.token, v.token_length);
	expect_options(pdu);
	coap_get_data(pdu, &length, &payload);
	assert_int_equal(length, v.payload_length);
	if (length > 0)
		assert_memory_equal(payload, v.payload, length);
	coap_delete_pdu(pdu);
}

static void expect_libcoap_refuses(void)
{
	coap_pdu_t *pdu = coap_pdu_init(COAP_MESSAGE_CON, COAP_EMPTY_CODE, 0, v.length + 1);
	bool long_token = v.length > 0 && (v.bytes[0] & 15) > MESSAGE_TOKEN_MAX;
	int read;

	assert_non_null(pdu);
	read = coap_pdu_parse(COAP_PROTO_UDP, v.bytes, v.length, pdu);
	/* libcoap knows longer ones (RFC 8974); the server does not offer them. */
	if (!long_token)
		assert_int_equal(read, 0);
	coap_delete_pdu(pdu);
}

static void expect_server_reads(void)
{
	static struct message m;

	assert_int_equal(message_read(&m, v.bytes, v.length), MESSAGE_READ_OK);
	assert_int_equal(m.id.type, v.type);
	assert_int_equal(m.code, v.code);
	assert_int_equal(m.id.mid, v.id);
	assert_int_equal(m.id.token_len, v.token_length);
	assert_memory_equal(m.id.token, v.token, v.token_length);
	assert_int_equal(m.call.payload_len, v.payload_length);
	if (v.payload_length > 0)
		assert_memory_equal(m.call.payload, v.payload, v.payload_length);
}

static void expect_server_refuses(void)
{
	static struct message m;
	enum message_read outcome = message_read(&m, v.bytes, v.length);

	assert_int_not_equal(outcome, MESSAGE_READ_OK);
	assert_int_equal(outcome == MESSAGE_READ_ERROR && m.id.type == MESSAGE_CON, v.reset);
}

static void each(void (*good)(void), void (*refused)(void))
{
	FILE *file = fopen(COAP_VECTORS, "r");
	size_t count = 0;

	assert_non_null(file);
	for (; coap_vector_next(file, &v); count++) {
		print_message("%s", strchr(v.line, '#'));
		(v.refused ? refused : good)();
	}
	fclose(file);
	assert_true(count > 50);
}

static void test_libcoap_reads_and_refuses_the_vectors(void **state)
{
	(void)state;
	coap_startup();
	coap_set_log_level(COAP_LOG_EMERG);
	each(expect_libcoap_reads, expect_libcoap_refuses);
	coap_cleanup();
}

static void test_server_reads_and_refuses_the_vectors(void **state)
{
	(void)state;
	each(expect_server_reads, expect_server_refuses);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libcoap_reads_and_refuses_the_vectors),
		cmocka_unit_test(test_server_reads_and_refuses_the_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
