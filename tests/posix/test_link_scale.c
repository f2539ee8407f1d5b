/* SPDX-License-Identifier: Apache-2.0 */
/* Many links in one process: what they take when they are open and when they sleep, and what is
 * said when the system has no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/posix/link_world.h"

#define MANY	   500
#define AT_ONCE	   50
#define KEPT_BYTES 1024
#define OPEN_BYTES 16384

static const struct link_server_options by_key = {
	.connection_id = true, .psk = LINK_WORLD_PSK, .suite = MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8};
static struct link_world world, *const w = &world;
static struct link *links[MANY];

static int set_up(void **state)
{
	(void)state;
	link_world_init(w, &by_key);
	link_world_identify_psk(w, "psk-device", LINK_WORLD_PSK);
	for (size_t i = 0; i < MANY; i++) {
		links[i] = link_new(&w->config);
		assert_non_null(links[i]);
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		link_free(links[i]);
		links[i] = NULL;
	}
	link_world_free(w);
	return 0;
}

static bool are_all_connected(const struct link_world *x)
{
	return x->connections == MANY;
}

static unsigned asked;

static bool have_all_an_answer(const struct link_world *x)
{
	return x->messages == asked;
}

static void open_all(bool resume)
{
	w->connections = 0;
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(link_open(links[i], &w->target, resume), 0);
	link_world_until(w, are_all_connected);
}

/* Not all at once: nobody would send again what the server's socket has no room for. */
static void talk_all(void)
{
	w->messages = 0;
	for (asked = 0; asked < MANY;) {
		assert_int_equal(link_send(links[asked++], "hello", 5), 0);
		if (asked % AT_ONCE == 0)
			link_world_until(w, have_all_an_answer);
	}
}

static void close_all(bool keep)
{
	for (size_t i = 0; i < MANY; i++)
		link_close(links[i], keep);
}

static size_t open_files(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 2 * MANY; fd++) {
		int copy = dup(fd);

		if (copy >= 0) {
			count++;
			close(copy);
		}
	}
	return count;
}

static void test_many_links_are_kept_and_resumed_and_a_kept_one_has_no_socket(void **state)
{
	size_t files = open_files();

	(void)state;
	open_all(false);
	talk_all();
	assert_int_equal(open_files(), files + MANY);
	for (int i = 0; i < 3; i++) {
		close_all(true);
		assert_int_equal(open_files(), files);
		open_all(true);
		talk_all();
	}
	assert_int_equal(link_server_handshakes(w->server), MANY);
}

/* Under a sanitizer the allocator does not count: 0. */
static size_t bytes_in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* The server is in the same process, but takes the same while the links are closed. */
static void test_a_link_takes_little_when_it_is_open_and_almost_nothing_when_it_sleeps(void **state)
{
	size_t open, kept, closed;

	(void)state;
	open_all(false);
	talk_all();
	open = bytes_in_use();
	close_all(true);
	kept = bytes_in_use();
	close_all(false);
	closed = bytes_in_use();
	assert_true(kept - closed <= (size_t)MANY * KEPT_BYTES);
	assert_true(open - closed <= (size_t)MANY * OPEN_BYTES);
}

static bool was_disconnected(const struct link_world *x)
{
	return x->disconnections > 0;
}

static void test_without_descriptors_a_link_says_so_and_works_later(void **state)
{
	struct rlimit before, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){(rlim_t)dup(0), before.rlim_max};
	close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(link_open(links[0], &w->target, false), 0);
	link_world_until(w, was_disconnected);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(w->error, -EMFILE);
	assert_non_null(strstr(w->reason, "ulimit -n"));
	open_all(false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_many_links_are_kept_and_resumed_and_a_kept_one_has_no_socket),
		TEST(test_a_link_takes_little_when_it_is_open_and_almost_nothing_when_it_sleeps),
		TEST(test_without_descriptors_a_link_says_so_and_works_later),
	};

	loop_descriptors();
	return cmocka_run_group_tests_name("link_scale", tests, NULL, NULL);
}
