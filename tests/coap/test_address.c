/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/net/address: one form for IPv4 and IPv6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "coap-server/net/address.h"

static struct address four(const char *ip, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct address a;

	assert_int_equal(inet_pton(AF_INET, ip, &sa.sin_addr), 1);
	assert_int_equal(address_from_sockaddr(&a, (struct sockaddr *)&sa), 0);
	return a;
}

static struct address six(const char *ip, uint16_t port, uint32_t scope)
{
	struct sockaddr_in6 sa = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope};
	struct address a;

	assert_int_equal(inet_pton(AF_INET6, ip, &sa.sin6_addr), 1);
	assert_int_equal(address_from_sockaddr(&a, (struct sockaddr *)&sa), 0);
	return a;
}

static void test_ipv4_and_its_mapped_form_are_the_same(void **state)
{
	struct address a = four("192.0.2.7", 5684), b = six("::ffff:192.0.2.7", 5684, 0);

	(void)state;
	assert_true(address_equal(&a, &b));
}

static void test_text(void **state)
{
	char text[ADDRESS_TEXT_MAX];
	struct address a = four("192.0.2.7", 5684), b = six("2001:db8::7", 40000, 0);

	(void)state;
	assert_string_equal(address_text(&a, text), "192.0.2.7:5684");
	assert_string_equal(address_text(&b, text), "[2001:db8::7]:40000");
}

static void test_an_address_comes_back_from_its_sockaddr(void **state)
{
	struct address a = six("fe80::1", 1, 3), b, c = four("192.0.2.7", 5684);
	struct sockaddr_storage sa;

	(void)state;
	assert_int_equal(address_to_sockaddr(&a, AF_INET6, &sa), sizeof(struct sockaddr_in6));
	assert_int_equal(address_from_sockaddr(&b, (struct sockaddr *)&sa), 0);
	assert_true(address_equal(&a, &b));
	assert_int_equal(address_to_sockaddr(&c, AF_INET, &sa), sizeof(struct sockaddr_in));
	assert_int_equal(address_from_sockaddr(&b, (struct sockaddr *)&sa), 0);
	assert_true(address_equal(&c, &b));
	assert_int_equal(address_to_sockaddr(&a, AF_INET, &sa), -EAFNOSUPPORT);
}

static void test_a_source_is_an_ipv4_address_or_an_ipv6_network(void **state)
{
	struct address a = four("192.0.2.7", 1), b = four("192.0.2.7", 2), c = four("192.0.2.8", 1);
	struct address d = six("2001:db8:1:2::7", 1, 0), e = six("2001:db8:1:2:ffff::8", 9, 0);
	struct address f = six("2001:db8:1:3::7", 1, 0);

	(void)state;
	assert_true(address_source(&a) == address_source(&b));
	assert_false(address_source(&a) == address_source(&c));
	assert_true(address_source(&d) == address_source(&e));
	assert_false(address_source(&d) == address_source(&f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4_and_its_mapped_form_are_the_same),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_an_address_comes_back_from_its_sockaddr),
		cmocka_unit_test(test_a_source_is_an_ipv4_address_or_an_ipv6_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
