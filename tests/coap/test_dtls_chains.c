/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/dtls: chains of certificates. Long ones of both sides, and those of devices that send
 * only their own, which the registry's authorities complete. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

#include "tests/coap/dtls_world.h"

/* --- Long ones --- */

static size_t len_of_file(const char *name)
{
	mbedtls_x509_crt chain;
	size_t len = 0;

	mbedtls_x509_crt_init(&chain);
	assert_int_equal(mbedtls_x509_crt_parse_file(&chain, world_file(name)), 0);
	for (const mbedtls_x509_crt *c = &chain; c; c = c->next)
		len += c->raw.len;
	mbedtls_x509_crt_free(&chain);
	return len;
}

static void test_server_chain_of_4_kb_in_datagrams_that_fit(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	assert_in_range(len_of_file("full.pem"), 3700, 4095);
	w->options.certificate_file = world_file("full.pem");
	w->options.key_file = world_file("full.key");
	world_open(w);
	c = world_connect(w, WORLD_CLIENT_CERTIFICATE, true);
	assert_true(w->out_bytes > 3700);
	assert_in_range(w->out_longest, 1000, 1232);
	world_check_echo(c, "x");
}

static bool third_is_lost(struct world *w, struct world_client *c, bool to_server,
			  const uint8_t *data, size_t len)
{
	static unsigned n;

	(void)w, (void)c, (void)to_server, (void)data, (void)len;
	return ++n % 3 != 0;
}

static void test_server_chain_of_4_kb_over_a_network_that_loses_a_third(void **state)
{
	struct world *w = *state;
	struct world_client *c;

	w->options.certificate_file = world_file("full.pem");
	w->options.key_file = world_file("full.key");
	world_open(w);
	c = world_client(w, WORLD_CERTIFICATE, true);
	w->passes = third_is_lost;
	assert_int_equal(world_handshake_for(c, 50), 0);
}

static void test_server_chain_that_cannot_be_sent_is_refused_with_its_length(void **state)
{
	struct world *w = *state;
	char err[512] = "", len[32];

	w->options.certificate_file = world_file("over.pem");
	w->options.key_file = world_file("over.key");
	assert_int_equal(dtls_open(&w->endpoint, &w->options, &w->callbacks, err, sizeof(err)), -1);
	snprintf(len, sizeof(len), "have %zu bytes", len_of_file("over.pem"));
	assert_non_null(strstr(err, len));
	assert_non_null(strstr(err, "leave out the root"));
}

static int shake_hands_as(struct world *w, const char *pem, const char *key, uint16_t mtu)
{
	struct dtls_peer_options o;
	struct world_client *c;

	world_client_options(w, WORLD_CLIENT_CERTIFICATE, true, &o);
	o.certificate_file = world_file(pem);
	o.key_file = world_file(key);
	o.mtu = mtu;
	c = world_client_with(w, &o);
	return world_handshake(c);
}

static void test_device_with_the_certificate_of_its_ca_behind_its_own(void **state)
{
	struct world *w = *state;

	world_open(w);
	assert_int_equal(shake_hands_as(w, "whole.pem", "whole.key", 0), 0);
	assert_int_equal(shake_hands_as(w, "whole.pem", "whole.key", 200), 0);
	assert_int_equal(w->certificate_asked, 2);
}

/* --- Completed ones --- */

struct authorities {
	mbedtls_x509_crt crt[8];
	struct certificate_der der[8];
	size_t count;
	const char *ignored[8];
};

static void add(struct authorities *a, const char *name)
{
	mbedtls_x509_crt *crt = &a->crt[a->count];

	mbedtls_x509_crt_init(crt);
	assert_int_equal(mbedtls_x509_crt_parse_file(crt, world_file(name)), 0);
	a->der[a->count++] = (struct certificate_der){crt->raw.p, crt->raw.len};
}

static void ignored(void *arg, size_t i, const char *why)
{
	((struct authorities *)arg)->ignored[i] = why;
}

static void set(struct world *w, struct authorities *a)
{
	dtls_set_authorities(w->endpoint, a->der, a->count, ignored, a);
	for (size_t i = 0; i < a->count; i++)
		mbedtls_x509_crt_free(&a->crt[i]); /* bytes are copied */
	a->count = 0;
}

