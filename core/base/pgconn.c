/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpq's asynchronous functions, with poll() over its socket and the stop descriptor. The socket
 * may change while connecting (from one address to the next), so it is asked for before each wait.
 */
#include "core/base/pgconn.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"

void pgconn_message(char *out, size_t out_len, const char *message)
{
	size_t n = 0;

	if (out_len == 0)
		return;
	for (; *message && n < out_len - 1; message++) {
		if (!strchr(" \n\t", *message))
			out[n++] = *message;
		else if (n > 0 && out[n - 1] != ' ')
			out[n++] = ' ';
	}
	while (n > 0 && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
}

static int fail(int code, const PGconn *c, const char *otherwise, char *err, size_t err_len)
{
	const char *message = c ? PQerrorMessage(c) : "";

	pgconn_message(err, err_len, *message ? message : otherwise);
	return code;
}

static int stopped(char *err, size_t err_len)
{
	snprintf(err, err_len, "stopped");
	return -ECANCELED;
}

static int timed_out(const char *what, char *err, size_t err_len)
{
	snprintf(err, err_len, "the database does not answer (%s)", what);
	return -ETIMEDOUT;
}

/* Milliseconds for poll(), rounded up so that it does not spin before the deadline. */
static int poll_timeout(int64_t deadline_us)
{
	int64_t left = deadline_us - clock_monotonic_us();

	if (left <= 0)
		return 0;
	left = (left + US_PER_MS - 1) / US_PER_MS;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

/* 1: the socket is ready; 0: the deadline has passed; -ECANCELED: stop; -EIO: no socket. */
static int wait_woken(const PGconn *c, short events, int stop_fd, int wake_fd, int64_t deadline_us)
{
	for (;;) {
		struct pollfd fds[] = {
			{.fd = PQsocket(c), .events = events},
			{.fd = stop_fd, .events = POLLIN},
			{.fd = wake_fd, .events = POLLIN},
		};
		int timeout = poll_timeout(deadline_us);
		int n;

		if (fds[0].fd < 0)
			return -EIO;
		n = poll(fds, 3, timeout);
		if (n < 0 && errno != EINTR)
			return -EIO;
		if (n > 0 && fds[1].revents)
			return -ECANCELED;
		if (n > 0 && fds[0].revents)
			return 1;
		if (n > 0 && fds[2].revents)
			return 2;
		if (timeout == 0)
			return 0;
	}
}

static int wait_socket(const PGconn *c, short events, int stop_fd, int64_t deadline_us)
{
	return wait_woken(c, events, stop_fd, -1, deadline_us);
}

static int finish_connecting(PGconn *c, int stop_fd, int64_t deadline_us, char *err, size_t err_len)
{
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	while (state != PGRES_POLLING_OK) {
		short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		int rc = wait_socket(c, events, stop_fd, deadline_us);

		if (rc == -ECANCELED)
			return stopped(err, err_len);
		if (rc == 0)
			return timed_out("connecting", err, err_len);
		if (rc < 0)
			return fail(-EIO, c, "no socket", err, err_len);
		state = PQconnectPoll(c);
		if (state == PGRES_POLLING_FAILED)
			return fail(-EIO, c, "cannot connect", err, err_len);
	}
	return 0;
}

/*
 * What stands before dbname may be set otherwise in the URL, what stands behind it may not. The
 * keepalive finds a dead host while we only listen; tcp_user_timeout finds it while we send, and
 * while connecting it gives up an address that drops packets in time for the next one.
 */
static PGconn *start_connecting(const struct pgconn_options *o)
{
	char user_timeout_ms[16];
	const char *const names[] = {
		"keepalives",	    "keepalives_idle",		 "keepalives_interval",
		"keepalives_count", "tcp_user_timeout",		 "dbname",
		"client_encoding",  "fallback_application_name", NULL,
	};
	const char *const values[] = {
		"1", "10", "5", "3", user_timeout_ms, o->url, "UTF8", o->application_name, NULL,
	};

	snprintf(user_timeout_ms, sizeof(user_timeout_ms), "%d", o->connect_timeout_s * 500);
	return PQconnectStartParams(names, values, 1);
}

/* libpq quotes a string that it cannot read in its message, with the password if there is one. */
int pgconn_check_url(const char *url, char *err, size_t err_len)
{
	PQconninfoOption *parsed = PQconninfoParse(url, NULL);

	if (!parsed) {
		snprintf(err, err_len,
			 "it is not a connection string that libpq understands, such as "
			 "postgresql://user@host:5432/database?passfile=FILE (it is not repeated "
			 "here "
			 "because it may hold a password)");
		return -EINVAL;
	}
	PQconninfoFree(parsed);
	return 0;
}

/* libpq writes notices to stderr, where in a broker nobody expects them. */
static void note_notice(void *arg, const char *message)
{
	char line[512];

	(void)arg;
	pgconn_message(line, sizeof(line), message);
	log_debug("database_notice", NULL, "%s", line);
}

int pgconn_open(PGconn **out, const struct pgconn_options *o, int stop_fd, char *err,
		size_t err_len)
{
	int64_t deadline_us = clock_monotonic_us() + o->connect_timeout_s * US_PER_S;
	char sql[128];
	PGconn *c;
	int rc;

	*out = NULL;
	rc = pgconn_check_url(o->url, err, err_len);
	if (rc != 0)
		return rc;
	c = start_connecting(o);
	if (!c)
		return fail(-ENOMEM, NULL, "out of memory", err, err_len);
	PQsetNoticeProcessor(c, note_notice, NULL);
	if (PQstatus(c) == CONNECTION_BAD)
		rc = fail(-EIO, c, "cannot connect", err, err_len);
	else
		rc = finish_connecting(c, stop_fd, deadline_us, err, err_len);
	if (rc == 0 && PQsetnonblocking(c, 1) != 0)
		rc = fail(-EIO, c, "cannot switch to non-blocking", err, err_len);
	if (rc == 0) {
		/* Nothing of a schema that others may write to comes before a built-in function. */
		snprintf(sql, sizeof(sql),
			 "set search_path = fieldgate, pg_temp; set statement_timeout = '%ds'",
			 o->statement_timeout_s);
		rc = pgconn_exec(c, sql, NULL, stop_fd, o->connect_timeout_s, err, err_len);
	}
	if (rc != 0) {
		PQfinish(c);
		return rc == -EBADMSG ? -EIO : rc;
	}
	*out = c;
	return 0;
}

static int read_input(PGconn *c, char *err, size_t err_len)
{
	return PQconsumeInput(c) ? 0 : fail(-EIO, c, "connection lost", err, err_len);
}

int pgconn_result(PGconn *c, PGresult **out, int stop_fd, int64_t deadline_us, char *err,
		  size_t err_len)
{
	*out = NULL;
	for (;;) {
		int unsent = PQflush(c);
		int rc;

		if (unsent < 0)
			return fail(-EIO, c, "connection lost", err, err_len);
		if (!PQisBusy(c))
			break;
		rc = wait_socket(c, (short)(unsent ? POLLIN | POLLOUT : POLLIN), stop_fd,
				 deadline_us);
		if (rc == -ECANCELED)
			return stopped(err, err_len);
		if (rc == 0)
			return timed_out("waiting for a result", err, err_len);
		if (rc < 0)
			return fail(rc, c, "connection lost", err, err_len);
		rc = read_input(c, err, err_len);
		if (rc != 0)
			return rc;
	}
	*out = PQgetResult(c);
	return 0;
}

static bool is_failure(const PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);

	return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE;
}

int pgconn_exec(PGconn *c, const char *sql, PGresult **out, int stop_fd, int timeout_s, char *err,
		size_t err_len)
{
	int64_t deadline_us = clock_monotonic_us() + timeout_s * US_PER_S;
	PGresult *last = NULL, *r;
	int rc;

	if (out)
		*out = NULL;
	if (!PQsendQuery(c, sql))
		return fail(-EIO, c, "connection lost", err, err_len);
	while ((rc = pgconn_result(c, &r, stop_fd, deadline_us, err, err_len)) == 0 && r) {
		/* Of several statements the first that fails says why. */
		if (last && is_failure(last)) {
			PQclear(r);
			continue;
		}
		PQclear(last);
		last = r;
	}
	if (rc == 0 && last && is_failure(last)) {
		pgconn_message(err, err_len, PQresultErrorMessage(last));
		rc = PQstatus(c) == CONNECTION_OK ? -EBADMSG : -EIO;
	}
	if (rc == 0 && out)
		*out = last;
	else
		PQclear(last);
	return rc;
}

int pgconn_wait(PGconn *c, int stop_fd, int64_t deadline_us, char *err, size_t err_len)
{
	return pgconn_wait_woken(c, stop_fd, -1, deadline_us, err, err_len);
}

int pgconn_wait_woken(PGconn *c, int stop_fd, int wake_fd, int64_t deadline_us, char *err,
		      size_t err_len)
{
	int rc = wait_woken(c, POLLIN, stop_fd, wake_fd, deadline_us);

	if (rc == -ECANCELED)
		return stopped(err, err_len);
	if (rc < 0)
		return fail(rc, c, "connection lost", err, err_len);
	if (rc != 1)
		return rc;
	rc = read_input(c, err, err_len);
	return rc == 0 ? 1 : rc;
}
