/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PostgreSQL cluster of a test program's own, made by bin/dev-postgres with the schema of sql/ in
 * it, in a temporary directory. Everything here asserts: a cluster that does not do what it should
 * fails the test. Run from the top of the repository, as `make unit` does.
 */
#ifndef FG_TESTS_PG_CLUSTER_H
#define FG_TESTS_PG_CLUSTER_H

#include <sys/types.h>

struct pg_cluster {
	char dir[64];
	int port;
	char url[192];	     /* as fieldgate_ingest, as Fieldgate's processes connect */
	char owner_url[192]; /* as fieldgate_owner */
	pid_t guardian;	     /* stops and removes it when the test program dies */
	int guardian_pipe;
};

/* Make it and start it. */
void pg_cluster_init(struct pg_cluster *c);

/* Stop it if it runs, and remove it. */
void pg_cluster_free(struct pg_cluster *c);

/* A clean shutdown: connections get a message. */
void pg_cluster_stop(struct pg_cluster *c);
void pg_cluster_start(struct pg_cluster *c);

/* SIGKILL all its processes. */
void pg_cluster_kill(struct pg_cluster *c);

/* SIGSTOP all its processes: connections stay open, and nobody answers. */
void pg_cluster_pause(struct pg_cluster *c);
void pg_cluster_resume(struct pg_cluster *c);

/* Run SQL as fieldgate_owner, search_path fieldgate. */
void pg_cluster_sql(struct pg_cluster *c, const char *sql);

/* The same as the superuser: who makes schemas. */
void pg_cluster_superuser_sql(struct pg_cluster *c, const char *sql);

/* The first column of the first row as a number. */
long pg_cluster_number(struct pg_cluster *c, const char *sql);

#endif
