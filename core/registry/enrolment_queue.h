/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that were enrolled and that the database has not answered for. An entry waits until the
 * registry's thread has sent it, together with all others, and leaves when a snapshot was loaded
 * after that: then the database says who is registered. Until then an active device is known by the
 * list that hangs on each snapshot (snapshot_enrol), which the queue fills anew for the next one.
 *
 * Its own lock is held for steps in memory only. Nothing of it is on disk: of a process that is
 * killed, the device is enrolled again when it comes back.
 */
#ifndef FG_REGISTRY_ENROLMENT_QUEUE_H
#define FG_REGISTRY_ENROLMENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/registry/registry_load.h"
#include "core/registry/snapshot.h"

#define SERIAL_TEXT_MAX	   (2 * 20 + 1) /* RFC 5280 section 4.1.2.2 */
#define ENROLMENT_FROM_MAX 64

/* A device as its certificate, which was verified, has it. */
struct enrolment {
	char id[PRINCIPAL_ID_MAX + 1];
	uint8_t fingerprint[FINGERPRINT_LEN]; /* of the certificate */
	uint8_t key_fingerprint[FINGERPRINT_LEN];
	uint8_t authority[FINGERPRINT_LEN]; /* that signed it */
	char authority_name[PRINCIPAL_ID_MAX + 1];
	enum enrolment_mode mode;     /* the authority's: pending or active */
	char serial[SERIAL_TEXT_MAX]; /* hexadecimal, lower case */
	int64_t not_before, not_after;
	char from[ENROLMENT_FROM_MAX]; /* address */
};

/* Does s say that this certificate was revoked, and its row deleted since? */
bool enrolment_revoked(const struct snapshot *s, const struct enrolment *e);

struct enrolment_queue;

/* max: entries; per_minute: turns of one authority, 0: any number. NULL without memory or file
 * descriptors. */
struct enrolment_queue *enrolment_queue_new(size_t max, unsigned per_minute);
void enrolment_queue_free(struct enrolment_queue *q);

/* --- Any thread --- */

/* The mode of the entry with this certificate; ENROLMENT_OFF: there is none. */
enum enrolment_mode enrolment_queue_find(struct enrolment_queue *q,
					 const uint8_t fingerprint[FINGERPRINT_LEN]);

/* May one more certificate of this authority be verified in this minute? */
bool enrolment_queue_turn(struct enrolment_queue *q, const uint8_t authority[FINGERPRINT_LEN]);

/* 0, also when it is there already; -EEXIST: the name is there with another certificate; -ENOSPC;
 * -ENOMEM. Copies. */
int enrolment_queue_add(struct enrolment_queue *q, const struct enrolment *e);

/* --- The registry's thread --- */

/* Readable while something waits to be sent. */
int enrolment_queue_fd(const struct enrolment_queue *q);

/*
 * Send all that wait, with one call of enrol(), and say in the log who is new. If the database
 * refuses that call, one by one; who is refused alone is given up. When it only cannot do it now,
 * for a lock that somebody holds, they wait for the next call. 0; or a code of pgconn_exec that
 * means the connection is lost, with a message in err: they wait for the next one.
 */
int enrolment_queue_send(struct enrolment_queue *q, const struct registry_source *src, char *err,
			 size_t err_len);

/* Is there anybody whom the next load answers for, whatever registry_version says? */
bool enrolment_queue_sent(struct enrolment_queue *q);

/* A load begins: it answers for all that were sent before. */
void enrolment_queue_load_begins(struct enrolment_queue *q);

/*
 * That load is done, and s is about to take the place of the last snapshot: whom it answers for are
 * forgotten. The others are enrolled in s, unless s says something else of their name, their
 * certificate or their authority.
 */
void enrolment_queue_carry(struct enrolment_queue *q, const struct snapshot *s);

#endif
