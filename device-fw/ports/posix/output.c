/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device-fw/core/coap_message.h"

#define LINE_SIZE 128

static int open_log(const char *path)
{
	return path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

int output_open(struct output *o, const char *acked, const char *recorded, char *error, size_t size)
{
	o->acked = open_log(acked);
	o->recorded = open_log(recorded);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if ((!acked || o->acked >= 0) && (!recorded || o->recorded >= 0))
		return 0;
	snprintf(error, size, "%s: %s", acked && o->acked < 0 ? acked : recorded, strerror(errno));
	return -1;
}

void output_close(struct output *o)
{
	if (o->acked >= 0)
		close(o->acked);
	if (o->recorded >= 0)
		close(o->recorded);
}

void output_log(int fd, const char *device, const uint32_t *numbers, size_t count)
{
	char line[LINE_SIZE];

	for (size_t i = 0; fd >= 0 && i < count; i++) {
		int length = snprintf(line, sizeof(line), "%s %" PRIu32 "\n", device, numbers[i]);

		if (write(fd, line, (size_t)length) != length) {
			fprintf(stderr, "fieldgate-device: --acked or --recorded: %s\n",
				strerror(errno));
			exit(1);
		}
	}
}

/* ---- one line */

void output_event(const struct output *o, const char *event, const char *device, json_t *fields,
		  const char *format, ...)
{
	va_list arguments;

	if (o->json) {
		json_t *line = json_pack("{s:s, s:s*}", "event", event, "device", device);

		json_object_update(line, fields);
		json_dumpf(line, stdout, JSON_COMPACT);
		json_decref(line);
	} else {
		va_start(arguments, format);
		vprintf(format, arguments);
		va_end(arguments);
	}
	putchar('\n');
	json_decref(fields);
}

static const char *error_name(int error)
{
	const char *name = error ? strerrorname_np(-error) : NULL;

	return name ? name : "none";
}

const char *output_state_name(enum fg_session_state state)
{
	static const char *const names[FG_SESSION_STATES] = {
		[FG_SESSION_OFF] = "off",
		[FG_SESSION_ATTACHING] = "attaching",
		[FG_SESSION_CONNECTING] = "connecting",
		[FG_SESSION_AUTHENTICATING] = "authenticating",
		[FG_SESSION_RUNNING] = "running",
		[FG_SESSION_SLEEPING] = "sleeping",
		[FG_SESSION_RESUMING] = "resuming",
		[FG_SESSION_BACKING_OFF] = "backing off",
	};

	return names[state];
}

/* "4.01", "return code 5", or nothing. */
static const char *code_text(const struct output *o, uint8_t code, char text[16])
{
	if (code == 0)
		text[0] = '\0';
	else if (o->transport == FG_TRANSPORT_COAP)
		snprintf(text, 16, "%u.%02u", (unsigned)(code >> 5), (unsigned)(code & 31));
	else
		snprintf(text, 16, "return code %u", (unsigned)code);
	return text;
}

/* ---- answers to a person's requests, as in the paper */

/* Payloads that are no text are shown in hex. */
static char *printable(const uint8_t *payload, size_t length)
{
	json_t *text = json_stringn((const char *)payload, length);
	bool plain = text != NULL; /* UTF-8, and no NUL */
	char *out = malloc(2 * length + 1);

	json_decref(text);
	if (!out)
		abort();
	for (size_t i = 0; i < length; i++)
		plain = plain && (payload[i] >= ' ' || payload[i] == '\n') && payload[i] != 0x7f;
	if (plain) {
		memcpy(out, payload, length);
		out[length] = '\0';
		return out;
	}
	out[0] = '\0';
	for (size_t i = 0; i < length; i++)
		sprintf(out + 2 * i, "%02x", payload[i]);
	return out;
}

static void say_response(const struct output *o, const char *device,
			 const struct fg_coap_response *r)
{
	char token[2 * FG_COAP_TOKEN_MAX + 1] = "", *payload = printable(r->payload, r->length);
	char code[8];

	for (unsigned i = 0; i < r->token_length && i < FG_COAP_TOKEN_MAX; i++)
		sprintf(token + 2 * i, "%02x", r->token[i]);
	snprintf(code, sizeof(code), "0x%02x", r->code);
	output_event(o, "response", device,
		     json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "code", code, "token", token,
			       "payload", payload, "format", r->format, "ms", (int)r->elapsed_ms,
			       "transmissions", (int)r->transmissions),
		     "CoAP response: Code %s, Token 0x%s, Payload: %s", code, token, payload);
	free(payload);
}

/* ---- notes */

static void say_delivery(const struct output *o, const char *device, const struct fg_note *note)
{
	const bool acknowledged = note->kind == FG_NOTE_ACKNOWLEDGED;
	const char *event = acknowledged ? "acknowledged" : "refused";
	const uint32_t first = note->delivery.first, last = note->delivery.last;
	char code[16], range[32];

	code_text(o, note->delivery.code, code);
	snprintf(range, sizeof(range), first == last ? "%" PRIu32 : "%" PRIu32 " to %" PRIu32,
		 first, last);
	output_event(o, event, device,
		     json_pack("{s:I, s:I, s:i, s:i, s:i, s:s}", "first", (json_int_t)first, "last",
			       (json_int_t)last, "count", (int)note->delivery.count, "ms",
			       (int)note->delivery.elapsed_ms, "transmissions",
			       (int)note->delivery.transmissions, "code", code),
		     "%s: reading %s, %" PRIu32 " ms, %u transmission(s) %s", event, range,
		     note->delivery.elapsed_ms, (unsigned)note->delivery.transmissions, code);
}

