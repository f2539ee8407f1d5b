/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker process of fieldgate-coap: a socket, a DTLS endpoint, a CoAP server, a pipeline and
 * the documents, on one thread that waits for nothing but its own events. README.md beside this
 * file says in which order a datagram passes them.
 */
#ifndef FG_WORKER_WORKER_H
#define FG_WORKER_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "coap-server/bus/client.h"
#include "coap-server/dtls/endpoint.h"
#include "core/base/config.h"

#define WORKER_SOURCE_MAX 16
#define WORKER_PATH_MAX	  4096

struct worker_start {
	struct config *config; /* the worker's own from now on */
	const char *config_path;
	unsigned number; /* from 0 */
	int socket;
	int ready_fd; /* one byte is written to it, and it is closed, when the worker serves */
	bool moved;   /* sessions were moved between the workers before this start */
};

/* Serve until SIGTERM. All signals are blocked. Returns the process's exit status. */
int worker_run(const struct worker_start *start);

/* Store what a former worker, of a higher number than there are now, has left in its journal; ends
 * when that is done, or by SIGTERM. All signals are blocked. Returns the exit status. */
int worker_drain(const struct config *c, unsigned number);

/* "coap", "coap-1", ...: the pipeline's source. Returns text. */
const char *worker_source(char text[WORKER_SOURCE_MAX], unsigned number);

/* The bus's options from the settings; bus.host is set. suffix: room for that of the client id. */
void worker_bus_options(struct bus_client_options *o, const struct config *c, unsigned number,
			char suffix[WORKER_SOURCE_MAX]);

/* The DTLS endpoint's options from the settings. path: room for the name of the slots' file. */
void worker_dtls_options(struct dtls_options *o, const struct config *c, unsigned number,
			 char path[WORKER_PATH_MAX]);

#endif
