/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent does over CoAP, one request after the other: what a person asked for, the time if
 * nobody else knows it, readings, messages of the cloud (docs/downlink.md), what is desired of us
 * (docs/state.md).
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "device-fw/core/agent_internal.h"

#define UNAUTHORIZED	  FG_COAP_CODE(4, 1)
#define BAD_REQUEST	  FG_COAP_CODE(4, 0)
#define TOO_LARGE	  FG_COAP_CODE(4, 13)
#define TOO_MANY_REQUESTS FG_COAP_CODE(4, 29)
#define UNAVAILABLE	  FG_COAP_CODE(5, 3)
#define IS_SUCCESS(code)  ((code) >> 5 == 2)

/* A server that says it was earlier does not know. 2020, in seconds. */
#define EARLIEST_TIME 1577836800

/* How long what can wait is put off: Max-Age could say not at all, or for ever. */
#define OTHERS_WAIT_MS 300000

enum step {
	STEP_NONE,
	STEP_LOGIN,
	STEP_LOGIN_TIME,
	STEP_TIME,
	STEP_ASKED,
	STEP_BATCH,
	STEP_C2D, /* from here on: what can wait */
	STEP_STATE,
	STEP_REPORT
};

/* CBOR {"c2d": true}, the server's hint that a message waits. */
static const uint8_t hint[] = {0xa1, 0x63, 'c', '2', 'd', 0xf5};

static void note_answer(struct fg_agent *a, const struct fg_coap_response *r)
{
	struct fg_note note = {.kind = r ? FG_NOTE_RESPONSE : FG_NOTE_NO_RESPONSE, .response = r};

	a->asked.method = 0;
	fg_agent_note(a, &note);
}

static void request(struct fg_agent *a, enum step step, const struct fg_coap_request *r,
		    int (*write)(void *arg, uint8_t *out, size_t room))
{
	int rc;

	a->step = (uint8_t)step;
	a->batch_was_last = step == STEP_BATCH;
	if (write)
		rc = fg_coap_client_compose(&a->coap, r, write, a, fg_agent_now(a));
	else
		rc = fg_coap_client_request(&a->coap, r, fg_agent_now(a));
	if (rc == 0)
		return;
	a->step = STEP_NONE;
	fg_agent_fault(a, rc, 0);
	/* Nothing was sent, and trying at once would bring the same. */
	if (step == STEP_ASKED)
		note_answer(a, NULL);
	else if (step == STEP_LOGIN || step == STEP_LOGIN_TIME)
		fg_agent_event(a, FG_SESSION_FAILED);
	else
		fg_agent_hold(a, (uint32_t)a->interval_s);
}

/* A GET, or what `write` writes. */
static void exchange(struct fg_agent *a, enum step step, uint8_t method, const char *path,
		     int (*write)(void *arg, uint8_t *out, size_t room))
{
	int content = step == STEP_LOGIN ? FG_COAP_FORMAT_TEXT : FG_COAP_FORMAT_CBOR;

	request(a, step,
		&(struct fg_coap_request){.method = method,
					  .path = path,
					  .format = write ? content : FG_COAP_FORMAT_NONE,
					  .accept = write ? FG_COAP_FORMAT_NONE : content},
		write);
}

static int write_jwt(void *arg, uint8_t *out, size_t room)
{
	struct fg_agent *a = arg;

	return a->port->jwt(a->ctx, (char *)out, room);
}

static int write_report(void *arg, uint8_t *out, size_t room)
{
	struct fg_agent *a = arg;
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, out, room);
	fg_cbor_map(&w, 1);
	fg_cbor_string(&w, "interval");
	fg_cbor_int(&w, a->interval_s);
	return w.full ? -EMSGSIZE : (int)w.length;
}

