/* SPDX-License-Identifier: Apache-2.0 */
#include "note.h"

#include <string.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define PAYLOAD_SHOWN 64

static const char *const states[FG_SESSION_STATES] = {
	[FG_SESSION_OFF] = "off",
	[FG_SESSION_ATTACHING] = "attaching",
	[FG_SESSION_CONNECTING] = "connecting",
	[FG_SESSION_AUTHENTICATING] = "authenticating",
	[FG_SESSION_RUNNING] = "running",
	[FG_SESSION_SLEEPING] = "sleeping",
	[FG_SESSION_RESUMING] = "resuming",
	[FG_SESSION_BACKING_OFF] = "backing off",
};

static void log_response(const struct fg_coap_response *r)
{
	char payload[PAYLOAD_SHOWN + 1];
	uint32_t token = 0;
	size_t length = MIN(r->length, PAYLOAD_SHOWN);

	for (uint8_t i = 0; i < r->token_length; i++)
		token = token << 8 | r->token[i];
	for (size_t i = 0; i < length; i++)
		payload[i] =
			r->payload[i] >= ' ' && r->payload[i] <= '~' ? (char)r->payload[i] : '.';
	payload[length] = '\0';
	LOG_INF("CoAP response: Code 0x%02x, Token 0x%08x, Payload: %s", r->code, token, payload);
}

void note_log(void *ctx, const struct fg_note *note)
{
	ARG_UNUSED(ctx);
	switch (note->kind) {
	case FG_NOTE_STATE:
		LOG_INF("State: %s", states[note->state]);
		break;
	case FG_NOTE_CONNECTED:
		LOG_INF("%s%s", note->connection.resumed ? "Resumed" : "Connected",
			note->connection.connection_id ? " with Connection ID" : "");
		break;
	case FG_NOTE_RESPONSE:
		log_response(note->response);
		break;
	case FG_NOTE_NO_RESPONSE:
		LOG_WRN("No answer");
		break;
	case FG_NOTE_RECORDED:
		if (note->record.error < 0)
			LOG_ERR("A reading is lost: %d", note->record.error);
		else
			LOG_DBG("Reading %u", note->record.seq);
		break;
	case FG_NOTE_ACKNOWLEDGED:
		LOG_INF("Readings %u to %u are with the server, after %u ms", note->delivery.first,
			note->delivery.last, note->delivery.elapsed_ms);
		break;
	case FG_NOTE_REFUSED:
		LOG_ERR("The server will not take readings %u to %u: 0x%02x", note->delivery.first,
			note->delivery.last, note->delivery.code);
		break;
	case FG_NOTE_FAULT:
		LOG_WRN("Failed: %d, 0x%02x", note->fault.error, note->fault.code);
		break;
	case FG_NOTE_COMMAND:
		LOG_INF("Command: 0x%x", note->command->present);
		break;
	case FG_NOTE_COMMAND_REFUSED:
		LOG_WRN("A message that is no command");
		break;
	case FG_NOTE_TIME:
		LOG_INF("The server's time is %u", (uint32_t)(note->wall_ms / MSEC_PER_SEC));
		break;
	}
}
