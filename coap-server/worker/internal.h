/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a worker share: worker.c (start and stop), loop.c, access.c (who may ask),
 * handshake.c (who is that), presence.c, reload.c, status.c. */
#ifndef FG_WORKER_INTERNAL_H
#define FG_WORKER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/net/datagrams.h"
#include "coap-server/resource/resource.h"
#include "coap-server/worker/devices.h"
#include "coap-server/worker/worker.h"
#include "core/registry/registry.h"
#include "core/registry/secret.h"

struct worker {
	struct resources resources; /* the handlers' */
	struct config *config;
	const char *config_path;
	unsigned number;
	struct bus_client *bus; /* NULL: none is configured */
	struct pipeline *pipeline;
	struct registry *registry; /* the pipeline's */
	struct dtls_endpoint *dtls;
	struct coap_server *coap;
	struct documents *documents;
	struct secret_keys *keys; /* NULL: none */

	/* The registry as every decision sees it; also in resources. worker_renew swaps it. */
	const struct snapshot *snapshot;
	uint64_t generation;
	bool confirmed;	      /* by the database; else the snapshot is the copy on disk */
	uint64_t authorities; /* digest of those that the endpoint has */

	/* The walk over all sessions after a change of the registry. */
	bool sweeping;
	uint64_t sweep_cursor;
	uint64_t sweep_generation; /* when the walk began */
	uint64_t swept_generation; /* all sessions were judged by this one */

	struct devices devices;
	bool restored_anew; /* presence of restored sessions is to be said again */

	int socket, signal_fd;
	struct datagrams *datagrams;
	bool stop;
	int64_t status_at_us;
	uint64_t refused_rate; /* requests answered 4.29 */

	struct rate_limit not_ready, too_fast;
	struct refusal_limits refused_handshakes;
	struct rate_limit refused_strangers;
};

static inline struct worker *worker_of(struct resources *r)
{
	return (struct worker *)((char *)r - offsetof(struct worker, resources));
}

/* worker.c */
/* Hold the newest snapshot: between requests only, as pointers into the old one become invalid. */
void worker_renew(struct worker *w);
/* 0 or -errno. *out is NULL when no bus is configured. */
int worker_bus_open(struct bus_client **out, const struct config *c, unsigned number);
/* The process ends soon, whatever the database does. */
void worker_limit_close(void);

/* loop.c */
int loop_run(struct worker *w, int ready_fd);
void loop_send(void *arg, const struct address *to, const uint8_t *data, size_t len);

/* access.c */
/* Asked before every request; see struct coap_server_options. */
bool access_admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply);
/* As resources.let_in. */
bool access_let_in(struct resources *r, struct dtls_session *s);
/* Judge some of the sessions again if the registry changed. True while there are more. */
bool access_sweep(struct worker *w);

/* handshake.c: callbacks of the endpoint */
int handshake_psk(void *arg, const struct address *from, const uint8_t *identity, size_t len,
		  struct dtls_identity *who, uint8_t key[DTLS_PSK_MAX], size_t *key_len);
int handshake_certificate(void *arg, const struct address *from, const uint8_t *der, size_t len,
			  struct dtls_identity *who);
void handshake_refused(void *arg, const struct address *from, const struct dtls_refusal *r);
bool handshake_resumed(void *arg, struct dtls_identity *who);

/* authorities.c: to the endpoint, if they have changed; and in any case. */
void authorities_renew(struct worker *w);
void authorities_give(struct worker *w);

/* presence.c */
/* This session's device is now in the table. False without memory. */
bool presence_attach(struct worker *w, struct session *s);
/* The device of this session has been heard: say that it is connected, if that is new. */
void presence_heard(struct worker *w, struct session *s);
void presence_detach(struct worker *w, struct session *s, const char *reason);
/* Restored sessions take their places. */
void presence_restore(struct worker *w);
/* Sessions end with this process. */
void presence_stop(struct worker *w);

/* reload.c */
void reload(struct worker *w);
void reload_rules(struct worker *w);
int reload_keys(const struct config *c, struct secret_keys **keys, char *err, size_t err_len);

/* status.c */
void status_log(struct worker *w);

#endif
