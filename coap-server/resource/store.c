/* SPDX-License-Identifier: Apache-2.0 */
/* store/<name>: small values that a device keeps in the cloud, under names of its own choice. */
#include <stdio.h>
#include <string.h>

#include "coap-server/resource/document.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

/* As the domain document_name of sql/0007_documents.sql. */
static bool is_name(const char *name)
{
	size_t len = strspn(name, NAME_CHARACTERS);

	return len > 0 && len <= DOCUMENT_NAME_MAX && name[len] == '\0' && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static enum coap_done put(struct resources *r, const struct coap_call *call,
			  struct document_request *q, struct coap_reply *reply,
			  struct coap_exchange *e)
{
	q->operation = DOCUMENT_VALUE_PUT;
	q->format = call->format;
	q->payload = call->payload;
	q->payload_len = call->payload_len;
	if (call->payload_len > (size_t)r->config->document_max_bytes)
		return resource_reply(reply, FG_COAP_CODE(4, 13), "longer than document.max_bytes");
	return document_ask(r, call, q, reply, e);
}

enum coap_done store_call(void *arg, const struct coap_call *call, struct coap_reply *reply,
			  struct coap_exchange *e)
{
	struct resources *r = arg;
	struct document_request q = {.operation = DOCUMENT_VALUE_GET, .name = call->rest};
	char topic_rest[sizeof("store/") + DOCUMENT_NAME_MAX];

	if (!is_name(call->rest))
		return resource_reply(reply, FG_COAP_CODE(4, 4),
				      "a name has at most 64 letters, digits and _ . -");
	snprintf(topic_rest, sizeof(topic_rest), "store/%s", call->rest);
	if (!resource_allowed(r, call->session,
			      call->method == FG_COAP_GET ? POLICY_RECEIVE : POLICY_PUBLISH,
			      topic_rest, reply))
		return COAP_DONE;
	if (call->method == FG_COAP_PUT)
		return put(r, call, &q, reply, e);
	if (call->method == FG_COAP_DELETE)
		q.operation = DOCUMENT_VALUE_DELETE;
	return document_ask(r, call, &q, reply, e);
}

void store_answered(const struct document_answer *a, const struct document_note *note,
		    struct coap_reply *reply)
{
	switch (a->request->operation) {
	case DOCUMENT_VALUE_PUT:
		reply->code =
			a->outcome == DOCUMENT_CREATED ? FG_COAP_CODE(2, 1) : FG_COAP_CODE(2, 4);
		document_etag(reply, a);
		return;
	case DOCUMENT_VALUE_DELETE:
		reply->code = FG_COAP_CODE(2, 2);
		return;
	default:
		break;
	}
	if (!document_acceptable(note, a->format)) {
		resource_reply(reply, FG_COAP_CODE(4, 6), "it was stored in another format");
		return;
	}
	reply->code = FG_COAP_CODE(2, 5);
	reply->format = a->format;
	reply->payload = a->payload;
	reply->payload_len = a->payload_len;
	document_etag(reply, a);
}