/* A JWT has the time in it. */
static void authenticate(struct fg_agent *a)
{
	if ((a->clock_doubted || a->port->wall_ms(a->ctx) == 0) && !a->time_asked)
		exchange(a, STEP_LOGIN_TIME, FG_COAP_GET, "time", NULL);
	else
		exchange(a, STEP_LOGIN, FG_COAP_POST, "auth/jwt", write_jwt);
}

static void get_c2d(struct fg_agent *a)
{
	request(a, STEP_C2D,
		&(struct fg_coap_request){.method = FG_COAP_GET,
					  .path = "msg/c2d",
					  .format = FG_COAP_FORMAT_NONE,
					  .accept = FG_COAP_FORMAT_NONE,
					  .etag = a->etag,
					  .etag_length = a->etag_length,
					  .observe = a->config->observe && !a->observing},
		NULL);
}

/* Readings come first, but not twice in a row when there is anything else, and not before a reboot:
 * they may come faster than they go, and a command would wait for ever. */
static bool coap_work(struct fg_agent *a)
{
	int64_t now_ms = fg_agent_now(a);
	bool state_due = now_ms >= a->state_at_ms;
	bool others = (now_ms >= a->others_at_ms || a->reboot_wanted) &&
		      (a->c2d_wanted || state_due || a->report_wanted);
	bool readings = a->backlog.waiting > 0 && !(others ? a->batch_was_last : a->reboot_wanted);

	if (a->asked.method != 0)
		request(a, STEP_ASKED, &a->asked, NULL);
	else if (a->port->wall_ms(a->ctx) == 0 && !a->time_asked)
		exchange(a, STEP_TIME, FG_COAP_GET, "time", NULL);
	else if (readings)
		exchange(a, STEP_BATCH, FG_COAP_POST, fg_agent_bulk(a) ? "msg/d2c/bulk" : "msg/d2c",
			 fg_agent_write_batch);
	else if (!others)
		return false;
	else if (a->c2d_wanted)
		get_c2d(a);
	else if (state_due)
		exchange(a, STEP_STATE, FG_COAP_GET, "state", NULL);
	else
		exchange(a, STEP_REPORT, FG_COAP_PATCH, "state/reported", write_report);
	return true;
}

/* ---- answers */

/* CBOR seconds since 1970, of the moment in the middle of request and answer. */
static void take_time(struct fg_agent *a, const struct fg_coap_response *r)
{
	struct fg_note note = {.kind = FG_NOTE_TIME};
	struct fg_cbor_reader reader;
	struct fg_cbor_item item;

	a->time_asked = true;
	fg_cbor_read(&reader, r->payload, r->length);
	if (!IS_SUCCESS(r->code) || fg_cbor_next(&reader, &item) != 0 ||
	    item.type != FG_CBOR_UINT || item.value < EARLIEST_TIME ||
	    item.value > INT32_MAX * UINT64_C(100))
		return;
	note.wall_ms = (int64_t)item.value * 1000 + r->elapsed_ms / 2;
	a->port->set_wall_ms(a->ctx, note.wall_ms);
	fg_agent_note(a, &note);
}

/* What has an ETag waits behind it until the next request has said that we have it. False: we had
 * it already, and if the last request has said so there is no use in asking again. */
static bool keep_etag(struct fg_agent *a, const uint8_t *etag, uint8_t length)
{
	bool is_new = length != a->etag_length || memcmp(a->etag, etag, length) != 0;

	a->etag_length = length;
	memcpy(a->etag, etag, length);
	a->c2d_wanted = length > 0 && is_new;
	return is_new;
}

/* The answer to a GET, or a notification: its acknowledgement says that we have it, too, but may
 * have been lost, and does not count for one in several blocks. */
static void take_c2d(struct fg_agent *a, const struct fg_coap_response *r)
{
	bool is_new = keep_etag(a, r->etag, r->etag_length);

	a->observing = r->observed;
	if (r->length > 0 && is_new)
		fg_agent_obey(a, r->payload, r->length, ~0u);
}

