/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries that are linked are those of deps/, configured as deps/README.md says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <coap3/coap.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

static void test_mbedtls_is_the_one_of_its_headers(void **state)
{
	char version[18];

	(void)state;
	mbedtls_version_get_string_full(version);
	assert_string_equal(version, MBEDTLS_VERSION_STRING_FULL);
	assert_true(mbedtls_version_get_number() >= 0x03060600);
	assert_true(mbedtls_version_get_number() < 0x03070000);
}

static void test_mbedtls_has_what_the_endpoint_needs_and_no_more(void **state)
{
	static const char *const present[] = {
		"MBEDTLS_SSL_DTLS_CONNECTION_ID",
		"MBEDTLS_SSL_CONTEXT_SERIALIZATION",
		"MBEDTLS_SSL_DTLS_HELLO_VERIFY",
		"MBEDTLS_SSL_DTLS_ANTI_REPLAY",
		"MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED",
		"MBEDTLS_CHACHAPOLY_C",
		"MBEDTLS_CCM_C",
	};
	static const char *const absent[] = {
		"MBEDTLS_SSL_PROTO_TLS1_3",
		"MBEDTLS_SSL_RENEGOTIATION",
		"MBEDTLS_SSL_KEEP_PEER_CERTIFICATE",
		"MBEDTLS_ECDSA_DETERMINISTIC",
		"MBEDTLS_SSL_DTLS_SRTP",
		"MBEDTLS_SSL_MAX_FRAGMENT_LENGTH",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(present) / sizeof(*present); i++)
		if (mbedtls_version_check_feature(present[i]) != 0)
			fail_msg("%s is not there", present[i]);
	for (size_t i = 0; i < sizeof(absent) / sizeof(*absent); i++)
		if (mbedtls_version_check_feature(absent[i]) == 0)
			fail_msg("%s is there", absent[i]);
	assert_int_equal(MBEDTLS_SSL_IN_CONTENT_LEN, 4160);
	assert_int_equal(MBEDTLS_SSL_OUT_CONTENT_LEN, 4160);
}

/* All of the hooks, or none. */
static void test_mbedtls_has_the_hooks_that_its_flavour_says(void **state)
{
	static const char *const hooks[] = {
		"MBEDTLS_ECDSA_SIGN_ALT",      "MBEDTLS_ECDSA_VERIFY_ALT",
		"MBEDTLS_ECDH_GEN_PUBLIC_ALT", "MBEDTLS_ECDH_COMPUTE_SHARED_ALT",
		"MBEDTLS_SHA256_PROCESS_ALT",
	};
#ifdef MBEDTLS_ECDSA_SIGN_ALT
	int expected = 0;
#else
	int expected = -1;
#endif

	(void)state;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(*hooks); i++)
		assert_int_equal(mbedtls_version_check_feature(hooks[i]), expected);
}

static void test_libcoap_is_a_server_without_tls(void **state)
{
	coap_context_t *context;

	(void)state;
	assert_string_equal(coap_package_name(), "libcoap");
	assert_string_equal(coap_package_version(), "libcoap 4.3.5");
	assert_int_equal(LIBCOAP_VERSION, 4003005);
	assert_int_equal(coap_dtls_is_supported(), 0);
	assert_int_equal(coap_tls_is_supported(), 0);
	assert_int_equal(coap_tcp_is_supported(), 0);
	assert_int_equal(coap_ws_is_supported(), 0);
	assert_int_equal(coap_oscore_is_supported(), 0);
	assert_int_equal(coap_q_block_is_supported(), 0);
	assert_int_equal(coap_client_is_supported(), 0);
	assert_int_equal(coap_server_is_supported(), 1);
	assert_int_equal(coap_observe_persist_is_supported(), 0);
	assert_int_equal(coap_threadsafe_is_supported(), 0);
	/* Of the security patches: before, this was a read of NULL. */
	assert_string_equal(coap_session_str(NULL), "Session not defined");
	coap_startup();
	context = coap_new_context(NULL);
	assert_non_null(context);
	coap_free_context(context);
	coap_cleanup();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mbedtls_is_the_one_of_its_headers),
		cmocka_unit_test(test_mbedtls_has_what_the_endpoint_needs_and_no_more),
		cmocka_unit_test(test_mbedtls_has_the_hooks_that_its_flavour_says),
		cmocka_unit_test(test_libcoap_is_a_server_without_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
