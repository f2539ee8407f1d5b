/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device and its owner leave for each other in the cloud: its state (two JSON documents,
 * `reported` by the device and `desired` by the owner), small named values, and messages that wait
 * for the device. They live in PostgreSQL (tables device_state, device_value, downlink); every
 * change is one statement there, so it does not matter who makes it: a device, another process, or
 * a person with psql.
 *
 * Requests are answered by a thread of its own with one connection, in order, several under way at
 * once; nobody who asks ever waits. One other thread asks and polls.
 */
#ifndef FG_DOCUMENT_DOCUMENT_H
#define FG_DOCUMENT_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOCUMENT_DEPTH_MAX 16 /* nesting of a state: {"a":1} has 1 */
#define DOCUMENT_NAME_MAX  64
#define DOCUMENT_NOTE_MAX  16

struct documents;

enum document_operation {
	DOCUMENT_STATE_GET,	       /* payload: {"desired":…,"reported":…} */
	DOCUMENT_STATE_DESIRED,	       /* all that is desired; "" when nothing is */
	DOCUMENT_STATE_DELTA,	       /* what is desired and not reported so; "" when nothing is */
	DOCUMENT_STATE_PATCH_REPORTED, /* JSON merge patch, RFC 7396 */
	DOCUMENT_STATE_PATCH_DESIRED,
	DOCUMENT_STATE_PUT_REPORTED, /* replace */
	DOCUMENT_STATE_PUT_DESIRED,
	DOCUMENT_VALUE_GET,
	DOCUMENT_VALUE_PUT,
	DOCUMENT_VALUE_DELETE,

	/*
	 * The oldest message that waits for the device and has not expired; name: of this subtopic
	 * only, "" of those without one, NULL any. if_version >= 0: the message with this id is
	 * marked as delivered first, in the same transaction, if it is this device's. DOCUMENT_OK:
	 * version is the message's id, name its subtopic (NULL: none), waiting how many wait behind
	 * it, of this name. DOCUMENT_NOT_FOUND: none waits; waiting: so many of other names do.
	 */
	DOCUMENT_DOWNLINK_NEXT,
	/* Mark the message with id if_version as delivered: DOCUMENT_OK, also when it was already;
	 * DOCUMENT_NOT_FOUND: the device has no such message. */
	DOCUMENT_DOWNLINK_DONE,
};

enum document_outcome {
	DOCUMENT_OK,
	DOCUMENT_CREATED,
	DOCUMENT_NOT_FOUND,
	DOCUMENT_BAD,	       /* not JSON, not an object, too deep, name not allowed: see why */
	DOCUMENT_PRECONDITION, /* if_version did not hold */
	DOCUMENT_TOO_LARGE,    /* the document would be; or too many values of this device */
	DOCUMENT_UNAVAILABLE,  /* the database is away or did not answer in time. A change may have
				  been made all the same: see documents_ask */
};

struct document_request {
	enum document_operation operation;
	const char *device;
	const char *name; /* of a value; subtopic of a message */
	const char *over; /* how messages are delivered: "coap", "mqtt" */
	int format;	  /* content format of a value */
	const void *payload;
	size_t payload_len;
	bool if_absent;	    /* only when there is none yet */
	bool if_exists;	    /* only when there is one */
	bool uncounted;	    /* for max_of_device: nobody asks just now */
	int64_t if_version; /* only when this is its version; below 0: any */
	void *cookie;
	unsigned char note[DOCUMENT_NOTE_MAX]; /* yours, as cookie is: what the answer is made of */
};

struct document_answer { /* all of it is valid until the callback returns */
	void *cookie;
	const struct document_request *request; /* what was asked */
	enum document_outcome outcome;
	const char *why; /* for people; "" if there is nothing to say */
	int64_t version; /* moves with every change of what was asked for, always up, and below
			    2^56; one for the whole state of a device. 0: there is none */
	int format; /* CoAP Content-Format, or -1; of a message also one found by looking at it */
	const void *payload;
	size_t payload_len;
	const char *name; /* of messages, as is what follows */
	int64_t waiting;
	int64_t created_at_us, expires_at_us; /* since 1970; INT64_MAX: never */
};

enum document_changed {
	DOCUMENT_CHANGED_ANY,	/* changes may have been missed (the connection was lost) */
	DOCUMENT_CHANGED_STATE, /* and what the device has still to do, the delta */
	DOCUMENT_CHANGED_STATE_NOT_DELTA,
	DOCUMENT_CHANGED_VALUE,
	DOCUMENT_CHANGED_DOWNLINK, /* a message was added */
};

struct document_change { /* valid until the callback returns */
	enum document_changed what;
	const char *device; /* NULL: DOCUMENT_CHANGED_ANY */
	const char *name;   /* of a value; else NULL */
};

struct document_options {
	const char *database_url;
	int connect_timeout_s;
	int statement_timeout_s; /* and how long a request may wait for its answer */
	size_t max_queue;	 /* requests under way */
	size_t max_of_device;	 /* of those about one device, so that its slow ones do not keep all
				    others waiting; 0: any number, 255 at most */
	size_t max_bytes;	 /* of one document or value */
	size_t max_values;	 /* of one device */
};

/* Does not wait for the database. 0, or -errno with a message in err. Strings are copied. */
int documents_open(struct documents **out, const struct document_options *o, char *err,
		   size_t err_len);
void documents_close(struct documents *d); /* requests under way are never answered */

/*
 * Everything is copied. 0; -EAGAIN: the queue is full, or the device has max_of_device in it;
 * -ENOTCONN: the database is away now;
 * -ENOMEM.
 *
 * Whoever got DOCUMENT_UNAVAILABLE may ask the same again: made twice, a change is what it is made
 * once. Only the conditions look at what the first attempt may have left: a change with if_absent
 * or if_version that was made then gets DOCUMENT_PRECONDITION, and a deletion DOCUMENT_NOT_FOUND.
 * Such a caller has to look (GET) whose content is there.
 */
int documents_ask(struct documents *d, const struct document_request *r);

/* Readable when documents_poll has something. */
int documents_fd(const struct documents *d);

/* Deliver what has come: answers, and changes made by anybody, us included. Both callbacks may call
 * documents_ask. */
void documents_poll(struct documents *d,
		    void (*answered)(void *arg, const struct document_answer *a),
		    void (*changed)(void *arg, const struct document_change *c), void *arg);

/*
 * May a message wait for this device? From memory, never the database: yes from the notification of
 * its insertion, or the connection's beginning, until a DOCUMENT_DOWNLINK_NEXT found that none
 * waits under any name. A false yes costs a question: of a message that has expired or that another
 * process delivered, and of every device when a million of them wait. While the database is away:
 * the last known.
 */
bool documents_waiting(struct documents *d, const char *device);

/* Every device for which one may wait. A copy is made first: visit may call anything here. */
void documents_each_waiting(struct documents *d, void (*visit)(void *arg, const char *device),
			    void *arg);

#endif
