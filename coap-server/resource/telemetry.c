/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg/d2c and what is below it: a request becomes a message on the topic m/d/<device>/d2c[/...],
 * and is answered when that is in the journal. docs/messages.md is the contract with whoever writes
 * the device's firmware.
 *
 * It is decoded once here, so that the device hears of what cannot be decoded; it is journalled all
 * the same, and the store puts it into dead_letter with the same reason.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define PATH_PREFIX "msg/" /* then what the topic has behind the device */

#define RETRY_AFTER_S	   60
#define LOG_INTERVAL_US	   (10 * US_PER_S)
#define CBOR_BYTES	   0x40 /* RFC 8949 section 3.1: major types 2 and 3 */
#define CBOR_TEXT	   0x60
#define CBOR_HEAD_MAX	   5
#define SENSML_JSON_FORMAT 111 /* RFC 8428 section 12.3: a SenML pack, sent as a stream */
#define SENSML_CBOR_FORMAT 113

static bool payload_format(int content_format, enum payload_format *format)
{
	switch (content_format) {
	case FG_COAP_FORMAT_NONE:
	case FG_COAP_TEXT:
	case FG_COAP_OCTET_STREAM:
		*format = PAYLOAD_AUTO;
		return true;
	case FG_COAP_JSON:
		*format = PAYLOAD_JSON;
		return true;
	case FG_COAP_CBOR:
		*format = PAYLOAD_CBOR;
		return true;
	case FG_COAP_SENML_JSON:
	case SENSML_JSON_FORMAT:
		*format = PAYLOAD_SENML_JSON;
		return true;
	case FG_COAP_SENML_CBOR:
	case SENSML_CBOR_FORMAT:
		*format = PAYLOAD_SENML_CBOR;
		return true;
	default:
		return false;
	}
}

/*
 * Make m's payload one CBOR string (RFC 8949 section 3.1) of the same bytes: text if it was sent as
 * text and is, else a byte string. So it becomes the reading `value`. 0 or -ENOMEM.
 */
static int wrap(struct arena *a, struct message *m, bool as_text)
{
	size_t len = m->payload_len, head = 0;
	uint8_t *p = arena_alloc(a, CBOR_HEAD_MAX + len), type = as_text ? CBOR_TEXT : CBOR_BYTES;

	if (!p || len > UINT32_MAX)
		return -ENOMEM;
	if (len < 24) {
		p[head++] = (uint8_t)(type | len);
	} else {
		p[head++] = (uint8_t)(type | 26);
		for (int shift = 24; shift >= 0; shift -= 8)
			p[head++] = (uint8_t)(len >> shift);
	}
	memcpy(p + head, m->payload, len);
	m->payload = p;
	m->payload_len = head + len;
	m->format = PAYLOAD_CBOR;
	return 0;
}

static int decode(struct resources *r, const struct message *m, char *reason, size_t reason_len)
{
	struct payload ignored;

	return payload_decode(&r->arena, m->format, m->payload, m->payload_len, &r->limits,
			      &ignored, reason, reason_len);
}

/* What is on `bin` is never taken for anything else: m is wrapped also when it is then too long. */
static int wrap_bytes(struct resources *r, struct message *m, char *reason, size_t reason_len)
{
	int rc = 0;

	if (m->payload_len <= r->limits.max_bytes)
		rc = wrap(&r->arena, m, false);
	return rc == 0 ? decode(r, m, reason, reason_len) : rc;
}

/* m is what it was when this fails. */
static int wrap_and_decode(struct resources *r, struct message *m, bool as_text, char *reason,
			   size_t reason_len)
{
	struct message wrapped = *m;
	int rc;

	if (m->payload_len > r->limits.max_bytes)
		return decode(r, m, reason, reason_len);
	arena_reset(&r->arena);
	rc = wrap(&r->arena, &wrapped, as_text);
	if (rc == 0)
		rc = decode(r, &wrapped, reason, reason_len);
	if (rc != 0)
		return as_text ? wrap_and_decode(r, m, false, reason, reason_len) : rc;
	*m = wrapped;
	return 0;
}

/*
 * Can it be decoded? m is made what the store will read. What came without a promise about its form
 * on `raw` is kept as it is when it has none.
 */
