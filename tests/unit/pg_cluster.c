/* SPDX-License-Identifier: Apache-2.0 */
/* The server's processes are the postmaster, whose id is in postmaster.pid, and its children. */
#include "tests/unit/pg_cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#define DEV_POSTGRES  "bin/dev-postgres"
#define PROCESSES_MAX 128

/* The exit status as of waitpid, or -1. */
static int run_status(const char *const *argv)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static void run(const char *const *argv)
{
	int status = run_status(argv);

	if (status != 0)
		fail_msg("%s %s: status %d", argv[0], argv[1], status);
}

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static void make_url(char *out, size_t len, const struct pg_cluster *c, const char *role)
{
	int n = snprintf(out, len, "postgresql://%s@127.0.0.1:%d/fieldgate?passfile=%s/passfile",
			 role, c->port, c->dir);

	assert_true(n > 0 && (size_t)n < len);
}

void pg_cluster_start(struct pg_cluster *c)
{
	run((const char *[]){DEV_POSTGRES, "start", c->dir, NULL});
}

void pg_cluster_stop(struct pg_cluster *c)
{
	run((const char *[]){DEV_POSTGRES, "stop", c->dir, "fast", NULL});
}

/* The state of a process and its parent; 0 when it is gone. */
static int process_state(pid_t pid, pid_t *parent)
{
	char path[64], line[512];
	const char *p;
	FILE *f;
	char state;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	if (!p || sscanf(p, ") %c %d", &state, &ppid) != 2)
		return 0;
	*parent = ppid;
	return state;
}

static pid_t postmaster(const struct pg_cluster *c)
{
	char path[96];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/data/postmaster.pid", c->dir);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

/* The postmaster first, then its children. */
static size_t processes(const struct pg_cluster *c, pid_t out[PROCESSES_MAX])
{
	size_t count = 0;
	struct dirent *e;
	DIR *proc;

	out[count++] = postmaster(c);
	if (out[0] == 0)
		return 0;
	proc = opendir("/proc");
	assert_non_null(proc);
	while ((e = readdir(proc))) {
		pid_t pid = (pid_t)atoi(e->d_name), parent = 0;

		if (pid > 0 && process_state(pid, &parent) && parent == out[0]) {
			assert_true(count < PROCESSES_MAX);
			out[count++] = pid;
		}
	}
	closedir(proc);
	return count;
}

/* The postmaster is stopped first, so that the list of its children is complete. */
static size_t stop_processes(const struct pg_cluster *c, pid_t out[PROCESSES_MAX])
{
	pid_t master = postmaster(c);
	size_t count;

	assert_true(master > 0);
	kill(master, SIGSTOP);
	count = processes(c, out);
	for (size_t i = 1; i < count; i++)
		kill(out[i], SIGSTOP);
	return count;
}

void pg_cluster_pause(struct pg_cluster *c)
{
	pid_t pids[PROCESSES_MAX];

	stop_processes(c, pids);
}

void pg_cluster_resume(struct pg_cluster *c)
{
	pid_t pids[PROCESSES_MAX];
	size_t count = processes(c, pids);

	for (size_t i = 0; i < count; i++)
		kill(pids[i], SIGCONT);
}

static void stop_and_remove(struct pg_cluster *c)
{
	pg_cluster_resume(c);
	run_status((const char *[]){DEV_POSTGRES, "stop", c->dir, "immediate", NULL});
	run_status((const char *[]){"rm", "-rf", c->dir, NULL});
}

/* A process that outlives the test program, even a killed one, and then removes what that left. The
 * pipe ends with the test program; pg_cluster_free closes it when nothing is left to do. */
static void start_guardian(struct pg_cluster *c)
{
	int ends[2];
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	c->guardian = fork();
	assert_true(c->guardian >= 0);
	if (c->guardian == 0) {
		setsid();
		close(ends[1]);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			;
		if (access(c->dir, F_OK) == 0)
			stop_and_remove(c);
		_exit(0);
	}
	close(ends[0]);
	c->guardian_pipe = ends[1];
}

void pg_cluster_init(struct pg_cluster *c)
{
	char port[16];

	strcpy(c->dir, "/tmp/fieldgate-test-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	/* The server's user must get through to its own directory in it. */
	assert_int_equal(chmod(c->dir, 0711), 0);
	c->port = free_port();
	start_guardian(c);
	make_url(c->url, sizeof(c->url), c, "fieldgate_ingest");
	make_url(c->owner_url, sizeof(c->owner_url), c, "fieldgate_owner");
	snprintf(port, sizeof(port), "%d", c->port);
	run((const char *[]){DEV_POSTGRES, "init", c->dir, port, NULL});
	pg_cluster_start(c);
}

void pg_cluster_free(struct pg_cluster *c)
{
	stop_and_remove(c);
	close(c->guardian_pipe);
	waitpid(c->guardian, NULL, 0);
}

/* Where process 1 does not reap orphans (a container) they stay as zombies, which PostgreSQL takes
 * for a running server. They are dead, and so are their locks. */
static void remove_locks(const struct pg_cluster *c)
{
	char path[96];
	glob_t found;

	snprintf(path, sizeof(path), "%s/data/postmaster.pid", c->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/data/.s.PGSQL.*.lock", c->dir);
	if (glob(path, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
		globfree(&found);
	}
}

void pg_cluster_kill(struct pg_cluster *c)
{
	pid_t pids[PROCESSES_MAX], parent;
	size_t count = stop_processes(c, pids);

	for (size_t i = 0; i < count; i++)
		kill(pids[i], SIGKILL);
	for (size_t i = 0; i < count; i++) {
		int state;

		while ((state = process_state(pids[i], &parent)) != 0 && state != 'Z')
			usleep(2000);
	}
	remove_locks(c);
}

static PGresult *query(const char *url, const char *sql)
{
	PGconn *conn = PQconnectdb(url);
	PGresult *r;

	PQclear(PQexec(conn, "set search_path = fieldgate; set client_min_messages = warning"));
	r = PQexec(conn, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(conn));
	PQfinish(conn);
	return r;
}

void pg_cluster_sql(struct pg_cluster *c, const char *sql)
{
	PQclear(query(c->owner_url, sql));
}

void pg_cluster_superuser_sql(struct pg_cluster *c, const char *sql)
{
	char url[sizeof(c->owner_url)];

	make_url(url, sizeof(url), c, "postgres");
	PQclear(query(url, sql));
}

long pg_cluster_number(struct pg_cluster *c, const char *sql)
{
	PGresult *r = query(c->owner_url, sql);
	long n;

	assert_int_equal(PQntuples(r), 1);
	n = atol(PQgetvalue(r, 0, 0));
	PQclear(r);
	return n;
}
