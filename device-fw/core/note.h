/* SPDX-License-Identifier: Apache-2.0 */
/* What the core tells its port for the log, the shell and for tests: values, no text. */
#ifndef FG_DEVICE_NOTE_H
#define FG_DEVICE_NOTE_H

#include "device-fw/core/coap_client.h"
#include "device-fw/core/command.h"
#include "device-fw/core/session.h"

enum fg_note_kind {
	FG_NOTE_STATE,	     /* state */
	FG_NOTE_CONNECTED,   /* connection: handshake or resumed, CID or not */
	FG_NOTE_RESPONSE,    /* response: to a request of a person (fg_agent_get, fg_agent_put) */
	FG_NOTE_NO_RESPONSE, /* it was given up */
	FG_NOTE_RECORDED,    /* record: a reading was taken, and is in the backlog unless error says
				why not */
	FG_NOTE_ACKNOWLEDGED, /* delivery: records first to last are with the server */
	FG_NOTE_REFUSED, /* delivery, code: the server will never take them; they are given up */
	FG_NOTE_FAULT,	 /* error (a negative errno), code (CoAP's, MQTT's return code, or 0): an
			    attempt has failed */
	FG_NOTE_COMMAND, /* command: is carried out now */
	FG_NOTE_COMMAND_REFUSED, /* it was no command */
	FG_NOTE_TIME,		 /* wall_ms: the server has said what time it is */
};

struct fg_note {
	enum fg_note_kind kind;
	int64_t now_ms;
	union {
		enum fg_session_state state;
		struct {
			bool resumed, connection_id;
		} connection;
		const struct fg_coap_response *response;
		struct {
			uint32_t seq;
			int error;
		} record;
		struct {
			uint32_t first, last, count, elapsed_ms;
			uint8_t transmissions, code;
		} delivery;
		struct {
			int error;
			uint8_t code;
		} fault;
		const struct fg_command *command;
		int64_t wall_ms;
	};
};

#endif