static int interpret(struct resources *r, const struct coap_call *call, struct message *m,
		     char *reason, size_t reason_len)
{
	bool as_text = call->format == FG_COAP_TEXT;
	int rc;

	if (strcmp(call->path, PATH_PREFIX "d2c/bin") == 0)
		return wrap_bytes(r, m, reason, reason_len);
	rc = decode(r, m, reason, reason_len);
	if (rc != -EBADMSG || m->format != PAYLOAD_AUTO ||
	    strcmp(call->path, PATH_PREFIX "d2c/raw") != 0)
		return rc;
	return wrap_and_decode(r, m, as_text, reason, reason_len);
}

static const char *what_to_do(int rc)
{
	switch (rc) {
	case -ENOBUFS:
		return "the journal is full: is the database reachable? (journal.max_bytes)";
	case -ENOMEM:
	case -EAGAIN:
		return "the machine is short of memory or of threads";
	default:
		return "see to the disk of state.dir";
	}
}

static enum coap_done not_stored(struct resources *r, const char *device, int rc,
				 struct coap_reply *reply)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rc == -EMSGSIZE)
		return resource_reply(reply, FG_COAP_CODE(4, 13),
				      "it is too long to be stored, ever: send less at a time");
	if (rate_limit_pass(&r->not_stored, LOG_INTERVAL_US, &suppressed))
		log_error("post_not_stored", device,
			  "it is told to keep its message and to try again after %d s: %s; %s%s",
			  RETRY_AFTER_S, strerror(-rc), what_to_do(rc),
			  rate_limit_note(note, suppressed));
	reply->max_age_s = RETRY_AFTER_S;
	return resource_reply(reply, FG_COAP_CODE(5, 3),
			      "it cannot be stored now: keep it, and "
			      "send it again later");
}

/* What the device is told; a reason must outlive this function. */
static enum coap_done answer(struct resources *r, const struct coap_call *call,
			     const struct message *m, int decoded, const char *reason,
			     struct coap_reply *reply)
{
	const char *text;

	if (decoded == 0)
		return resource_reply(reply,
				      call->method == FG_COAP_PUT ? FG_COAP_CODE(2, 4)
								  : FG_COAP_CODE(2, 1),
				      NULL);
	arena_reset(&r->arena);
	text = arena_strndup(&r->arena, reason, strlen(reason));
	return resource_reply(reply,
			      m->payload_len > r->limits.max_bytes ? FG_COAP_CODE(4, 13)
								   : FG_COAP_CODE(4, 0),
			      text ? text : "it cannot be decoded");
}

enum coap_done telemetry_post(void *arg, const struct coap_call *call, struct coap_reply *reply,
			      struct coap_exchange *e)
{
	struct resources *r = arg;
	const char *rest = call->path + strlen(PATH_PREFIX);
	const char *device = dtls_session_identity(call->session)->id;
	char topic[sizeof("m/d//") + PRINCIPAL_ID_MAX + FG_COAP_PATH_MAX];
	char reason[256] = "it cannot be decoded";
	struct message m = {
		.topic = topic, .payload = call->payload, .payload_len = call->payload_len};
	uint64_t ticket;
	int decoded, rc;

	(void)e;
	arena_reset(&r->arena);
	if (!resource_allowed(r, call->session, POLICY_PUBLISH, rest, reply))
		return COAP_DONE;
	if (call->payload_len == 0)
		return resource_reply(reply, FG_COAP_CODE(4, 0), "there is no payload");
	if (!payload_format(call->format, &m.format))
		return resource_reply(reply, FG_COAP_CODE(4, 15),
				      "Content-Format must be one of 0, 42, 50 (JSON), 60 (CBOR), "
				      "110 and 112 (SenML), or absent");
	snprintf(topic, sizeof(topic), "m/d/%s/%s", device, rest);
	decoded = interpret(r, call, &m, reason, sizeof(reason));
	rc = pipeline_submit(r->pipeline, &m, &ticket);
	if (rc != 0)
		return not_stored(r, device, rc, reply);
	reply->hold = ticket;
	answer(r, call, &m, decoded, reason, reply);
	resource_hint(r, device, call->accept, reply);
	return COAP_DONE;
}