static void put_state_off(struct fg_agent *a)
{
	uint32_t poll_s = a->config->state_poll_s;

	a->state_at_ms = poll_s > 0 ? fg_agent_now(a) + poll_s * INT64_C(1000) : INT64_MAX;
}

static void take_state(struct fg_agent *a, const struct fg_coap_response *r)
{
	put_state_off(a);
	/* A wish that stays there until it is met is no place for "reboot". */
	if (r->length > 0)
		fg_agent_obey(a, r->payload, r->length, FG_COMMAND_INTERVAL);
}

static void take_success(struct fg_agent *a, enum step step, const struct fg_coap_response *r)
{
	if (r->length == sizeof(hint) && memcmp(r->payload, hint, sizeof(hint)) == 0 &&
	    step != STEP_C2D) {
		a->c2d_wanted = true;
		/* We have not been told: the server may have ended it without a word. */
		a->observing = false;
	}
	if (step == STEP_BATCH)
		fg_agent_batch_taken(a, r->elapsed_ms, r->transmissions);
	else if (step == STEP_C2D)
		take_c2d(a, r);
	else if (step == STEP_STATE)
		take_state(a, r);
	else if (step == STEP_REPORT)
		a->report_wanted = false;
}

/* What is not ours to repeat: a device that may not, or cannot, goes on with the rest. */
static void take_refusal(struct fg_agent *a, enum step step, const struct fg_coap_response *r)
{
	fg_agent_fault(a, 0, r->code);
	if (step == STEP_BATCH && (r->code == BAD_REQUEST || r->code == TOO_LARGE))
		fg_agent_batch_refused(a, r->code);
	else if (step == STEP_BATCH)
		fg_agent_event(a, FG_SESSION_REFUSED); /* they are kept */
	else if (step == STEP_C2D)
		a->c2d_wanted = false;
	else if (step == STEP_STATE)
		put_state_off(a);
	else if (step == STEP_REPORT)
		a->report_wanted = false;
}

static bool wants_patience(const struct fg_coap_response *r)
{
	return r->code >> 5 == 5 || r->code == TOO_MANY_REQUESTS;
}

static void take_login(struct fg_agent *a, const struct fg_coap_response *r)
{
	if (IS_SUCCESS(r->code)) {
		a->clock_doubted = false;
		fg_agent_event(a, FG_SESSION_AUTHENTICATED);
		return;
	}
	fg_agent_fault(a, -EACCES, r->code);
	if (wants_patience(r))
		fg_agent_hold(a, r->max_age_s);
	else
		fg_agent_event(a, FG_SESSION_REFUSED);
	/* It may be the time in the JWT. */
	a->clock_doubted = true;
}

static void take_response(struct fg_agent *a, enum step step, const struct fg_coap_response *r)
{
	if (step == STEP_LOGIN) {
		take_login(a, r);
		return;
	}
	/* What has no time would have the time of receipt: that is not for a moment's trouble. */
	if ((step == STEP_TIME || step == STEP_LOGIN_TIME) && r->code != TOO_MANY_REQUESTS &&
	    r->code != UNAVAILABLE) {
		take_time(a, r);
		if (step == STEP_LOGIN_TIME)
			authenticate(a);
		return;
	}
	if (step == STEP_ASKED)
		note_answer(a, r);
	if (r->code == UNAUTHORIZED) {
		fg_agent_fault(a, 0, r->code);
		fg_agent_event(a, FG_SESSION_UNAUTHENTICATED);
		return;
	}
	if (wants_patience(r)) {
		fg_agent_fault(a, 0, r->code);
		/* The server's database is away, and its journal takes readings all the same. */
		if (r->code >> 5 == 5 && step >= STEP_C2D && !a->reboot_wanted)
			a->others_at_ms = fg_agent_now(a) + OTHERS_WAIT_MS;
		else
			fg_agent_hold(a, r->max_age_s);
		return;
	}
	if (IS_SUCCESS(r->code))
		take_success(a, step, r);
	else if (step != STEP_ASKED)
		take_refusal(a, step, r);
	fg_agent_event(a, FG_SESSION_ANSWERED);
}

