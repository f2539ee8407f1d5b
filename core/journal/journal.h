/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the only queue of a Fieldgate process. An append-only sequence of records in segment
 * files. What is in it may be acknowledged; the store reads it from its last committed position,
 * and that position is committed in PostgreSQL in the same transaction as the rows. README.md
 * beside this file explains what is written before what, and why a crash at each point neither
 * loses nor repeats.
 *
 * In short: an append is one write at the end that is known, and the end moves only when it was
 * complete. A torn or failed write leaves bytes that no checksum accepts. A segment's number is on
 * stable storage before its first record, each open begins a higher one, and the newest is never
 * deleted: so what the loss of power takes from the end is never replaced by later records behind a
 * committed position. The store releases a segment only after its records are committed.
 *
 * Threads: one thread appends at a time (callers with several serialise themselves), each reader is
 * one thread's (journal_missed: any); journal_sync, journal_stats, journal_release and journal_end:
 * any. A thread
 * of the journal's own syncs in the background. Only one process may have a journal open: a lock
 * file says so.
 */
#ifndef FG_JOURNAL_JOURNAL_H
#define FG_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;
struct journal_reader;

/* Ordered by segment, then offset. Positions never repeat or go back, over restarts and power loss
 * too: each open begins a new segment, and a segment's number is durable before its first record.
 */
struct journal_position {
	uint64_t segment;
	uint64_t offset; /* bytes from the segment's start */
};

static inline int journal_position_compare(struct journal_position a, struct journal_position b)
{
	if (a.segment != b.segment)
		return a.segment < b.segment ? -1 : 1;
	if (a.offset != b.offset)
		return a.offset < b.offset ? -1 : 1;
	return 0;
}

enum journal_kind {
	JOURNAL_TELEMETRY = 1,
	JOURNAL_PRESENCE = 2,
	JOURNAL_MESSAGE = 3,	      /* on another topic, for rules only */
	JOURNAL_DOWNLINK = 4,	      /* on m/d/<device>/c2d[/...]: to wait for the device */
	JOURNAL_DOWNLINK_RELAYED = 5, /* the same, but rules have seen what it came of */
};

struct journal_record {
	uint8_t kind;	/* enum journal_kind */
	uint8_t format; /* enum payload_format; opaque here */
	int64_t received_at_us;
	const char *device; /* not NUL-terminated; at most 255 bytes */
	size_t device_len;
	const char *topic; /* not NUL-terminated; at most 65535 bytes */
	size_t topic_len;
	const void *payload; /* at most JOURNAL_PAYLOAD_MAX bytes */
	size_t payload_len;
};

#define JOURNAL_PAYLOAD_MAX (16 * 1024 * 1024)

struct journal_options {
	const char *dir;	/* made with mode 0700 if missing; its parent must exist */
	uint64_t max_bytes;	/* at least twice segment_bytes */
	uint64_t segment_bytes; /* 4 KiB to 1 GiB; a larger record gets a segment of its own */
	unsigned sync_interval_ms;
	uint64_t follower_max_bytes; /* kept for followers of what was released: journal_keep */
};

struct journal_stats {
	uint64_t bytes;		/* on disk now */
	uint64_t backlog_bytes; /* behind the last released position */
	uint64_t appended;	/* records since open */
	uint64_t refused;	/* appends refused since open, for whatever reason */
	uint64_t skipped_bytes; /* damaged bytes skipped by reading, since open */
	uint64_t sync_errors;
	bool full; /* the last append was refused because of the bound */
};

/*
 * Open or create. The torn tail of the newest segment is cut (logged). On a full disk it opens all
 * the same, so that the store can empty it, and appends fail until there is space. 0, or -errno
 * with a message in err: -EBUSY another process has it; -EBADMSG the directory holds something that
 * is not ours; -EINVAL an option makes no sense.
 */
int journal_open(struct journal **out, const struct journal_options *o, char *err, size_t err_len);

/* Sync, and close. NULL is allowed. */
void journal_close(struct journal *j);

/* Drawn when the directory was made; names this journal in PostgreSQL. 16 bytes. */
const uint8_t *journal_id(const struct journal *j);

/*
 * Append one record; when this returns 0 it survives the death of the process, and *end (if not
 * NULL) is the position behind it. One write to the page cache; the next segment is made ahead by
 * the journal's thread, and only when that did not come in time, or a sync has failed, the append
 * makes one itself and waits for the disk. Allocates nothing per record.
 *
 * -ENOBUFS: the bound is reached, nothing was written; -EMSGSIZE: a field is too long, or the
 * record larger than half the bound; -ENOSPC, -EIO, ...: the disk's refusal, nothing of it will
 * ever be read. After an error the next append may succeed.
 */
