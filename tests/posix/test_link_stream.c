/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's TLS over TCP: handshakes, refusals, queues, connections that are kept, cut and lost;
 * with Mbed TLS's own server, and with OpenSSL's.
 *
 * LINK: -Wl,--wrap=epoll_wait
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/posix/link_pki.h"
#include "tests/posix/link_world.h"

static const struct link_server_options usual = {.stream = true, .certificate = "server"};
static struct link_world world, *const w = &world;

static int tear_down(void **state)
{
	(void)state;
	link_world_free(w);
	return 0;
}

static void connect_usual(void)
{
	link_world_init(w, &usual);
	link_world_connect(w);
}

static bool was_disconnected(const struct link_world *x)
{
	return x->disconnections > 0;
}

static void test_a_device_connects_and_talks(void **state)
{
	(void)state;
	connect_usual();
	assert_false(w->connection.resumed);
	assert_false(w->connection.connection_id);
	link_world_echo(w, "hello");
	link_world_echo(w, "and more");
	assert_int_equal(link_counters(w->link)->sent, 2);
	assert_int_equal(link_counters(w->link)->received, 2);
	assert_int_equal(link_rebind(w->link), -EOPNOTSUPP);
}

static void test_a_device_shows_its_certificate(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.devices = "ca";
	link_world_init(w, &o);
	link_world_identify(w, "device");
	link_world_connect(w);
	link_world_echo(w, "hello");
}

static void test_the_second_handshake_is_abbreviated_where_the_server_gives_tickets(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.tickets = true;
	link_world_init(w, &o);
	link_world_connect(w);
	link_close(w->link, false);
	link_world_connect(w);
	assert_false(w->connection.resumed);
	link_world_echo(w, "hello");
	assert_int_equal(link_counters(w->link)->handshakes, 2);
	assert_int_equal(link_counters(w->link)->resumed, 1);
}

/* A session of one name says nothing about a server of another one. */
static void test_a_ticket_is_not_shown_to_another_name(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.tickets = true;
	link_world_init(w, &o);
	link_world_connect(w);
	link_close(w->link, false);
	w->target.host = "localhost";
	link_world_connect(w);
	assert_int_equal(link_counters(w->link)->resumed, 0);
}

/* ---- refusals */

static void refused(int error, const char *words)
{
	link_world_open(w, false);
	assert_int_equal(w->connections, 0);
	assert_int_equal(w->error, error);
	if (!strstr(w->reason, words) || strchr(w->reason, '\n'))
		fail_msg("\"%s\" does not say \"%s\" in one line", w->reason, words);
	assert_int_not_equal(w->reason[strlen(w->reason) - 1], ' ');
	assert_int_equal(link_counters(w->link)->failed, 1);
}

static void test_a_server_of_another_name_is_refused(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.certificate = "named";
	link_world_init(w, &o);
	refused(-EACCES, "CN");
}

static void test_a_device_that_the_server_refuses_is_told_so(void **state)
{
	struct link_server_options o = usual;

	(void)state;
	o.devices = "ca";
	link_world_init(w, &o);
	link_world_identify(w, "stranger");
	refused(-EACCES, "unknown_ca");
}

static void test_a_port_where_nobody_listens_is_told(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	link_server_free(w->server);
	w->server = NULL;
	refused(-ECONNREFUSED, "127.0.0.1:");
}

/* ---- queues */

static unsigned sent_bytes;

static bool has_all_arrived(const struct link_world *x)
{
	return link_server_bytes(x->server) == sent_bytes;
}

static void test_what_the_socket_does_not_take_is_queued_up_to_a_bound(void **state)
{
	struct link_server_options o = usual;
	static char bytes[5000];
	int r = 0;

	(void)state;
	o.sink = true;
	link_world_init(w, &o);
	link_world_connect(w);
	for (sent_bytes = 0; r == 0 && sent_bytes < 100000000; sent_bytes += r == 0 ? 5000 : 0)
		r = link_send(w->link, bytes, sizeof(bytes));
	assert_int_equal(r, -ENOBUFS);
	link_world_until(w, has_all_arrived);
	assert_int_equal(link_send(w->link, bytes, sizeof(bytes)), 0);
	assert_int_equal(w->disconnections, 0);
}

/* ---- kept, closed, lost */

int __real_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms);

static unsigned wake_ups; /* for descriptors */

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms)
{
	int n = __real_epoll_wait(epoll, events, count, timeout_ms);

	wake_ups += n > 0;
	return n;
}

static bool has_messages(const struct link_world *x)
{
	return x->messages > 0;
}

