/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg/c2d and msg/c2d/<subtopic>: the oldest message that waits for the device, a queue's head. An
 * ETag is a message's number. A message counts as delivered when the device has said that it has
 * it, and by nothing else: GET with its ETag (the next one is the answer, so this is never 2.03),
 * DELETE with its ETag in If-Match, or the acknowledgement of a message that held all of it
 * (resource_delivered). docs/downlink.md is the contract with whoever writes the device's firmware.
 */
#include <stdio.h>
#include <string.h>

#include "coap-server/resource/document.h"
#include "core/base/clock.h"
#include "core/payload/text.h"

#define PATH_PREFIX   "msg/" /* then what the topic has behind the device */
#define OVER	      "coap"
#define ENVELOPE_SIZE 7 /* members at most */

/* --- Numbers of messages as ETags: as short as they can be --- */

static size_t write_id(uint8_t out[FG_COAP_ETAG_MAX], int64_t id)
{
	size_t len = 0;

	for (int shift = 56; shift >= 0; shift -= 8)
		if (len > 0 || id >> shift != 0)
			out[len++] = (uint8_t)(id >> shift);
	return len;
}

/* -1: it is none of ours. */
static int64_t read_id(const uint8_t *etag, size_t len)
{
	uint64_t id = 0;

	if (len == 0 || len > FG_COAP_ETAG_MAX || etag[0] == 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		id = id << 8 | etag[i];
	return id <= INT64_MAX ? (int64_t)id : -1;
}

/* --- Asking --- */

static bool envelope_acceptable(int accept)
{
	return accept == FG_COAP_FORMAT_NONE || accept == FG_COAP_CBOR || accept == FG_COAP_JSON;
}

static enum coap_done next(struct resources *r, const struct coap_call *call,
			   struct document_request *q, struct coap_reply *reply,
			   struct coap_exchange *e)
{
	bool envelope = document_has_query(call->query, "envelope");
	enum coap_done done;

	if (envelope && !envelope_acceptable(call->accept))
		return resource_reply(reply, FG_COAP_CODE(4, 6), "there are JSON and CBOR");
	q->operation = DOCUMENT_DOWNLINK_NEXT;
	q->if_version = read_id(call->etag, call->etag_len);
	if (call->acknowledged > 0)
		q->if_version = call->acknowledged;
	done = document_ask_message(r, call, q, envelope, reply, e);
	if (done == COAP_DONE && call->notification)
		reply->tell = COAP_NOT_NOW;
	return done;
}

static enum coap_done delete (struct resources *r, const struct coap_call *call,
			      struct document_request *q, struct coap_reply *reply,
			      struct coap_exchange *e) {
	q->operation = DOCUMENT_DOWNLINK_DONE;
	q->if_version = call->if_match ? read_id(call->etag, call->etag_len) : -1;
	if (q->if_version < 0) return resource_reply(reply, FG_COAP_CODE(4, 0),
						     "which one? Its ETag is to be in If-Match");
	return document_ask_message(r, call, q, false, reply, e);
}

enum coap_done downlink_call(void *arg, const struct coap_call *call, struct coap_reply *reply,
			     struct coap_exchange *e)
{
	struct resources *r = arg;
	struct document_request q = {
		.name = *call->rest ? call->rest : NULL,
		.over = OVER,
	};

	if (!resource_allowed(r, call->session, POLICY_RECEIVE, call->path + strlen(PATH_PREFIX),
			      reply))
		return COAP_DONE;
	if (call->method == FG_COAP_DELETE)
		return delete (r, call, &q, reply, e);
	return next(r, call, &q, reply, e);
}

/* --- The envelope --- */

struct map {
	struct member members[ENVELOPE_SIZE];
	size_t count;
};

static struct value *add(struct map *m, const char *key, enum value_type type)
{
	struct member *x = &m->members[m->count++];

	*x = (struct member){.key = key, .key_len = strlen(key), .value = {.type = type}};
	return &x->value;
}

static void add_integer(struct map *m, const char *key, int64_t n)
{
	add(m, key, VALUE_INTEGER)->u.integer = n;
}

static void add_text(struct map *m, const char *key, enum value_type type, const char *data,
		     size_t len)
{
	struct value *v = add(m, key, type);

	v->u.text.data = data;
	v->u.text.len = len;
}

/* JSON as it is, text as text; everything else under a name that says that it is base64url. */
static void add_payload_to_json(struct resources *r, struct map *m, const struct document_answer *a)
{
	const struct decode_limits limits = {
		.max_bytes = a->payload_len,
		.max_depth = DOCUMENT_DEPTH_MAX,
		.max_readings = UINT32_MAX,
	};
	struct value v;
	char reason[1];

	if (a->format == FG_COAP_JSON && json_decode(&r->arena, a->payload, a->payload_len, &limits,
						     &v, reason, sizeof(reason)) == 0)
		*add(m, "payload", VALUE_NULL) = v;
	else if (a->format == FG_COAP_TEXT && text_is_valid(a->payload, a->payload_len))
		add_text(m, "payload", VALUE_TEXT, a->payload, a->payload_len);
	else
		add_text(m, "payload_base64url", VALUE_BYTES, a->payload, a->payload_len);
}

static int put_into_envelope(struct resources *r, const struct document_answer *a, const char *path,
			     bool as_json, struct coap_reply *reply)
{
	struct map m = {0};
	struct value v = {.type = VALUE_MAP, .u.map.members = m.members};

	add_integer(&m, "id", a->version);
	add_text(&m, "topic", VALUE_TEXT, path, strlen(path));
	add_integer(&m, "created_at", a->created_at_us / US_PER_S);
	if (a->expires_at_us != INT64_MAX)
		add_integer(&m, "expires_at", a->expires_at_us / US_PER_S);
	if (a->format != FG_COAP_FORMAT_NONE)
		add_integer(&m, "format", a->format);
	if (as_json)
		add_payload_to_json(r, &m, a);
	else
		add_text(&m, "payload", VALUE_BYTES, a->payload, a->payload_len);
	v.u.map.count = m.count;
	reply->format = as_json ? FG_COAP_JSON : FG_COAP_CBOR;
	if (as_json)
		reply->payload = value_print_json(&r->arena, &v, &reply->payload_len);
	else
		reply->payload = value_encode_cbor(&r->arena, &v, &reply->payload_len);
	return reply->payload ? 0 : -1;
}

/* --- Answers --- */

/* While the database was asked, the device may have lost its rights. */
static bool is_allowed(struct resources *r, const struct document_answer *a,
		       const struct document_note *note, const char *path, struct coap_reply *reply)
{
	struct dtls_session *s = coap_exchange_session(a->cookie);

	if (!s) /* nobody is there to be answered */
		return false;
	if (r->let_in && !r->let_in(r, s)) {
		resource_reply(reply, FG_COAP_CODE(4, 1), NULL);
		if (note->notification)
			reply->tell = COAP_NOT_NOW; /* what is to become of it is the worker's */
		return false;
	}
	return resource_allowed(r, s, POLICY_RECEIVE, path, reply);
}

static void message_answered(struct resources *r, const struct document_answer *a,
			     const struct document_note *note, struct coap_reply *reply)
{
	char path[sizeof("c2d/") + FG_COAP_PATH_MAX];

	snprintf(path, sizeof(path), "c2d%s%s", a->name ? "/" : "", a->name ? a->name : "");
	if (!is_allowed(r, a, note, path, reply))
		return;
	if (!note->envelope && !document_acceptable(note, a->format)) {
		resource_reply(reply, FG_COAP_CODE(4, 6), "it has another format");
		return;
	}
	reply->format = a->format;
	reply->payload = a->payload;
	reply->payload_len = a->payload_len;
	if (note->envelope &&
	    put_into_envelope(r, a, path, note->accept == FG_COAP_JSON, reply) != 0) {
		resource_reply(reply, FG_COAP_CODE(5, 0), "too large for an envelope");
		return;
	}
	reply->code = FG_COAP_CODE(2, 5);
	reply->delivery = a->version;
	reply->etag_len = write_id(reply->etag, a->version);
}

void downlink_answered(struct resources *r, const struct document_answer *a,
		       const struct document_note *note, struct coap_reply *reply)
{
	bool done = a->request->operation == DOCUMENT_DOWNLINK_DONE;

	if (a->outcome == DOCUMENT_UNAVAILABLE && note->notification) {
		reply->tell = COAP_NOT_NOW;
	} else if (done && a->outcome == DOCUMENT_NOT_FOUND) {
		resource_reply(reply, FG_COAP_CODE(4, 12), "there is no such message");
	} else if (done && a->outcome == DOCUMENT_OK) {
		reply->code = FG_COAP_CODE(2, 2);
	} else if (a->outcome == DOCUMENT_NOT_FOUND) {
		reply->code = FG_COAP_CODE(2, 5);
		reply->tell = COAP_NOTHING;
	} else if (a->outcome == DOCUMENT_OK) {
		message_answered(r, a, note, reply);
	} else {
		document_refuse(a, reply);
	}
}

/* --- The hint --- */

void resource_hint(struct resources *r, const char *device, int accept, struct coap_reply *reply)
{
	static const char json[] = "{\"c2d\":true}";
	static const uint8_t cbor[] = {0xa1, 0x63, 'c', '2', 'd', 0xf5};

	if ((reply->code != FG_COAP_CODE(2, 1) && reply->code != FG_COAP_CODE(2, 4)) ||
	    reply->payload_len > 0 || !envelope_acceptable(accept) ||
	    !documents_waiting(r->documents, device))
		return;
	reply->format = accept == FG_COAP_JSON ? FG_COAP_JSON : FG_COAP_CBOR;
	reply->payload = accept == FG_COAP_JSON ? (const void *)json : cbor;
	reply->payload_len = accept == FG_COAP_JSON ? sizeof(json) - 1 : sizeof(cbor);
}
