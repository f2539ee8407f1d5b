/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that wait in the table `downlink`, to devices that are connected here. A device is given
 * one at a time: it is asked for, published, and, once the broker has put it into a session of the
 * device, marked while the next one is asked for. All on the broker's thread, which never waits.
 */
#ifndef FG_PLUGIN_DOWNLINK_H
#define FG_PLUGIN_DOWNLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/base/rate_limit.h"

struct downlink_device;
struct documents;
struct plugin;
struct session;

TAILQ_HEAD(downlink_list, downlink_device);

struct downlink {
	struct documents *documents;
	struct downlink_device **buckets; /* those that are being dealt with, by id */
	struct downlink_list wanted;	  /* to be asked for, oldest first */
	struct downlink_list published;	  /* does anybody take it? */
	struct downlink_list asked;
	int64_t passed_us, swept_us, paused_until_us;
	size_t sweep_at; /* bucket of sessions.by_client */
	size_t hurry;	 /* so many buckets are to be swept soon */
	struct rate_limit not_taken;
};

/* Does not wait for the database. 0, or -errno with a message in err. */
int downlink_open(struct plugin *p, char *err, size_t err_len);

/* Marks what was delivered, for which it waits five seconds at most. */
void downlink_close(struct plugin *p);

void downlink_tick(struct plugin *p);

/* Is it worth another TICK soon? */
bool downlink_busy(const struct plugin *p);

/* This session is new, or subscribes to something. */
void downlink_session(struct plugin *p, struct session *s);

/* It would, and the policy of the device does not let it. */
void downlink_refused(struct plugin *p, const struct session *s, const char *topic);

/* The broker puts a message on this topic into this session. */
void downlink_taken(struct plugin *p, const struct session *s, const char *topic);

#endif