static void test_authority_completes_the_chain_of_a_device_that_sends_its_own_alone(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	world_open(w);
	assert_int_not_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
	add(&a, "inter.pem");
	add(&a, "ca.pem"); /* is in the file: nothing to be said */
	set(w, &a);
	assert_null(a.ignored[0]);
	assert_null(a.ignored[1]);
	assert_int_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
	assert_int_equal(shake_hands_as(w, "whole.pem", "whole.key", 0), 0);
	assert_int_equal(shake_hands_as(w, "device.pem", "device.key", 0), 0);
	set(w, &a); /* none any more */
	assert_int_not_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
	assert_int_equal(shake_hands_as(w, "device.pem", "device.key", 0), 0);
}

static void test_authority_that_no_ca_of_the_file_has_signed_is_not_believed(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	world_open(w);
	add(&a, "chain.pem"); /* a root of its own */
	add(&a, "device.pem");
	add(&a, "inter384.pem");
	a.der[a.count++] = (struct certificate_der){"no certificate", 14};
	set(w, &a);
	assert_non_null(strstr(a.ignored[0], "not signed by a CA of coap.client_ca_file"));
	assert_non_null(strstr(a.ignored[1], "no CA"));
	assert_non_null(strstr(a.ignored[2], "not P-256"));
	assert_non_null(strstr(a.ignored[3], "cannot be read"));
	assert_int_not_equal(shake_hands_as(w, "stranger.pem", "stranger.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
}

static void test_authority_that_has_expired_is_kept_and_not_believed(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	world_open(w);
	add(&a, "lapsed.pem");
	set(w, &a);
	assert_null(a.ignored[0]); /* by a clock that is right again it may be good */
	assert_int_not_equal(shake_hands_as(w, "leaflapsed.pem", "leaflapsed.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
}

static void test_authority_does_not_outlive_the_ca_of_the_file(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	w->options.client_ca_file = world_file("old.pem"); /* has expired, young.pem has not */
	world_open(w);
	add(&a, "young.pem");
	set(w, &a);
	assert_null(a.ignored[0]);
	assert_int_not_equal(shake_hands_as(w, "leafyoung.pem", "leafyoung.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
}

static void test_ca_that_shows_its_own_certificate_is_no_device(void **state)
{
	struct world *w = *state;

	world_open(w);
	assert_int_not_equal(shake_hands_as(w, "inter.pem", "inter.key", 0), 0);
	assert_int_not_equal(shake_hands_as(w, "ca.pem", "ca.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
}

static void test_authority_below_a_ca_that_allows_none_is_not_believed(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	w->options.client_ca_file = world_file("narrow.pem");
	world_open(w);
	add(&a, "below.pem");
	set(w, &a);
	assert_non_null(a.ignored[0]);
	assert_int_not_equal(shake_hands_as(w, "leafbelow.pem", "leafbelow.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0);
}

static void test_authorities_are_asked_for_again_after_a_reload(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};
	char err[256];

	world_open(w);
	add(&a, "inter.pem");
	set(w, &a);
	assert_int_equal(dtls_reload(w->endpoint, &w->options, err, sizeof(err)), 0);
	assert_int_not_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
	add(&a, "inter.pem");
	set(w, &a);
	assert_int_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
}

static void test_authorities_have_no_use_without_a_file_of_cas(void **state)
{
	struct world *w = *state;
	struct authorities a = {0};

	w->options.client_ca_file = NULL;
	world_open(w);
	add(&a, "inter.pem");
	set(w, &a);
	assert_int_equal(shake_hands_as(w, "leaf.pem", "leaf.key", 0), 0);
	assert_int_equal(w->certificate_asked, 0); /* nobody asked for it */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_server_chain_of_4_kb_in_datagrams_that_fit),
		TEST(test_server_chain_of_4_kb_over_a_network_that_loses_a_third),
		TEST(test_server_chain_that_cannot_be_sent_is_refused_with_its_length),
		TEST(test_device_with_the_certificate_of_its_ca_behind_its_own),
		TEST(test_authority_completes_the_chain_of_a_device_that_sends_its_own_alone),
		TEST(test_authority_that_no_ca_of_the_file_has_signed_is_not_believed),
		TEST(test_authority_that_has_expired_is_kept_and_not_believed),
		TEST(test_authority_does_not_outlive_the_ca_of_the_file),
		TEST(test_ca_that_shows_its_own_certificate_is_no_device),
		TEST(test_authority_below_a_ca_that_allows_none_is_not_believed),
		TEST(test_authorities_are_asked_for_again_after_a_reload),
		TEST(test_authorities_have_no_use_without_a_file_of_cas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
