/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Talking to PostgreSQL from a thread that must never hang: every wait has a deadline and ends at
 * once when `stop_fd` becomes readable (an eventfd that is written once and never read; -1: none).
 * Beyond that this is plain libpq: use its functions on the connection as you like, but none that
 * waits.
 *
 * A connection belongs to one thread. After -ETIMEDOUT, -EIO or -ECANCELED it is good for PQfinish
 * only, which does not wait.
 */
#ifndef FG_BASE_PGCONN_H
#define FG_BASE_PGCONN_H

#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

struct pgconn_options {
	const char *url;	      /* connection string or URI */
	const char *application_name; /* shown in pg_stat_activity, unless the URL has its own */
	int connect_timeout_s;	      /* for all addresses together */
	int statement_timeout_s;      /* the server's own; 0: none */
};

/* 0, or -EINVAL with what is wrong in err, when url is no connection string. Does not connect. */
int pgconn_check_url(const char *url, char *err, size_t err_len);

/*
 * Connect, set the session up (UTF-8, search_path, statement_timeout) and switch it to
 * non-blocking. 0 and *out; or -ECANCELED, -ETIMEDOUT, -EIO (refused, for whatever reason), -EINVAL
 * or -ENOMEM with a message in err, which holds no password, and *out is NULL.
 *
 * A host name is resolved by libpq, which waits for the resolver outside of both deadline and
 * stop_fd.
 */
int pgconn_open(PGconn **out, const struct pgconn_options *o, int stop_fd, char *err,
		size_t err_len);

/*
 * The next result of what was sent (PQsendQuery..., in pipeline mode too), as PQgetResult gives it:
 * 0 and *out, which is NULL at the end of a statement; PQclear it. deadline_us: of
 * clock_monotonic_us; it counts only while there is nothing to read. -ETIMEDOUT, -ECANCELED, or
 * -EIO when the connection is lost; the message is then in err.
 */
int pgconn_result(PGconn *c, PGresult **out, int stop_fd, int64_t deadline_us, char *err,
		  size_t err_len);

/*
 * Send one statement, or several without parameters, and wait for all of it. *out (may be NULL) is
 * the last result. As pgconn_result; and -EBADMSG when the server refuses it, with its message in
 * err: the connection then lives on. timeout_s as the deadline from now.
 */
int pgconn_exec(PGconn *c, const char *sql, PGresult **out, int stop_fd, int timeout_s, char *err,
		size_t err_len);

/*
 * Wait until the server sent something (it is read; look at PQnotifies), the deadline passes, or
 * stop. 1, 0, -ECANCELED; -EIO when the connection is lost, with a message in err. Send nothing
 * before.
 */
int pgconn_wait(PGconn *c, int stop_fd, int64_t deadline_us, char *err, size_t err_len);

/* The same, and 2 when wake_fd becomes readable, which it stays: it is the caller's. */
int pgconn_wait_woken(PGconn *c, int stop_fd, int wake_fd, int64_t deadline_us, char *err,
		      size_t err_len);

/* The message of a result or connection as one line without its end. */
void pgconn_message(char *out, size_t out_len, const char *message);

#endif