static void test_a_kept_connection_stays_and_what_came_is_there_when_it_is_resumed(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "awake");
	w->messages = 0;
	w->length = 0;
	link_close(w->link, true);
	assert_int_equal(link_send(w->link, "x", 1), -ENOTCONN);
	link_server_send(w->server, "wake up", 7);
	wake_ups = 0;
	link_world_pass(w, 20);
	assert_int_equal(wake_ups, 0); /* the loop does not spin over it */
	assert_int_equal(w->messages, 0);
	link_world_open(w, true);
	assert_int_equal(w->connections, 1);
	assert_true(w->connection.resumed);
	link_world_until(w, has_messages);
	assert_memory_equal(w->message, "wake up", 7);
	link_world_echo(w, "awake again");
	assert_int_equal(link_server_handshakes(w->server), 1);
}

static void test_a_kept_connection_that_was_lost_says_so_when_it_is_resumed(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "awake");
	link_close(w->link, true);
	link_server_forget_all(w->server);
	link_world_pass(w, 20);
	assert_int_equal(w->disconnections, 0);
	link_world_open(w, true);
	link_world_until(w, was_disconnected);
	assert_int_equal(w->error, -ECONNRESET);
	assert_int_equal(link_open(w->link, &w->target, true), -ENOTCONN);
	link_world_connect(w);
}

static void test_the_servers_farewell_ends_the_connection(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_server_close_last(w->server);
	link_world_until(w, was_disconnected);
	assert_int_equal(w->error, -ECONNRESET);
	assert_int_equal(link_send(w->link, "x", 1), -ENOTCONN);
}

static void test_a_server_that_goes_without_a_farewell_is_told_apart(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_server_forget_all(w->server);
	link_world_until(w, was_disconnected);
	assert_int_equal(w->error, -ECONNRESET);
	assert_non_null(strstr(w->reason, "without a farewell"));
}

static void test_a_closed_link_says_farewell(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_close(w->link, false);
	link_world_pass(w, 20);
	assert_int_equal(w->disconnections, 0);
	assert_int_equal(link_server_sessions(w->server), 0);
	assert_int_equal(link_server_farewells(w->server), 1);
}

static unsigned failures;

static void send_into_nothing(struct link_world *x)
{
	(void)x;
	failures++;
}

/* The reset is known to the socket, but has not been told yet. */
static void test_an_error_of_a_send_is_told_after_it(void **state)
{
	int r = 0;

	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	failures = 0;
	w->when_disconnected = send_into_nothing;
	assert_int_equal(link_send(w->link, "unread", 6), 0);
	link_server_forget_all(w->server);
	for (int i = 0; i < 100 && r == 0; i++) {
		r = link_send(w->link, "x", 1);
		assert_int_equal(failures, 0);
	}
	assert_true(r == -ECONNRESET || r == -EPIPE);
	assert_int_equal(link_send(w->link, "x", 1), -ENOTCONN);
	link_world_until(w, was_disconnected);
	assert_int_equal(failures, 1);
}

/* ---- cut */

static void test_during_a_cut_nothing_passes_and_nobody_is_told(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_set_cut(w->link, true);
	w->messages = 0;
	w->length = 0;
	assert_int_equal(link_send(w->link, "later", 5), 0);
	link_server_send(w->server, "late", 4);
	link_world_pass(w, 20);
	assert_int_equal(w->messages, 0);
	assert_int_equal(link_server_messages(w->server), 1);
	link_set_cut(w->link, false);
	link_world_until(w, has_messages);
	link_world_pass(w, 20);
	assert_int_equal(link_server_messages(w->server), 2);
}

static void test_the_server_does_not_notice_a_link_that_is_closed_during_a_cut(void **state)
{
	(void)state;
	connect_usual();
	link_world_echo(w, "hello");
	link_set_cut(w->link, true);
	link_close(w->link, false);
	link_world_pass(w, 20);
	assert_int_equal(link_server_sessions(w->server), 1);
	link_set_cut(w->link, false);
	link_world_pass(w, 20);
	assert_int_equal(link_server_sessions(w->server), 0);
	assert_int_equal(link_server_farewells(w->server), 0);
}

static bool was_connected(const struct link_world *x)
{
	return x->connections > 0;
}

static void test_a_link_that_is_opened_during_a_cut_connects_after_it(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->link = link_new(&w->config);
	link_set_cut(w->link, true);
	assert_int_equal(link_open(w->link, &w->target, false), 0);
	link_world_pass(w, 20);
	assert_int_equal(link_server_sessions(w->server), 0);
	link_set_cut(w->link, false);
	link_world_until(w, was_connected);
}

/* ---- owners */

static void free_link(struct link_world *x)
{
	link_free(x->link);
	x->link = NULL;
}

static void reopen_link(struct link_world *x)
{
	link_close(x->link, false);
	x->when_connected = x->when_disconnected = x->when_received = NULL;
	assert_int_equal(link_open(x->link, &x->target, false), 0);
}

