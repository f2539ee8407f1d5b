/* SPDX-License-Identifier: Apache-2.0 */
/* What a device may be told, and what it does not take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "device-fw/core/config.h"

static struct fg_config good(enum fg_transport transport, enum fg_credential credential)
{
	struct fg_config c;

	memset(&c, 0xee, sizeof(c));
	fg_config_defaults(&c, transport, credential);
	c.device = "nrf-352656100000001";
	c.target.host = "fieldgate.example";
	return c;
}

static struct fg_config coap(void)
{
	return good(FG_TRANSPORT_COAP, FG_CREDENTIAL_PSK);
}

static void assert_taken(const struct fg_config *c)
{
	const char *what = "nothing";

	assert_int_equal(fg_config_check(c, &what), 0);
	assert_string_equal(what, "nothing");
}

static void assert_refused(const struct fg_config *c, const char *member)
{
	const char *what = "nothing";

	assert_int_equal(fg_config_check(c, &what), -EINVAL);
	assert_string_equal(what, member);
}

static void test_defaults_lack_only_who_and_where(void **state)
{
	struct fg_config c = coap();

	(void)state;
	assert_taken(&c);
	c.device = NULL;
	assert_refused(&c, "device");
	c = coap();
	c.target.host = NULL;
	assert_refused(&c, "target");
}

static void test_defaults_fit_transport_and_credential(void **state)
{
	struct fg_config c = good(FG_TRANSPORT_COAP, FG_CREDENTIAL_JWT);

	(void)state;
	assert_taken(&c);
	assert_int_equal(c.target.port, 5684);
	assert_true(c.session.authenticates && c.session.sleeps);
	c = good(FG_TRANSPORT_COAP, FG_CREDENTIAL_CERTIFICATE);
	assert_taken(&c);
	assert_false(c.session.authenticates);
	c = good(FG_TRANSPORT_MQTT, FG_CREDENTIAL_CERTIFICATE);
	assert_taken(&c);
	assert_int_equal(c.target.port, 8883);
	assert_true(c.session.authenticates);
	assert_false(c.session.sleeps);
}

static void test_device_id_has_its_alphabet_only(void **state)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";
	char id[2] = "";
	struct fg_config c = coap();

	(void)state;
	c.device = id;
	assert_refused(&c, "device");
	for (int i = 1; i < 256; i++) {
		id[0] = (char)i;
		if (strchr(alphabet, id[0]))
			assert_taken(&c);
		else
			assert_refused(&c, "device");
	}
}

static void test_device_id_has_64_characters_at_most(void **state)
{
	char id[66];
	struct fg_config c = coap();

	(void)state;
	memset(id, 'x', sizeof(id));
	id[64] = '\0';
	c.device = id;
	assert_taken(&c);
	id[64] = 'x';
	id[65] = '\0';
	assert_refused(&c, "device");
}

static void test_target(void **state)
{
	struct fg_config c = coap();

	(void)state;
	c.target.host = "";
	assert_refused(&c, "target");
	c = coap();
	c.target.port = 0;
	assert_refused(&c, "target");
	c = coap();
	c.target.transport = (enum fg_transport)2;
	assert_refused(&c, "target");
	c = coap();
	c.target.credential = (enum fg_credential)3;
	assert_refused(&c, "target");
}

static void test_jwt_is_for_coap_only(void **state)
{
	struct fg_config c = good(FG_TRANSPORT_MQTT, FG_CREDENTIAL_JWT);

	(void)state;
	assert_refused(&c, "target");
}

static void test_interval_is_from_a_second_to_a_week(void **state)
{
	struct fg_config c = coap();

	(void)state;
	c.interval_s = 1;
	assert_taken(&c);
	c.interval_s = 0;
	assert_refused(&c, "interval_s");
	c.interval_s = 604800;
	assert_taken(&c);
	c.interval_s = 604801;
	assert_refused(&c, "interval_s");
	c.interval_s = -1;
	assert_refused(&c, "interval_s");
}

static void test_batch_holds_a_record_at_least_and_what_its_head_can_say(void **state)
{
	struct fg_config c = coap();

	(void)state;
	c.batch_max = 1;
	assert_taken(&c);
	c.batch_max = 23;
	assert_taken(&c);
	c.batch_max = 24;
	assert_refused(&c, "batch_max");
	c.batch_max = 0;
	assert_refused(&c, "batch_max");
}

static void test_no_wait_of_a_session_is_nothing(void **state)
{
	static const size_t waits[] = {
		offsetof(struct fg_session_config, attach_ms),
		offsetof(struct fg_session_config, connect_ms),
		offsetof(struct fg_session_config, authenticate_ms),
		offsetof(struct fg_session_config, resume_ms),
		offsetof(struct fg_session_config, run_ms),
		offsetof(struct fg_session_config, sleep_ms),
		offsetof(struct fg_session_config, backoff_min_ms),
		offsetof(struct fg_session_config, backoff_max_ms),
		offsetof(struct fg_session_config, refused_min_ms),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		struct fg_config c = coap();

		memset((char *)&c.session + waits[i], 0, sizeof(uint32_t));
		assert_refused(&c, "session");
	}
}

static void test_backing_off_never_begins_above_its_end(void **state)
{
	struct fg_config c = coap();

	(void)state;
	c.session.backoff_min_ms = c.session.refused_min_ms = c.session.backoff_max_ms;
	assert_taken(&c);
	c.session.backoff_min_ms++;
	assert_refused(&c, "session");
	c = coap();
	c.session.refused_min_ms = c.session.backoff_max_ms + 1;
	assert_refused(&c, "session");
}

static void test_retransmissions_end(void **state)
{
	struct fg_config c = coap();

	(void)state;
	c.coap.max_retransmit = 10;
	assert_taken(&c);
	c.coap.max_retransmit = 11;
	assert_refused(&c, "coap");
	c = coap();
	c.coap.ack_timeout_ms = 0;
	assert_refused(&c, "coap");
	c = coap();
	c.coap.response_timeout_ms = 0;
	assert_refused(&c, "coap");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_lack_only_who_and_where),
		cmocka_unit_test(test_defaults_fit_transport_and_credential),
		cmocka_unit_test(test_device_id_has_its_alphabet_only),
		cmocka_unit_test(test_device_id_has_64_characters_at_most),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_jwt_is_for_coap_only),
		cmocka_unit_test(test_interval_is_from_a_second_to_a_week),
		cmocka_unit_test(test_batch_holds_a_record_at_least_and_what_its_head_can_say),
		cmocka_unit_test(test_no_wait_of_a_session_is_nothing),
		cmocka_unit_test(test_backing_off_never_begins_above_its_end),
		cmocka_unit_test(test_retransmissions_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
