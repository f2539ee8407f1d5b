/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for one device: a clock that is moved by hand, flash in memory, a network, and a CoAP
 * server that answers as it is told to and writes down what it was asked. Nothing of the server's
 * code is in it.
 */
#ifndef FG_TESTS_AGENT_WORLD_H
#define FG_TESTS_AGENT_WORLD_H

#include "device-fw/core/agent.h"

#define WORLD_REQUESTS 512
#define WORLD_FLASH    (16 * 4096)

struct agent_world_request {
	int64_t at_ms;
	uint8_t code;
	char path[32];
	uint8_t etag[8];
	uint8_t etag_length;
	bool observe;
	uint8_t payload[FG_COAP_REQUEST_MAX];
	size_t length;
};

struct agent_world_answer {
	uint8_t code;	    /* 0: none at all */
	uint32_t max_age_s; /* 0: no such option, unless: */
	bool max_age_0;
	const char *etag; /* NULL: none */
	const void *payload;
	size_t length;
	uint8_t block2, observe; /* 0: no such option */
};

struct agent_world {
	struct fg_agent agent;
	struct fg_config config;
	int64_t now_ms, wall_offset_ms;
	int64_t round_trip_ms;
	bool wall_known;
	bool network, server; /* they are there */
	bool connected, kept;
	unsigned handshakes, resumptions, reboots, measured;
	/* Decides on each request; agent_world_take unless it is changed. */
	struct agent_world_answer (*answer)(struct agent_world *w,
					    const struct agent_world_request *r);
	/* MQTT: takes what the device sends, and answers by agent_world_reply. */
	void (*broker)(struct agent_world *w, const uint8_t *bytes, size_t length);
	struct agent_world_request requests[WORLD_REQUESTS];
	size_t request_count;
	unsigned notes[FG_NOTE_TIME + 1];
	uint8_t last_code; /* of FG_NOTE_RESPONSE */
	/* what is under way */
	uint8_t reply[1280];
	size_t reply_length;
	int open_result;  /* 1: connected, 2: resumed, 3: failed */
	int network_news; /* 1: attached */
	uint8_t flash[WORLD_FLASH];
	bool marks_fail; /* flash: what is acknowledged cannot be written down */
	int32_t saved_interval, saved_command;
	bool has_interval, has_command;
};

void agent_world_init(struct agent_world *w); /* a healthy one over CoAP with a PSK; config may be
						 changed before agent_world_start */
void agent_world_use(struct agent_world *w, enum fg_transport transport,
		     enum fg_credential credential);
void agent_world_start(
	struct agent_world *w); /* also after a reboot: memory is gone, flash is not */
void agent_world_run(struct agent_world *w, int64_t until_ms);
size_t agent_world_count(const struct agent_world *w, const char *path); /* requests */
const struct agent_world_request *agent_world_last(const struct agent_world *w, const char *path);
/* Bytes for the device, a round trip from now, behind those that are on their way. */
void agent_world_reply(struct agent_world *w, const void *bytes, size_t length);
/* Takes everything, and knows what time it is: 1700000000. */
struct agent_world_answer agent_world_take(struct agent_world *w,
					   const struct agent_world_request *r);
/* The sequence numbers and times of a message that was posted, one or an array. How many. */
size_t agent_world_records(const struct agent_world_request *r, uint32_t *seqs, int64_t *times,
			   size_t max);

#endif
