/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the registry's tables: the queries of registry.c, which keeps the connection. */
#ifndef FG_REGISTRY_REGISTRY_LOAD_H
#define FG_REGISTRY_REGISTRY_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/registry/snapshot.h"

#define BAD_ROWS_KEPT 16

/* A row that was left out: the rest of the fleet must not suffer for it. */
struct bad_row {
	char device[PRINCIPAL_ID_MAX + 1]; /* "" if it is about none */
	char why[512];
};

struct bad_rows {
	struct bad_row rows[BAD_ROWS_KEPT]; /* the first ones */
	size_t count;			    /* all of them */
	uint64_t digest;		    /* the same for the same rows, in any order */
};

/* A connection, and how long to wait on it. */
struct registry_source {
	PGconn *connection;
	int stop_fd;
	int timeout_s; /* of silence */
};

/* registry_version now. 0, or a code of pgconn_exec with a message in err. */
int registry_ask_version(const struct registry_source *src, int64_t *version, char *err,
			 size_t err_len);

/*
 * All of the registry as it is at one moment. 0 and a snapshot with one reference, and bad->rows
 * say what is missing in it; or a code of pgconn_exec or -ENOMEM with a message in err: then finish
 * the connection, which may be in the middle of a transaction.
 */
int registry_load(const struct registry_source *src, const struct snapshot **out,
		  struct bad_rows *bad, char *err, size_t err_len);

#endif
