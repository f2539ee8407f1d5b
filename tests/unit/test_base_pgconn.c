/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to a real PostgreSQL that dies, is silent, or is not there: no wait outlasts its
 * deadline. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/pgconn.h"
#include "tests/unit/pg_cluster.h"

static struct pg_cluster cluster;
static char err[512];

static int start_cluster(void **state)
{
	(void)state;
	pg_cluster_init(&cluster);
	return 0;
}

static int drop_cluster(void **state)
{
	(void)state;
	pg_cluster_free(&cluster);
	return 0;
}

static int open_url(PGconn **c, const char *url, int timeout_s, int stop_fd)
{
	const struct pgconn_options o = {url, "fieldgate test", timeout_s, 10};

	err[0] = '\0';
	return pgconn_open(c, &o, stop_fd, err, sizeof(err));
}

static PGconn *open_cluster(void)
{
	PGconn *c;

	assert_int_equal(open_url(&c, cluster.url, 10, -1), 0);
	return c;
}

static int64_t in_us(int64_t us)
{
	return clock_monotonic_us() + us;
}

/* A listener that never accepts: the kernel completes the connection, and nobody speaks. */
static int silent_server(char *url, size_t len)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t a_len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &a_len), 0);
	snprintf(url, len, "postgresql://u@127.0.0.1:%d/d", ntohs(a.sin_port));
	return fd;
}

/* Writes to an eventfd after 100 ms. */
static void *stop_soon(void *arg)
{
	usleep(100 * 1000);
	assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
	return NULL;
}

static void test_statements_give_their_results(void **state)
{
	PGconn *c = open_cluster();
	PGresult *r;

	(void)state;
	assert_int_equal(pgconn_exec(c, "select 41; select 42", &r, -1, 10, err, sizeof(err)), 0);
	assert_string_equal(PQgetvalue(r, 0, 0), "42");
	PQclear(r);
	assert_int_equal(pgconn_exec(c, "begin; commit", NULL, -1, 10, err, sizeof(err)), 0);
	PQfinish(c);
}

static void test_session_is_set_up(void **state)
{
	PGconn *c = open_cluster();
	PGresult *r;

	(void)state;
	assert_int_equal(pgconn_exec(c,
				     "select current_setting('statement_timeout'),"
				     " current_setting('client_encoding'),"
				     " current_setting('application_name'),"
				     " current_setting('search_path')",
				     &r, -1, 10, err, sizeof(err)),
			 0);
	assert_string_equal(PQgetvalue(r, 0, 0), "10s");
	assert_string_equal(PQgetvalue(r, 0, 1), "UTF8");
	assert_string_equal(PQgetvalue(r, 0, 2), "fieldgate test");
	assert_string_equal(PQgetvalue(r, 0, 3), "fieldgate, pg_temp");
	PQclear(r);
	PQfinish(c);
}

static void test_refused_statement_leaves_the_connection_usable(void **state)
{
	PGconn *c = open_cluster();
	PGresult *r;

	(void)state;
	assert_int_equal(
		pgconn_exec(c, "select 1; select 1/0; select 2", &r, -1, 10, err, sizeof(err)),
		-EBADMSG);
	assert_null(r);
	assert_string_equal(err, "ERROR: division by zero");
	assert_int_equal(pgconn_exec(c, "select 1", &r, -1, 10, err, sizeof(err)), 0);
	PQclear(r);
	PQfinish(c);
}

static void test_refused_connection_says_why(void **state)
{
	PGconn *c;

	(void)state;
	assert_int_equal(open_url(&c, "postgresql://u@127.0.0.1:1/d", 10, -1), -EIO);
	assert_null(c);
	assert_non_null(strstr(err, "Connection refused"));
	assert_null(strchr(err, '\n'));
}

static void test_bad_url_is_refused_without_repeating_its_password(void **state)
{
	PGconn *c;

	(void)state;
	assert_int_equal(open_url(&c, "postgresql://u:hush@[::1/d", 10, -1), -EINVAL);
	assert_null(c);
	assert_null(strstr(err, "hush"));
	assert_int_equal(pgconn_check_url("passwrd=hush", err, sizeof(err)), -EINVAL);
	assert_null(strstr(err, "hush"));
	assert_int_equal(pgconn_check_url("host=/tmp dbname=x", err, sizeof(err)), 0);
}

static void test_silent_server_is_given_up_at_the_deadline(void **state)
{
	char url[64];
	int fd = silent_server(url, sizeof(url));
	int64_t start = clock_monotonic_us();
	PGconn *c;

	(void)state;
	assert_int_equal(open_url(&c, url, 1, -1), -ETIMEDOUT);
	assert_null(c);
	assert_true(clock_monotonic_us() - start >= US_PER_S);
	close(fd);
}