static void say_command(const struct output *o, const char *device, const struct fg_command *c)
{
	json_t *fields = json_object();
	char text[LINE_SIZE] = "";
	size_t at = 0;

	if (c->present & FG_COMMAND_INTERVAL) {
		json_object_set_new(fields, "interval", json_integer(c->interval_s));
		at += (size_t)snprintf(text + at, sizeof(text) - at, " interval %" PRId32 " s",
				       c->interval_s);
	}
	if (c->present & FG_COMMAND_READ) {
		json_object_set_new(fields, "read", json_true());
		at += (size_t)snprintf(text + at, sizeof(text) - at, " read");
	}
	if (c->present & FG_COMMAND_REBOOT) {
		json_object_set_new(fields, "reboot", json_true());
		at += (size_t)snprintf(text + at, sizeof(text) - at, " reboot");
	}
	if (c->present & FG_COMMAND_ID) {
		json_object_set_new(fields, "id", json_integer(c->id));
		snprintf(text + at, sizeof(text) - at, " (id %" PRId32 ")", c->id);
	}
	output_event(o, "command", device, fields, "command from the cloud:%s", text);
}

static void say_connected(const struct output *o, const char *device, bool resumed, bool cid)
{
	const char *kind = o->transport == FG_TRANSPORT_MQTT ? "TLS"
			   : cid			     ? "DTLS with Connection ID"
							     : "DTLS without Connection ID";

	output_event(o, "connected", device,
		     json_pack("{s:b, s:b}", "resumed", resumed, "cid", cid), "connected: %s, %s",
		     kind, resumed ? "no handshake" : "new session");
}

static void say_recorded(const struct output *o, const char *device, uint32_t seq, int error)
{
	if (error)
		output_event(o, "not_recorded", device,
			     json_pack("{s:s}", "error", error_name(error)), "reading not kept: %s",
			     strerror(-error));
	else
		output_event(o, "recorded", device, json_pack("{s:I}", "seq", (json_int_t)seq),
			     "recorded: reading %" PRIu32, seq);
}

static void say_fault(const struct output *o, const char *device, int error, uint8_t code)
{
	char text[16];

	code_text(o, code, text);
	output_event(o, "fault", device,
		     json_pack("{s:s, s:s}", "error", error_name(error), "code", text),
		     "fault: %s %s", error ? strerror(-error) : "", text);
}

static void say(const struct output *o, const char *device, const struct fg_note *note)
{
	switch (note->kind) {
	case FG_NOTE_STATE:
		output_event(o, "state", device,
			     json_pack("{s:s, s:I}", "state", output_state_name(note->state),
				       "uptime_ms", (json_int_t)note->now_ms),
			     "state: %s", output_state_name(note->state));
		break;
	case FG_NOTE_CONNECTED:
		say_connected(o, device, note->connection.resumed, note->connection.connection_id);
		break;
	case FG_NOTE_RESPONSE:
		say_response(o, device, note->response);
		break;
	case FG_NOTE_NO_RESPONSE:
		output_event(o, "no_response", device, json_object(), "CoAP: no response");
		break;
	case FG_NOTE_RECORDED:
		say_recorded(o, device, note->record.seq, note->record.error);
		break;
	case FG_NOTE_ACKNOWLEDGED:
	case FG_NOTE_REFUSED:
		say_delivery(o, device, note);
		break;
	case FG_NOTE_FAULT:
		say_fault(o, device, note->fault.error, note->fault.code);
		break;
	case FG_NOTE_COMMAND:
		say_command(o, device, note->command);
		break;
	case FG_NOTE_COMMAND_REFUSED:
		output_event(o, "command_refused", device, json_object(),
			     "what came from the cloud is no command");
		break;
	case FG_NOTE_TIME:
		output_event(o, "time", device,
			     json_pack("{s:I}", "wall_ms", (json_int_t)note->wall_ms),
			     "time from the server: %" PRId64 " ms since 1970", note->wall_ms);
		break;
	}
}

void output_note(struct output *o, const char *device, const struct fg_note *note)
{
	if (!o->silent)
		say(o, device, note);
}

void output_disconnected(struct output *o, const char *device, int error, const char *reason)
{
	if (!o->silent)
		output_event(o, "disconnected", device,
			     json_pack("{s:s, s:s}", "error", error_name(error), "reason", reason),
			     "disconnected: %s", reason);
}

void output_command(struct output *o, const char *device, const char *command, int error,
		    const char *text)
{
	if (error)
		output_event(o, "error", device,
			     json_pack("{s:s, s:s, s:s}", "command", command, "error",
				       error_name(error), "text", text),
			     "%s: %s", command, text);
	else if (o->json)
		output_event(o, "ok", device, json_pack("{s:s}", "command", command), "%s", "");
}

json_t *output_totals(const struct totals *t)
{
	json_t *latency =
		json_pack("{s:i, s:i, s:i, s:i}", "p50", (int)totals_percentile(t, 0.5), "p90",
			  (int)totals_percentile(t, 0.9), "p99", (int)totals_percentile(t, 0.99),
			  "max", (int)totals_percentile(t, 1));
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"recorded", t->recorded},
		{"not_recorded", t->not_recorded},
		{"acknowledged", t->acknowledged},
		{"refused", t->refused},
		{"messages", t->messages},
		{"transmissions", t->transmissions},
		{"handshakes", t->handshakes},
		{"resumed", t->resumed},
		{"faults", t->faults},
		{"commands", t->commands},
		{"reboots", t->reboots},
	};
	json_t *fields = json_pack("{s:o}", "latency_ms", latency);

	for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++)
		json_object_set_new(fields, counters[i].name,
				    json_integer((json_int_t)counters[i].value));
	return fields;
}
