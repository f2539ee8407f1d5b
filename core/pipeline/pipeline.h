/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one pipeline behind both protocols: identify -> authorise -> journal -> decode -> store. An
 * adapter (the Mosquitto plugin, fieldgate-coap) opens one pipeline, asks its registry who is who,
 * and hands messages in; it knows nothing of what follows.
 */
#ifndef FG_PIPELINE_PIPELINE_H
#define FG_PIPELINE_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/config.h"
#include "core/journal/journal.h"
#include "core/payload/payload.h"
#include "core/registry/registry.h"
#include "core/relay/bus.h"
#include "core/relay/relay.h"
#include "core/store/store.h"

struct pipeline;

struct message {
	const char *topic; /* NUL-terminated */
	const void *payload;
	size_t payload_len;
	enum payload_format format;

	/* It, or what a rule made it of, was taken into a pipeline already: it comes by way of the
	 * broker from who has the right `relay` (POLICY_RELAY), or was republished. Neither stored
	 * nor run through rules again; on c2d it waits for the device all the same. */
	bool relayed;

	/* On c2d: the device has it from the broker and need not find it in the queue. */
	bool delivered;
};

enum presence_event {
	PRESENCE_CONNECTED,
	PRESENCE_DISCONNECTED,
	PRESENCE_STARTED, /* the process: whoever its predecessor had connected, is not any more */
};

struct presence {
	enum presence_event event;
	const char *device;    /* "" for PRESENCE_STARTED */
	const char *client_id; /* the protocol's own name of the connection */
	const char *address;   /* NULL if unknown */
	const char *reason;    /* NULL when connected */
};

/*
 * source: "mqtt", "coap", "coap-1"; state lives in <state.dir>/<source>/. durability: the
 * protocol's default. bus: to the fleet's broker, NULL: none; it must outlive the pipeline. 0, or
 * -1 with a message in err. Does not wait for the database.
 */
int pipeline_open(struct pipeline **out, const struct config *c, const char *source,
		  enum durability durability, const struct bus *bus, char *err, size_t err_len);

/* Stop the threads; what is not stored yet stays in the journal. NULL is allowed. */
void pipeline_close(struct pipeline *p);

struct registry *pipeline_registry(struct pipeline *p);

/* Is this topic one whose messages are stored, `m/d/<device>/d2c[/...]`? Sets the device in the
 * topic. */
bool pipeline_is_telemetry(const char *topic, const char **device, size_t *device_len);

/* Is it one whose messages are for the device, `m/d/<device>/c2d[/...]`? */
bool pipeline_is_downlink(const char *topic, const char **device, size_t *device_len);

/* Would a message on this topic be taken, if it was neither relayed nor delivered? The thread of
 * pipeline_publish. */
bool pipeline_takes(struct pipeline *p, const char *topic);

/*
 * Take an authorised message: telemetry is stored; what is published to a device,
 * `m/d/<device>/c2d[/...]`, waits for it in the table downlink, unless it was delivered; what is on
 * another topic is for rules, and passed over when none wants it: 0. 0 means that it may be
 * acknowledged; -ENOBUFS or another -errno from journal_append or journal_sync: it may not, the
 * device must keep it. One thread at a time.
 */
int pipeline_publish(struct pipeline *p, const struct message *m);

/*
 * The same for a loop that must not wait for the disk. 0 and *ticket: 0 when the message may be
 * acknowledged at once (durability `write`), else a number that grows with every call; it may be
 * acknowledged when pipeline_settled has come to it. -errno as pipeline_publish. Messages taken
 * since the last pipeline_commit share one fdatasync.
 */
int pipeline_submit(struct pipeline *p, const struct message *m, uint64_t *ticket);

/* Have what was submitted so far synced, by a thread of the pipeline's own. Never waits. */
void pipeline_commit(struct pipeline *p);

/* Readable when pipeline_settled has something. */
int pipeline_commit_fd(const struct pipeline *p);

/*
 * Every message up to and including *ticket, and after the one of the call before, may be
 * acknowledged (*rc 0) or could not be proven to survive (-errno: it may not be, and may be stored
 * all the same). True as long as there is more. The thread of pipeline_submit.
 */
bool pipeline_settled(struct pipeline *p, uint64_t *ticket, int *rc);

/* Record presence; never refused short of a full disk (logged). The same thread as
 * pipeline_publish. */
void pipeline_presence(struct pipeline *p, const struct presence *e);

void pipeline_stats(struct pipeline *p, struct journal_stats *journal, struct store_stats *store);
void pipeline_relay_stats(struct pipeline *p, struct relay_stats *relay);

#endif
