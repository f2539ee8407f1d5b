/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: each is looked up once, and a host that does not answer at its first address may do so at
 * its second.
 *
 * LINK: -Wl,--wrap=getaddrinfo
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "device-fw/ports/posix/link_host.h"
#include "tests/posix/link_world.h"

int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
		       struct addrinfo **out);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
		       struct addrinfo **out);

static unsigned lookups;

/* localhost: an address where nothing listens, and the right one. */
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
		       struct addrinfo **out)
{
	int r;

	lookups++;
	if (strcmp(name, "localhost") != 0)
		return __real_getaddrinfo(name, service, hints, out);
	r = __real_getaddrinfo("127.0.0.2", service, hints, out);
	return r == 0 ? __real_getaddrinfo("127.0.0.1", service, hints, &(*out)->ai_next) : r;
}

static struct link_world world, *const w = &world;

static int tear_down(void **state)
{
	const char *reason;

	(void)state;
	link_world_free(w);
	link_host_prefer(link_host_find("localhost", &reason), 0);
	return 0;
}

static void connects_to_the_second(bool stream)
{
	const struct link_server_options o = {.stream = stream, .certificate = "server"};
	const char *reason;
	struct link_host *h = link_host_find("localhost", &reason);
	unsigned before = lookups;

	assert_int_equal(link_host_count(h), 2);
	assert_int_equal(link_host_preferred(h), 0);
	link_world_init(w, &o);
	w->target.host = "localhost";
	link_world_connect(w);
	assert_int_equal(link_host_preferred(h), 1);
	link_close(w->link, false);
	link_world_connect(w);
	assert_int_equal(lookups, before);
	/* And round to the first, if the second has gone. */
	link_close(w->link, false);
	link_server_free(w->server);
	w->server = NULL;
	link_world_open(w, false);
	assert_int_equal(w->disconnections, 1);
}

static void test_a_stream_connects_to_the_second_address(void **state)
{
	(void)state;
	connects_to_the_second(true);
}

static void test_datagrams_go_to_the_second_address(void **state)
{
	(void)state;
	connects_to_the_second(false);
}

static void test_a_name_is_looked_up_once_but_again_if_it_was_not_found(void **state)
{
	const char *reason = NULL;
	struct sockaddr_storage address;
	struct link_host *h = link_host_find("127.0.0.3", &reason);
	unsigned before = lookups;

	(void)state;
	assert_ptr_equal(link_host_find("127.0.0.3", &reason), h);
	assert_int_equal(lookups, before);
	assert_string_equal(link_host_name(h), "127.0.0.3");
	assert_int_equal(link_host_address(h, 0, 5684, &address), sizeof(struct sockaddr_in));
	assert_int_equal(ntohs(((struct sockaddr_in *)&address)->sin_port), 5684);

	assert_null(link_host_find("nowhere.invalid", &reason));
	assert_non_null(reason);
	before = lookups;
	assert_null(link_host_find("nowhere.invalid", &reason));
	assert_true(lookups > before);
}

static void test_an_address_of_ipv6_has_its_port_too(void **state)
{
	const char *reason;
	struct sockaddr_storage address;
	struct link_host *h = link_host_find("::1", &reason);

	(void)state;
	assert_non_null(h);
	assert_int_equal(link_host_address(h, 0, 5684, &address), sizeof(struct sockaddr_in6));
	assert_int_equal(ntohs(((struct sockaddr_in6 *)&address)->sin6_port), 5684);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_stream_connects_to_the_second_address, tear_down),
		cmocka_unit_test_teardown(test_datagrams_go_to_the_second_address, tear_down),
		cmocka_unit_test(test_a_name_is_looked_up_once_but_again_if_it_was_not_found),
		cmocka_unit_test(test_an_address_of_ipv6_has_its_port_too),
	};

	return cmocka_run_group_tests_name("link_host", tests, NULL, NULL);
}
