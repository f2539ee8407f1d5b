/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/resource/document.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BUSY_MAX_AGE_S 5  /* the queue is full: soon there is room */
#define AWAY_MAX_AGE_S 30 /* the database is away: who knows */

#define VERSION_BYTES 7 /* versions are below 2^56 */
#define KEY_MAX	      (sizeof("state/") + PRINCIPAL_ID_MAX + 1 + DOCUMENT_NAME_MAX)

_Static_assert(sizeof(struct document_note) <= DOCUMENT_NOTE_MAX, "raise DOCUMENT_NOTE_MAX");

/* --- ETags --- */

bool document_is_state(enum document_operation op)
{
	return op < DOCUMENT_VALUE_GET;
}

static bool is_message(enum document_operation op)
{
	return op == DOCUMENT_DOWNLINK_NEXT || op == DOCUMENT_DOWNLINK_DONE;
}

static bool is_read(enum document_operation op)
{
	return op == DOCUMENT_STATE_GET || op == DOCUMENT_STATE_DELTA ||
	       op == DOCUMENT_STATE_DESIRED || op == DOCUMENT_VALUE_GET;
}

static void write_version(uint8_t out[VERSION_BYTES], int64_t version)
{
	for (size_t i = 0; i < VERSION_BYTES; i++)
		out[i] = (uint8_t)(version >> 8 * (VERSION_BYTES - 1 - i));
}

void document_etag(struct coap_reply *reply, const struct document_answer *a)
{
	size_t head = document_is_state(a->request->operation) ? 1 : 0;

	reply->etag[0] = reply->format == FG_COAP_CBOR;
	write_version(reply->etag + head, a->version);
	reply->etag_len = head + VERSION_BYTES;
}

/* The version in an ETag of ours; -1: it is none. */
static int64_t read_version(const struct coap_call *call, bool of_state)
{
	size_t head = of_state ? 1 : 0;
	int64_t version = 0;

	if (call->etag_len != head + VERSION_BYTES)
		return -1;
	for (size_t i = head; i < call->etag_len; i++)
		version = version << 8 | call->etag[i];
	return version;
}

/* --- Asking --- */

bool document_has_query(const char *query, const char *wanted)
{
	size_t len = strlen(wanted);

	for (const char *at = query; at; at = strchr(at, '&')) {
		at += *at == '&';
		if (strcspn(at, "&") == len && memcmp(at, wanted, len) == 0)
			return true;
	}
	return false;
}

/* RFC 7252 section 5.10.8. False: it cannot hold. */
static bool take_conditions(const struct coap_call *call, struct document_request *q)
{
	q->if_version = -1;
	q->if_absent = call->if_none_match;
	if (!call->if_match)
		return true;
	q->if_exists = call->etag_len == 0;
	if (!q->if_exists)
		q->if_version = read_version(call, document_is_state(q->operation));
	return (q->if_exists || q->if_version >= 0) && !q->if_absent;
}

static enum coap_done unavailable(struct coap_reply *reply, int64_t max_age_s, const char *why)
{
	resource_reply(reply, FG_COAP_CODE(5, 3), why);
	reply->max_age_s = max_age_s;
	return COAP_DONE;
}

static struct document_note note_of(const struct coap_call *call)
{
	return (struct document_note){
		.accept = call->accept,
		.observe = call->observe,
		.notification = call->notification,
	};
}

static enum coap_done ask(struct resources *r, const struct coap_call *call,
			  struct document_request *q, const struct document_note *note,
			  struct coap_reply *reply, struct coap_exchange *e)
{
	q->device = dtls_session_identity(call->session)->id;
	q->uncounted = call->notification; /* it would end with the observation */
	q->cookie = e;
	memcpy(q->note, note, sizeof(*note));
	switch (documents_ask(r->documents, q)) {
	case 0:
		return COAP_LATER;
	case -ENOTCONN:
		return unavailable(reply, AWAY_MAX_AGE_S, "the database is away");
	default:
		return unavailable(reply, BUSY_MAX_AGE_S, "too many requests at a time");
	}
}

enum coap_done document_ask(struct resources *r, const struct coap_call *call,
			    struct document_request *q, struct coap_reply *reply,
			    struct coap_exchange *e)
{
	struct document_note note = note_of(call);

	q->if_version = -1;
	if (is_read(q->operation)) {
		note.etag_len = (uint8_t)call->etag_len;
		memcpy(note.etag, call->etag, call->etag_len);
	} else if (!take_conditions(call, q)) {
		return resource_reply(reply, FG_COAP_CODE(4, 12), "no ETag of this resource");
	}
	return ask(r, call, q, &note, reply, e);
}

enum coap_done document_ask_message(struct resources *r, const struct coap_call *call,
				    struct document_request *q, bool envelope,
				    struct coap_reply *reply, struct coap_exchange *e)
{
	struct document_note note = note_of(call);

	note.envelope = envelope;
	return ask(r, call, q, &note, reply, e);
}

/* --- Answers --- */

/* Under what this is observed. The delta by itself: a device is not to be woken for what it has
 * just reported. Messages together, whatever their subtopic. */