/* There is an answer, and it is too long for us: no other connection would make it shorter. False:
 * it is one that we cannot do without. */
static bool pass_over(struct fg_agent *a, enum step step)
{
	struct fg_note note = {.kind = FG_NOTE_COMMAND_REFUSED};

	switch (step) {
	case STEP_C2D:
		/* Those behind it would wait for ever. */
		keep_etag(a, a->coap.etag, a->coap.etag_length);
		fg_agent_note(a, &note);
		return true;
	case STEP_STATE:
		put_state_off(a);
		return true;
	case STEP_TIME:
		a->time_asked = true;
		return true;
	case STEP_REPORT:
		a->report_wanted = false;
		return true;
	case STEP_ASKED:
		return true;
	default:
		return false;
	}
}

static void handle(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r)
{
	static const int errors[] = {
		[FG_COAP_NO_ANSWER] = -ETIMEDOUT,
		[FG_COAP_REFUSED] = -ECONNRESET,
		[FG_COAP_UNREADABLE] = -EBADMSG,
		[FG_COAP_NOT_SENT] = -EIO,
	};
	struct fg_agent *a = ctx;
	enum step step = (enum step)a->step;

	if (outcome == FG_COAP_NOTIFICATION_LOST) {
		a->observing = false;
		a->c2d_wanted = true;
		return;
	}
	if (outcome == FG_COAP_NOTIFICATION) {
		if (IS_SUCCESS(r->code)) {
			take_c2d(a, r);
			a->c2d_wanted = a->etag_length > 0;
		} else {
			a->observing = false;
		}
		return;
	}
	a->step = STEP_NONE;
	if (outcome == FG_COAP_RESPONSE) {
		take_response(a, step, r);
		return;
	}
	if (step == STEP_ASKED)
		note_answer(a, NULL);
	fg_agent_fault(a, errors[outcome], 0);
	if (outcome != FG_COAP_UNREADABLE || !pass_over(a, step))
		fg_agent_event(a, outcome == FG_COAP_NOT_SENT ? FG_SESSION_CLOSED
							      : FG_SESSION_NO_ANSWER);
}

static int send_datagram(void *ctx, const void *datagram, size_t length, bool expects_answer)
{
	struct fg_agent *a = ctx;

	return a->port->send(a->ctx, datagram, length, expects_answer);
}

static void random_bytes(void *ctx, void *out, size_t length)
{
	struct fg_agent *a = ctx;

	a->port->random(a->ctx, out, length);
}

static void coap_init(struct fg_agent *a)
{
	a->coap.settings = &a->config->coap;
	a->coap.send = send_datagram;
	a->coap.random = random_bytes;
	a->coap.handle = handle;
	a->coap.ctx = a;
	fg_coap_client_init(&a->coap);
}

static bool coap_busy(const struct fg_agent *a)
{
	return fg_coap_client_busy(&a->coap);
}

static void coap_forget(struct fg_agent *a)
{
	fg_coap_client_reset(&a->coap);
	if (a->step == STEP_ASKED)
		note_answer(a, NULL);
	a->step = STEP_NONE;
	a->observing = false;
}

static void coap_farewell(struct fg_agent *a)
{
	(void)a; /* DTLS has its own */
}

static void coap_receive(struct fg_agent *a, const void *bytes, size_t length, int64_t now_ms)
{
	fg_coap_client_receive(&a->coap, bytes, length, now_ms);
}

static int64_t coap_poll(struct fg_agent *a, int64_t now_ms)
{
	return fg_coap_client_poll(&a->coap, now_ms);
}

const struct fg_agent_protocol fg_agent_coap = {
	.init = coap_init,
	.authenticate = authenticate,
	.work = coap_work,
	.busy = coap_busy,
	.forget = coap_forget,
	.farewell = coap_farewell,
	.receive = coap_receive,
	.poll = coap_poll,
};
