/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/dtls: who a session belongs to, and what moves or ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