static const char *observe_key(char key[KEY_MAX], const struct document_request *q)
{
	if (q->operation == DOCUMENT_VALUE_GET)
		snprintf(key, KEY_MAX, "store/%s/%s", q->device, q->name);
	else if (is_message(q->operation))
		snprintf(key, KEY_MAX, "c2d/%s", q->device);
	else
		snprintf(key, KEY_MAX, "%s/%s",
			 q->operation == DOCUMENT_STATE_DELTA ? "delta" : "state", q->device);
	return key;
}

bool document_acceptable(const struct document_note *note, int format)
{
	return note->accept == FG_COAP_FORMAT_NONE || note->accept == format ||
	       (format == FG_COAP_FORMAT_NONE && note->accept == FG_COAP_OCTET_STREAM);
}

/* RFC 7252 section 5.9.1.3: the device has it. */
static void shorten(const struct document_note *note, struct coap_reply *reply)
{
	if (note->etag_len == 0 || note->etag_len != reply->etag_len ||
	    memcmp(note->etag, reply->etag, note->etag_len) != 0)
		return;
	reply->code = FG_COAP_CODE(2, 3);
	reply->format = FG_COAP_FORMAT_NONE;
	reply->payload = NULL;
	reply->payload_len = 0;
}

void document_refuse(const struct document_answer *a, struct coap_reply *reply)
{
	static const uint8_t codes[] = {
		[DOCUMENT_NOT_FOUND] = FG_COAP_CODE(4, 4),
		[DOCUMENT_BAD] = FG_COAP_CODE(4, 0),
		[DOCUMENT_PRECONDITION] = FG_COAP_CODE(4, 12),
		[DOCUMENT_TOO_LARGE] = FG_COAP_CODE(4, 13),
	};

	if (a->outcome == DOCUMENT_UNAVAILABLE)
		unavailable(reply, AWAY_MAX_AGE_S, "the database did not answer");
	else
		resource_reply(reply, codes[a->outcome], a->why);
}

static void reply_to(struct resources *r, const struct document_answer *a,
		     const struct document_note *note, struct coap_reply *reply)
{
	enum document_operation op = a->request->operation;

	if (is_message(op))
		downlink_answered(r, a, note, reply);
	/* RFC 7252 section 5.8.4: what is not there is deleted. */
	else if (a->outcome != DOCUMENT_OK && a->outcome != DOCUMENT_CREATED &&
		 !(a->outcome == DOCUMENT_NOT_FOUND && op == DOCUMENT_VALUE_DELETE))
		document_refuse(a, reply);
	else if (document_is_state(op))
		state_answered(r, a, note, reply);
	else
		store_answered(a, note, reply);
}

void resource_document_answered(void *arg, const struct document_answer *a)
{
	struct resources *r = arg;
	const struct document_request *q = a->request;
	struct coap_reply reply = {.format = FG_COAP_FORMAT_NONE, .max_age_s = -1};
	struct document_note note;
	char key[KEY_MAX];

	if (!a->cookie) /* a question of our own: see resource_delivered */
		return;
	memcpy(&note, q->note, sizeof(note));
	arena_reset(&r->arena);
	reply_to(r, a, &note, &reply);
	if (note.observe && reply.code == FG_COAP_CODE(2, 5))
		reply.observe_key = observe_key(key, q);
	if (is_read(q->operation) && reply.code == FG_COAP_CODE(2, 5))
		shorten(&note, &reply);
	resource_hint(r, q->device, note.accept, &reply);
	coap_server_answer(r->server, a->cookie, &reply);
}

/* --- Messages that have arrived --- */

/*
 * Every observation of the device goes on with the next message: asked for behind this, on the same
 * connection. If it is not marked because the database is away, an observation says it again with
 * its next question; without one, the message comes once more.
 */
void resource_delivered(void *arg, void *session, int64_t delivery, enum coap_delivery how)
{
	struct resources *r = arg;
	const struct document_request q = {
		.operation = DOCUMENT_DOWNLINK_DONE,
		.device = dtls_session_identity(session)->id,
		.over = "coap",
		.uncounted = true,
		.if_version = delivery,
	};
	char key[KEY_MAX];

	if (how != COAP_ACKNOWLEDGED)
		return;
	(void)documents_ask(r->documents, &q);
	coap_server_changed(r->server, observe_key(key, &q));
}

/* --- Changes --- */

static void changed(struct resources *r, enum document_operation op,
		    const struct document_change *c)
{
	const struct document_request q = {.operation = op, .device = c->device, .name = c->name};
	char key[KEY_MAX];

	coap_server_changed(r->server, observe_key(key, &q));
}

void resource_document_changed(void *arg, const struct document_change *c)
{
	struct resources *r = arg;

	switch (c->what) {
	case DOCUMENT_CHANGED_ANY:
		coap_server_changed_all(r->server);
		break;
	case DOCUMENT_CHANGED_VALUE:
		changed(r, DOCUMENT_VALUE_GET, c);
		break;
	case DOCUMENT_CHANGED_STATE:
		changed(r, DOCUMENT_STATE_DELTA, c);
		/* fall through */
	case DOCUMENT_CHANGED_STATE_NOT_DELTA:
		changed(r, DOCUMENT_STATE_GET, c);
		break;
	case DOCUMENT_CHANGED_DOWNLINK:
		changed(r, DOCUMENT_DOWNLINK_NEXT, c);
		break;
	}
}
