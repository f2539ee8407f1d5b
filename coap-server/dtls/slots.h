/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions that outlive the process: one slot of fixed size for each in a file on tmpfs, mapped
 * shared. A SIGKILL at any moment leaves every slot either whole or recognisably torn (its checksum
 * fails, and the device shakes hands again), and its record counter never behind what was sent. The
 * file must not be a copy: an old copy would repeat nonces. So it lives on tmpfs, names the boot it
 * was made in, and is locked by the one process that uses it.
 *
 * What is in a slot: Mbed TLS's serialised session, whose counters are patched in place for every
 * record (out before it is sent), the identity, the address, times and the caller's note. The
 * fields that change with every record are guarded on their own, so that a patch costs no checksum
 * over all of it.
 *
 * Memory of the tmpfs is reserved as slots are taken, so a full one is an answer of slots_take and
 * never a SIGBUS. Slot 0 is no slot: every function takes it, and does nothing. One thread.
 */
#ifndef FG_DTLS_SLOTS_H
#define FG_DTLS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/dtls/endpoint.h"

/* Bytes of a serialised session: 230 with a PSK, 262 with certificates on both sides, and up to 32
 * more if the peer wants a long Connection ID. Every slot takes it in memory. */
#define SLOT_BLOB_MAX 296

struct slots;

struct slot_content {
	uint64_t id;
	uint8_t cid[DTLS_CID_LEN]; /* ours, the one that the peer sends */
	bool has_cid;
	int64_t opened_us, last_us; /* of clock_monotonic_us */
	struct address address;
	struct dtls_identity identity;
	uint8_t note[DTLS_NOTE_MAX];
	size_t note_len;
	uint8_t blob[SLOT_BLOB_MAX]; /* counters as they are now */
	size_t blob_len;
};

/*
 * Open or make the file for `count` slots; a larger or smaller existing file is converted. 0; -1
 * with what and where and what to do in err: not on tmpfs, locked by another process, not ours, a
 * directory that others may enter. A directory that is not there is made (mode 0700, one level): it
 * is gone after every boot. A file of another boot, another layout or another Mbed TLS is emptied
 * (logged).
 */
int slots_open(struct slots **out, const char *path, size_t count, char *err, size_t err_len);

/* Unmap and unlock; the content stays. NULL is allowed. */
void slots_close(struct slots *s);

/* Visit every whole slot; `found` may change or drop this one. Damaged ones are wiped and
 * counted, and are free again. */
void slots_restore(struct slots *s,
		   void (*found)(void *arg, uint32_t slot, const struct slot_content *c), void *arg,
		   size_t *damaged);

/* A free slot, or 0: none left, or no memory in the tmpfs (logged now and then). */
uint32_t slots_take(struct slots *s);

/* Has slots_take had none since the file was opened by this process's predecessor? What it had in
 * memory only is gone. The question is answered once. */
bool slots_lacked(struct slots *s);

/*
 * Write all of it. A slot that is in use is torn while it is written: a crash then costs this one
 * session a handshake. If it holds the same session (its id), counters do not go back, whatever the
 * blob says. A blob that is not one (too long, or not with the tail of blob.h) wipes the slot.
 */
void slots_put(struct slots *s, uint32_t slot, const struct slot_content *c);

/* What slots_restore would give for it: the caller need not keep a parked session's blob. false:
 * damaged. c holds keys: wipe it. */
bool slots_get(const struct slots *s, uint32_t slot, struct slot_content *c);

/* Wipe it, and it is free. */
void slots_drop(struct slots *s, uint32_t slot);

/*
 * Parts that change while the session lives. `next` and `seq`: epoch and sequence number as in the
 * record, big-endian 64 bits taken as a number. slots_set_out comes before the record is sent: next
 * is the first number that is not used by then; a smaller one than it was told before is ignored,
 * another epoch than the blob's tears the slot. slots_set_in comes before the record's content is
 * used.
 */
void slots_set_out(struct slots *s, uint32_t slot, uint64_t next);
void slots_set_in(struct slots *s, uint32_t slot, uint64_t seq, const struct address *from,
		  int64_t now_us);
void slots_set_identity(struct slots *s, uint32_t slot, const struct dtls_identity *who);
void slots_set_note(struct slots *s, uint32_t slot, const void *note, size_t len);

/*
 * Sessions belong to the worker that byte 0 of their Connection ID leads to (modulo the number of
 * workers). When that number changed, move them between the files `<dir>/worker-<n>.slots`; to be
 * called before any worker opens one. Sessions without Connection ID whose worker is gone are
 * dropped. The number of sessions moved, or -1 with a message.
 */
long slots_redistribute(const char *dir, unsigned workers, size_t count, char *err, size_t err_len);

#endif