int journal_append(struct journal *j, const struct journal_record *r, struct journal_position *end);

/* Like journal_append, but may use a reserve of one segment above the bound: for the few records,
 * such as a disconnect, that nobody can be told to send again. */
int journal_append_reserved(struct journal *j, const struct journal_record *r,
			    struct journal_position *end);

/*
 * Return when the records that this process appended before pos are on stable storage. Callers that
 * wait at the same time share one fdatasync. 0; or -EIO (or another -errno) when it could not be
 * proven of pos's own segment: then nothing before pos in it may be acknowledged under durability
 * `fsync`, unless an earlier call returned 0 for it; -EINVAL: pos is behind the end.
 *
 * A failed sync is never retried on the same segment: the next append begins a new one, which has a
 * fate of its own. So 0 says nothing of records in an earlier segment whose sync has failed; those
 * who asked for them were told. A caller that acknowledges several records after one call must
 * therefore ask for the last record of each segment among them. Records already released count as
 * safe.
 */
int journal_sync(struct journal *j, struct journal_position pos);

/* Have what earlier runs left in the page cache synced. 0, or the first -errno (all are logged). */
int journal_sync_former(struct journal *j);

/* Every record before this position, of earlier runs too, is on stable storage or released. After a
 * failed sync it stays where it was proven until the store has released what lies behind. No
 * waiting. */
struct journal_position journal_durable(const struct journal *j);

/* Behind the last appended record. */
struct journal_position journal_end(const struct journal *j);

/* --- Readers --- */

/*
 * Any number of readers, each with a position of its own; each belongs to one thread. A reader
 * begins at the oldest record. 0, -ENOMEM or another -errno. They are closed before the journal is.
 */
int journal_reader_open(struct journal_reader **out, struct journal *j);
void journal_reader_close(struct journal_reader *r); /* NULL is allowed */

/*
 * Begin to read at pos, usually the committed position. A position before the oldest record kept,
 * inside a record, or in damaged or missing bytes, moves forward to the next record there is. One
 * beyond the end can only come of a directory brought back from an old copy (logged): then nothing
 * is known of what is in it, and reading begins with the oldest record.
 */
void journal_seek(struct journal_reader *r, struct journal_position pos);

/*
 * Can pos have been committed by anybody who had this journal: is it in a segment of an earlier
 * run, or not behind what this reader, or one that was closed before it began, read in this one? If
 * not, the directory was brought back from an old copy, and its numbers are being used for the
 * second time: nothing before pos may be taken as stored, however much was appended since.
 */
bool journal_reached(const struct journal_reader *r, struct journal_position pos);

/* Is pos in a segment that an earlier run wrote? */
bool journal_of_former_run(const struct journal *j, struct journal_position pos);

/*
 * The next record and the position behind it. 1: *record is filled, its pointers valid until the
 * next call with this reader; 0: nothing new yet; -errno: cannot read now (logged once), try later.
 * Damaged records are skipped, counted and logged once for each place, and never an endless loop.
 * Segments that were deleted because this reader came too late are passed over without a word:
 * journal_missed counts them.
 */
int journal_read(struct journal_reader *r, struct journal_record *record,
		 struct journal_position *next);

/*
 * The store's word: everything before pos is stored elsewhere. Segments wholly before it are
 * deleted, but for what followers keep, and never the newest.
 */
void journal_release(struct journal *j, struct journal_position pos);

/*
 * The reader's thread is a follower, as opposed to the store, and has done everything before pos
 * ({0, 0}: nothing yet). What lies behind is kept for it after the store has released it, up to
 * follower_max_bytes (and half of max_bytes) for all followers together; beyond that the oldest
 * segments are deleted all the same. To be called before the store's first journal_release.
 *
 * What is kept for followers only never has an append refused, be it for the bound or for a full
 * disk: it is deleted first.
 */
void journal_keep(struct journal_reader *r, struct journal_position pos);

/* Times that segments were deleted which this reader had not read yet. */
uint64_t journal_missed(const struct journal_reader *r);

/*
 * A file descriptor (eventfd) for poll(2): readable when records were appended after journal_arm.
 * The reader calls journal_arm, then journal_read once more, then polls: so no wake-up is lost, and
 * an append costs a system call only when a reader sleeps.
 */
int journal_wakeup_fd(const struct journal_reader *r);
void journal_arm(struct journal_reader *r);

/* Bytes of records behind pos. Any thread. */
uint64_t journal_behind(const struct journal *j, struct journal_position pos);

void journal_stats(const struct journal *j, struct journal_stats *out);

#endif
