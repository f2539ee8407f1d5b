/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device finds at the CoAP endpoint: one file for each group of resources, and routes.c with
 * the table of them all. Handlers are adapters: they turn a request into a call of core, and the
 * outcome into a code. Before a handler is called the worker has seen to it (coap_server's `admit`)
 * that the session may ask for it: its device is let in, or the resource is public.
 *
 * The worker's thread.
 */
#ifndef FG_RESOURCE_RESOURCE_H
#define FG_RESOURCE_RESOURCE_H

#include "coap-server/auth/jwt.h"
#include "coap-server/coap/server.h"
#include "coap-server/dtls/endpoint.h"
#include "core/base/arena.h"
#include "core/base/config.h"
#include "core/base/rate_limit.h"
#include "core/document/document.h"
#include "core/payload/value.h"
#include "core/pipeline/pipeline.h"

struct resources { /* `arg` of all handlers */
	const struct config *config;
	struct pipeline *pipeline;
	struct documents *documents;
	struct coap_server *server;
	const struct snapshot *snapshot; /* the worker renews it between requests */
	struct jwt_rules jwt_rules;
	struct decode_limits limits;
	struct arena arena; /* of one request; the handler resets it */
	struct refusal_limits refused;
	struct rate_limit not_stored;

	/* The device has just proven itself by what is in who: the worker records its presence. */
	void (*authenticated)(struct resources *r, struct dtls_session *s);

	/* Is the device let in now? For what nobody has just asked for. */
	bool (*let_in)(struct resources *r, struct dtls_session *s);
};

extern const struct coap_route resource_routes[];
extern const size_t resource_route_count;

/* Does this path answer a session without identity? auth/jwt, .well-known/core, time. */
bool resource_public(const char *path);

/* policy_allows of the session's device for `m/d/<device>/<rest>`; when not, the reply is 4.03 and
 * the refusal is in the log, at most now and then. */
bool resource_allowed(struct resources *r, struct dtls_session *s, enum policy_action action,
		      const char *rest, struct coap_reply *reply);

/* reply is 2.05, 4.00, ... with a diagnostic (static text, or in the arena). Returns COAP_DONE. */
enum coap_done resource_reply(struct coap_reply *reply, uint8_t code, const char *diagnostic);

/* A success without content says that a message waits for the device (docs/downlink.md), as far as
 * is known without asking the database. */
void resource_hint(struct resources *r, const char *device, int accept, struct coap_reply *reply);

coap_handler login_post;	      /* auth/jwt: login.c */
coap_handler telemetry_post;	      /* msg/d2c, msg/d2c/bulk, raw, bin: telemetry.c */
coap_handler time_get;		      /* time.c */
coap_handler state_get, state_change; /* state, state/reported, state/desired: state.c */
coap_handler store_call;	      /* store/<name>: store.c */
coap_handler downlink_call;	      /* msg/c2d, msg/c2d/<subtopic>: downlink.c */
coap_handler fota_get;		      /* fota/exec/current: fota.c */

/* Answers and changes of `documents`, for its poll; arg: struct resources. */
void resource_document_answered(void *arg, const struct document_answer *a);
void resource_document_changed(void *arg, const struct document_change *c);

/* `delivered` of the coap_server; arg: struct resources. */
void resource_delivered(void *arg, void *session, int64_t delivery, enum coap_delivery how);

#endif
