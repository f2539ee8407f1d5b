/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readings that are not acknowledged yet, in flash: a ring of sectors in which each record has a
 * sequence number that survives a reboot, so the server can tell a repeat from a new reading. A
 * record is in it before it is sent, and is marked when the server has it; when the ring is full
 * the oldest sector is given up, so the newest readings are kept. Power may fail at any write: what
 * was appended before is there afterwards, a torn record is not, and a number is never used for two
 * readings.
 *
 * Sequence numbers begin at 1 and go on where they were. If all of the flash is erased they begin
 * again; the times differ then, so the server still tells the readings apart.
 *
 * Time: a record has the time since 1970, or, taken before the device knew it, the uptime and the
 * number of the boot. When the time becomes known, fg_backlog_anchor writes down what the uptime of
 * this boot means, once, so that a record's time is the same at each attempt to send it, also after
 * a reboot.
 *
 * A structure belongs to one thread.
 */
#ifndef FG_DEVICE_BACKLOG_H
#define FG_DEVICE_BACKLOG_H

#include "device-fw/core/port.h"
#include "device-fw/core/reading.h"

#define FG_BACKLOG_PAYLOAD_MAX 224 /* bytes of one record's pairs */

struct fg_backlog {
	const struct fg_port *port; /* its flash_... functions; outlives the backlog */
	void *ctx;

	uint32_t waiting; /* records that are not acknowledged */
	uint32_t lost;	  /* that were overwritten before they were, since mount */
	uint32_t corrupt; /* that had a wrong checksum at mount; a sector without head is one */
	uint32_t next_seq;
	uint16_t boot; /* of this boot, counted up at each mount */

	/* the rest is its own */
	uint32_t generation, head; /* of the newest sector; where in it the next record comes */
	uint32_t done;		   /* address of the newest acknowledged record, 0: none */
	int64_t anchor_ms;
	bool mounted, anchored, undated;
};

/* Where a record is. Valid until the ring goes over it. */
struct fg_backlog_cursor {
	uint32_t offset, seq;
};

/* Reads the ring, from whatever it finds: virgin flash, or another program's; writes nothing. 0;
 * -ENODEV: the port has no flash; -EINVAL: not of this geometry; -EIO: it cannot be read. Then
 * append tries again each time, and says -EIO; the caller goes on without. */
int fg_backlog_mount(struct fg_backlog *b);
/* `wall_ms` is 0 if it is not known; uptime_ms is of this boot. 0 and the number in *seq, or
 * -EMSGSIZE, -EIO. */
int fg_backlog_append(struct fg_backlog *b, int64_t wall_ms, int64_t uptime_ms, uint8_t pair_count,
		      const void *pairs, size_t length, uint32_t *seq);
/* What uptime 0 of this boot was in milliseconds since 1970. Once for each boot; later calls change
 * nothing. */
int fg_backlog_anchor(struct fg_backlog *b, int64_t boot_wall_ms);
/* The oldest record that waits, and those after it. The pairs are read into `buffer`. 0, -ENOENT:
 * no more; -EMSGSIZE: the buffer is too small; -EIO: not now. At an error *at and *out stay. */
int fg_backlog_first(struct fg_backlog *b, struct fg_backlog_cursor *at, struct fg_record *out,
		     void *buffer, size_t size);
int fg_backlog_next(struct fg_backlog *b, struct fg_backlog_cursor *at, struct fg_record *out,
		    void *buffer, size_t size);
/* Everything up to and with this record is with the server (or was refused for good). */
int fg_backlog_acknowledge(struct fg_backlog *b, const struct fg_backlog_cursor *through);

#endif