static bool was_connected_again(const struct link_world *x)
{
	return x->connections == 2;
}

static void test_a_link_may_be_freed_in_each_of_its_callbacks(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->when_connected = free_link;
	link_world_connect(w);
	w->when_connected = NULL;

	w->when_received = free_link;
	link_world_connect(w);
	link_world_echo(w, "hello");

	w->when_disconnected = free_link;
	link_server_free(w->server);
	w->server = NULL;
	link_world_open(w, false);
	assert_null(w->link);
}

static void test_a_link_may_be_opened_again_in_each_of_its_callbacks(void **state)
{
	(void)state;
	link_world_init(w, &usual);
	w->when_connected = reopen_link;
	link_world_connect(w);
	link_world_until(w, was_connected_again);
	w->when_received = reopen_link;
	w->connections = 1;
	link_world_echo(w, "hello");
	link_world_until(w, was_connected_again);
	link_world_echo(w, "hello");
	w->when_disconnected = reopen_link;
	w->connections = 1;
	link_server_close_last(w->server);
	link_world_until(w, was_connected_again);
	link_world_echo(w, "hello");
}

/* ---- OpenSSL */

/* `openssl s_server -rev` gives back each line the other way round. */
static pid_t start_openssl(uint16_t *port)
{
	char line[200];
	int out[2];
	unsigned number = 0;
	FILE *f;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	/* Made before the fork, and removed by the parent only. */
	link_pki("server.pem");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
		       link_pki("server.pem"), "-key", link_pki("server.key"), "-CAfile",
		       link_pki("ca.pem"), "-Verify", "3", "-verify_return_error", "-rev", NULL);
		_exit(127);
	}
	close(out[1]);
	f = fdopen(out[0], "r");
	while (number == 0 && fgets(line, sizeof(line), f))
		(void)sscanf(line, "ACCEPT 127.0.0.1:%u", &number);
	*port = (uint16_t)number;
	fclose(f);
	return pid;
}

static bool has_line(const struct link_world *x)
{
	return x->length > 0 && x->message[x->length - 1] == '\n';
}

static void test_openssl_is_a_server_that_one_can_talk_to(void **state)
{
	pid_t pid;

	(void)state;
	link_world_init(w, &usual);
	link_world_identify(w, "device");
	pid = start_openssl(&w->target.port);
	assert_int_not_equal(w->target.port, 0);
	for (int i = 0; i < 2; i++) {
		link_world_connect(w);
		w->length = 0;
		assert_int_equal(link_send(w->link, "fieldgate\n", 10), 0);
		link_world_until(w, has_line);
		assert_memory_equal(w->message, "etagdleif\n", 10);
		link_close(w->link, false);
	}
	assert_int_equal(link_counters(w->link)->resumed, 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_openssl_refuses_a_device_without_certificate(void **state)
{
	pid_t pid;

	(void)state;
	link_world_init(w, &usual);
	pid = start_openssl(&w->target.port);
	refused(-EACCES, "handshake_failure");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_device_connects_and_talks),
		TEST(test_a_device_shows_its_certificate),
		TEST(test_the_second_handshake_is_abbreviated_where_the_server_gives_tickets),
		TEST(test_a_ticket_is_not_shown_to_another_name),
		TEST(test_a_server_of_another_name_is_refused),
		TEST(test_a_device_that_the_server_refuses_is_told_so),
		TEST(test_a_port_where_nobody_listens_is_told),
		TEST(test_what_the_socket_does_not_take_is_queued_up_to_a_bound),
		TEST(test_a_kept_connection_stays_and_what_came_is_there_when_it_is_resumed),
		TEST(test_a_kept_connection_that_was_lost_says_so_when_it_is_resumed),
		TEST(test_the_servers_farewell_ends_the_connection),
		TEST(test_a_server_that_goes_without_a_farewell_is_told_apart),
		TEST(test_a_closed_link_says_farewell),
		TEST(test_an_error_of_a_send_is_told_after_it),
		TEST(test_during_a_cut_nothing_passes_and_nobody_is_told),
		TEST(test_the_server_does_not_notice_a_link_that_is_closed_during_a_cut),
		TEST(test_a_link_that_is_opened_during_a_cut_connects_after_it),
		TEST(test_a_link_may_be_freed_in_each_of_its_callbacks),
		TEST(test_a_link_may_be_opened_again_in_each_of_its_callbacks),
		TEST(test_openssl_is_a_server_that_one_can_talk_to),
		TEST(test_openssl_refuses_a_device_without_certificate),
	};

	return cmocka_run_group_tests_name("link_stream", tests, NULL, NULL);
}
