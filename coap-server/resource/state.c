/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state, state/reported, state/desired: what the owner wants of a device and what it says of
 * itself, as JSON, or as CBOR for whoever asks for that. As Nordic's client library for nRF Cloud
 * expects it, GET state answers what is desired and not reported so, ?delta=false all that is
 * desired, and both nothing at all instead of {}: its users report what they have got, and {} would
 * be something.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "coap-server/resource/document.h"

#define REASON_MAX 200

/* --- Reading --- */

enum coap_done state_get(void *arg, const struct coap_call *call, struct coap_reply *reply,
			 struct coap_exchange *e)
{
	struct resources *r = arg;
	struct document_request q = {.operation = DOCUMENT_STATE_DELTA};

	if (!resource_allowed(r, call->session, POLICY_RECEIVE, "state", reply))
		return COAP_DONE;
	if (call->accept != FG_COAP_FORMAT_NONE && call->accept != FG_COAP_JSON &&
	    call->accept != FG_COAP_CBOR)
		return resource_reply(reply, FG_COAP_CODE(4, 6), "there are JSON and CBOR");
	if (document_has_query(call->query, "all"))
		q.operation = DOCUMENT_STATE_GET;
	else if (document_has_query(call->query, "delta=false"))
		q.operation = DOCUMENT_STATE_DESIRED;
	return document_ask(r, call, &q, reply, e);
}

/* --- Changing --- */

/* There is no PUT of a patch. */
static bool format_known(const struct coap_call *call)
{
	return call->format == FG_COAP_FORMAT_NONE || call->format == FG_COAP_JSON ||
	       call->format == FG_COAP_CBOR ||
	       (call->format == FG_COAP_MERGE_PATCH_JSON && call->method != FG_COAP_PUT);
}

static struct decode_limits limits_of(const struct resources *r)
{
	size_t max_bytes = (size_t)r->config->document_max_bytes;

	return (struct decode_limits){
		.max_bytes = max_bytes,
		.max_depth = DOCUMENT_DEPTH_MAX,
		.max_readings = (unsigned)(max_bytes < UINT32_MAX ? max_bytes : UINT32_MAX),
	};
}

/*
 * The database is given JSON that has been read once here: so a device hears where it is wrong.
 * What was JSON stays as it is, for the sake of numbers that no double can hold. 0; -errno with a
 * reason.
 */
static int take_document(struct resources *r, const struct coap_call *call,
			 struct document_request *q, char *reason)
{
	struct decode_limits limits = limits_of(r);
	struct value v;
	char *text;
	int rc;

	if (call->format == FG_COAP_CBOR)
		rc = cbor_decode(&r->arena, call->payload, call->payload_len, &limits, &v, reason,
				 REASON_MAX);
	else
		rc = json_decode(&r->arena, call->payload, call->payload_len, &limits, &v, reason,
				 REASON_MAX);
	if (rc != 0)
		return rc;
	if (v.type != VALUE_MAP) {
		snprintf(reason, REASON_MAX,
			 "the state is an object, and so must be what changes it");
		return -EBADMSG;
	}
	q->payload = call->payload;
	q->payload_len = call->payload_len;
	if (call->format != FG_COAP_CBOR)
		return 0;
	text = value_print_json(&r->arena, &v, &q->payload_len);
	q->payload = text;
	return text ? 0 : -ENOMEM;
}

static enum coap_done refuse(struct resources *r, struct coap_reply *reply, int rc,
			     const char *reason)
{
	const char *why = rc == -ENOMEM ? NULL : arena_strndup(&r->arena, reason, strlen(reason));

	return resource_reply(reply, rc == -ENOMEM ? FG_COAP_CODE(4, 13) : FG_COAP_CODE(4, 0),
			      why ? why : "more than there is memory for");
}

static enum document_operation change_of(const struct coap_call *call)
{
	bool patch = call->method != FG_COAP_PUT;

	if (strcmp(call->path, "state/desired") == 0)
		return patch ? DOCUMENT_STATE_PATCH_DESIRED : DOCUMENT_STATE_PUT_DESIRED;
	return patch ? DOCUMENT_STATE_PATCH_REPORTED : DOCUMENT_STATE_PUT_REPORTED;
}

enum coap_done state_change(void *arg, const struct coap_call *call, struct coap_reply *reply,
			    struct coap_exchange *e)
{
	struct resources *r = arg;
	struct document_request q = {.operation = change_of(call)};
	char reason[REASON_MAX] = "";
	int rc;

	if (!resource_allowed(r, call->session, POLICY_PUBLISH, call->path, reply))
		return COAP_DONE;
	if (!format_known(call))
		return resource_reply(reply, FG_COAP_CODE(4, 15),
				      "a state is JSON (50) or CBOR (60), a patch also 52");
	if (call->payload_len > (size_t)r->config->document_max_bytes)
		return resource_reply(reply, FG_COAP_CODE(4, 13), "longer than document.max_bytes");
	arena_reset(&r->arena);
	rc = take_document(r, call, &q, reason);
	if (rc != 0)
		return refuse(r, reply, rc, reason);
	return document_ask(r, call, &q, reply, e);
}

/* --- Answers --- */

static int encode(struct resources *r, const struct document_answer *a, struct coap_reply *reply)
{
	/* Whoever sets it in the database is bound by nothing. */
	const struct decode_limits limits = {
		.max_bytes = a->payload_len,
		.max_depth = 4 * DOCUMENT_DEPTH_MAX,
		.max_readings = UINT32_MAX,
	};
	char reason[REASON_MAX];
	struct value v;
	int rc;

	rc = json_decode(&r->arena, a->payload, a->payload_len, &limits, &v, reason,
			 sizeof(reason));
	if (rc == 0)
		reply->payload = value_encode_cbor(&r->arena, &v, &reply->payload_len);
	return rc == 0 && !reply->payload ? -ENOMEM : rc;
}

void state_answered(struct resources *r, const struct document_answer *a,
		    const struct document_note *note, struct coap_reply *reply)
{
	enum document_operation op = a->request->operation;
	bool as_cbor = note->accept == FG_COAP_CBOR;

	reply->code = FG_COAP_CODE(2, 4);
	if (op == DOCUMENT_STATE_GET || op == DOCUMENT_STATE_DELTA ||
	    op == DOCUMENT_STATE_DESIRED) {
		reply->code = FG_COAP_CODE(2, 5);
		reply->format = as_cbor ? FG_COAP_CBOR : FG_COAP_JSON;
		reply->payload = a->payload;
		reply->payload_len = a->payload_len;
		if (as_cbor && a->payload_len > 0 && encode(r, a, reply) != 0) {
			resource_reply(reply, FG_COAP_CODE(5, 0),
				       "too large or too deep for CBOR; ask for JSON");
			return;
		}
	}
	document_etag(reply, a);
	if (reply->payload_len == 0)
		reply->format = FG_COAP_FORMAT_NONE;
}