/* A full backlog drops packets, as a firewall does; it must not keep us from the next address. */
static void test_address_that_drops_packets_leaves_time_for_the_next(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), fill[8];
	char url[256];
	PGconn *c;

	(void)state;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	for (int i = 0; i < 8; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fill[i], (struct sockaddr *)&a, sizeof(a));
	}
	snprintf(url, sizeof(url),
		 "host=127.0.0.1,127.0.0.1 port=%d,%d user=fieldgate_ingest dbname=fieldgate "
		 "passfile=%s/passfile",
		 ntohs(a.sin_port), cluster.port, cluster.dir);
	if (open_url(&c, url, 4, -1) != 0)
		fail_msg("%s", err);
	PQfinish(c);
	for (int i = 0; i < 8; i++)
		close(fill[i]);
	close(fd);
}

static void test_stop_ends_connecting_at_once(void **state)
{
	char url[64];
	int fd = silent_server(url, sizeof(url)), stop_fd = eventfd(0, 0);
	pthread_t thread;
	PGconn *c;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop_fd), 0);
	assert_int_equal(open_url(&c, url, 20, stop_fd), -ECANCELED);
	pthread_join(thread, NULL);
	close(stop_fd);
	close(fd);
}

static void test_paused_server_is_given_up_at_the_deadline(void **state)
{
	PGconn *c = open_cluster();
	PGresult *r;

	(void)state;
	pg_cluster_pause(&cluster);
	assert_int_equal(pgconn_exec(c, "select 1", &r, -1, 1, err, sizeof(err)), -ETIMEDOUT);
	assert_null(r);
	PQfinish(c);
	pg_cluster_resume(&cluster);
}

static void test_stop_ends_waiting_for_a_result_at_once(void **state)
{
	PGconn *c = open_cluster();
	int stop_fd = eventfd(0, 0);
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop_fd), 0);
	assert_int_equal(pgconn_exec(c, "select pg_sleep(9)", NULL, stop_fd, 300, err, sizeof(err)),
			 -ECANCELED);
	pthread_join(thread, NULL);
	PQfinish(c);
	close(stop_fd);
}

static void test_killed_server_is_noticed(void **state)
{
	PGconn *idle = open_cluster(), *asking = open_cluster();

	(void)state;
	pg_cluster_kill(&cluster);
	assert_int_equal(pgconn_exec(asking, "select 1", NULL, -1, 300, err, sizeof(err)), -EIO);
	assert_string_not_equal(err, "");
	assert_int_equal(pgconn_wait(idle, -1, in_us(300 * US_PER_S), err, sizeof(err)), -EIO);
	PQfinish(asking);
	PQfinish(idle);
	pg_cluster_start(&cluster);
}

static void test_waiting_ends_with_a_notification_or_the_deadline(void **state)
{
	PGconn *c = open_cluster();
	PGnotify *n;

	(void)state;
	assert_int_equal(pgconn_exec(c, "listen ding", NULL, -1, 10, err, sizeof(err)), 0);
	assert_int_equal(pgconn_wait(c, -1, in_us(50 * US_PER_MS), err, sizeof(err)), 0);
	pg_cluster_sql(&cluster, "notify ding");
	assert_int_equal(pgconn_wait(c, -1, in_us(60 * US_PER_S), err, sizeof(err)), 1);
	n = PQnotifies(c);
	assert_non_null(n);
	PQfreemem(n);
	PQfinish(c);
}

/* Eight megabytes do not fit in the socket's buffer: sending goes on while we wait. */
static void test_long_statement_is_sent_in_pieces(void **state)
{
	static char sql[8 * 1024 * 1024];
	PGconn *c = open_cluster();
	PGresult *r;

	(void)state;
	memset(sql, 'x', sizeof(sql) - 1);
	memcpy(sql, "select length('", 15);
	memcpy(sql + sizeof(sql) - 3, "')", 2);
	assert_int_equal(pgconn_exec(c, sql, &r, -1, 20, err, sizeof(err)), 0);
	PQclear(r);
	PQfinish(c);
}

static void test_message_is_one_line(void **state)
{
	char out[16];

	(void)state;
	pgconn_message(out, sizeof(out), "a:\n\tb \nc\n");
	assert_string_equal(out, "a: b c");
	pgconn_message(out, sizeof(out), "0123456789abcdefgh");
	assert_string_equal(out, "0123456789abcde");
	pgconn_message(out, sizeof(out), "");
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statements_give_their_results),
		cmocka_unit_test(test_session_is_set_up),
		cmocka_unit_test(test_refused_statement_leaves_the_connection_usable),
		cmocka_unit_test(test_refused_connection_says_why),
		cmocka_unit_test(test_bad_url_is_refused_without_repeating_its_password),
		cmocka_unit_test(test_silent_server_is_given_up_at_the_deadline),
		cmocka_unit_test(test_address_that_drops_packets_leaves_time_for_the_next),
		cmocka_unit_test(test_stop_ends_connecting_at_once),
		cmocka_unit_test(test_paused_server_is_given_up_at_the_deadline),
		cmocka_unit_test(test_stop_ends_waiting_for_a_result_at_once),
		cmocka_unit_test(test_killed_server_is_noticed),
		cmocka_unit_test(test_waiting_ends_with_a_notification_or_the_deadline),
		cmocka_unit_test(test_long_statement_is_sent_in_pieces),
		cmocka_unit_test(test_message_is_one_line),
	};

	return cmocka_run_group_tests(tests, start_cluster, drop_cluster);
}
