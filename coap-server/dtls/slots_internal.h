/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of slots.h as it lies in memory: one page of header, then the slots. Only this machine,
 * this boot and this layout ever read it, so numbers are the CPU's own.
 *
 * Why a SIGKILL between any two stores is harmless. (The kernel stops a process between two
 * instructions: all stores before it have happened, none after it has. So only the compiler must be
 * kept from changing their order; power loss takes the whole file with it.)
 *
 * - `state` says whether the slot is in use and which parts of it count. It is one word with its
 * own complement, changed by one store after what it speaks of is complete.
 * - `in` (replay window, address, time) and `note` exist twice. The half that does not count is
 *   written, then state is flipped. Killed before: the old half counts. For the window that means
 *   the record is accepted once more, which is right: its content has not been used.
 * - `out` is one word with 16 bits of checksum in place of the epoch, which never changes.
 * - `fixed` and `identity` are written while state says that they do not count. Killed there: the
 *   slot is torn and its session shakes hands again, or (identity) the session has not proven
 *   anything yet.
 *
 * All parts that count have a checksum which also covers the session's id, so that no part of
 * another session passes for one of this.
 */
#ifndef FG_DTLS_SLOTS_INTERNAL_H
#define FG_DTLS_SLOTS_INTERNAL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/dtls/slots.h"
#include "core/base/rate_limit.h"

#define SLOTS_MAGIC	 "FGSLOTS\n"
#define SLOTS_LAYOUT	 3
#define SLOTS_HEADER_LEN 4096
#define SLOTS_MAX	 1000000000U
#define SLOTS_BOOT_ID	 40 /* 36 characters, zeros behind */

struct slots_header {
	char magic[8];
	uint32_t layout, slot_size;
	uint32_t mbedtls; /* the blob's format is as its version has it */
	char boot_id[SLOTS_BOOT_ID];
	uint32_t crc; /* of all before */
	/* Each with its complement in the upper half; reserved: how many of the first slots have
	 * memory of the tmpfs. */
	_Atomic uint64_t count, reserved;
	_Atomic uint64_t lacked; /* 1: see slots_lacked */
};

enum { /* struct slot, state */
       STATE_USED = 1,
       STATE_IN_HALF = 2, /* in[1] counts, else in[0] */
       STATE_NOTE = 4,
       STATE_NOTE_HALF = 8,
       STATE_IDENTITY = 16,
};

#define STATE_FREE 0		/* and nothing is in it */
#define STATE_TORN UINT64_C(-1) /* no state's complement */

/* A part ends with its checksum. No part has padding. */
struct slot_fixed {
	uint64_t id;
	int64_t opened_us;
	uint8_t cid[DTLS_CID_LEN];
	uint16_t blob_len;
	uint8_t has_cid;
	uint8_t zero;
	uint8_t blob[SLOT_BLOB_MAX];
	uint32_t crc;
};

struct slot_in {
	uint64_t top, window;
	int64_t last_us;
	struct address address;
	uint32_t zero, crc;
};

struct slot_identity {
	struct dtls_identity who;
	uint32_t crc;
};

struct slot_note {
	uint8_t len;
	uint8_t zero[3];
	uint8_t bytes[DTLS_NOTE_MAX];
	uint32_t crc;
};

struct slot {
	_Atomic uint64_t state;
	_Atomic uint64_t
		out; /* sequence number of the next record; checksum in the upper 16 bits */
	struct slot_fixed fixed;
	struct slot_in in[2];
	struct slot_identity identity;
	struct slot_note note[2];
};

static_assert(sizeof(struct slot_fixed) == 8 + 8 + DTLS_CID_LEN + 2 + 1 + 1 + SLOT_BLOB_MAX + 4,
	      "no padding");
static_assert(sizeof(struct dtls_identity) ==
		      PRINCIPAL_ID_MAX + 1 + 1 + FINGERPRINT_LEN + 2 + 4 + 4,
	      "no padding");
static_assert(sizeof(struct slot_in) == 24 + sizeof(struct address) + 8, "no padding");
static_assert(sizeof(struct slot_identity) == sizeof(struct dtls_identity) + 4, "no padding");
static_assert(sizeof(struct slot_note) == 4 + DTLS_NOTE_MAX + 4, "no padding");
static_assert(sizeof(struct slot) == 16 + sizeof(struct slot_fixed) + 2 * sizeof(struct slot_in) +
					     sizeof(struct slot_identity) +
					     2 * sizeof(struct slot_note),
	      "no padding");
static_assert(SLOT_BLOB_MAX <= UINT16_MAX && DTLS_NOTE_MAX <= UINT8_MAX, "lengths fit");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a store is one instruction");

struct slots {
	int fd;
	char *path;
	size_t map_len;
	struct slots_header *header; /* the mapping */
	struct slot *slot;	     /* behind it; slot n is slot[n - 1] */
	uint32_t count, reserved;
	uint32_t fresh; /* slots above were never taken */
	uint32_t *free; /* the free ones below, taken from the end */
	uint32_t free_count;
	struct rate_limit no_memory;
};

enum slots_size {
	SLOTS_EXACTLY,
	SLOTS_AT_LEAST, /* a larger file stays as it is */
	SLOTS_AS_FOUND, /* the file must be there; count is not looked at */
};

int slots_open_file(struct slots **out, const char *path, size_t count, enum slots_size size,
		    char *err, size_t err_len);

/* Memory for more slots. 0 or -errno. */
int slots_reserve(struct slots *s);

/* Puts the text into err. -1. */
int slots_fail(char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The directory that holds slots: made if need be, checked. A descriptor, or -1. */
int slots_directory(const char *dir, char *err, size_t err_len);

uint32_t slots_header_crc(const struct slots_header *h);

/* A number with its complement, and back; UINT32_MAX if it is none. */
uint64_t slots_guarded(uint32_t n);
uint32_t slots_unguarded(uint64_t word);

/* One store, which stays between what is before and after it in the source. */
static inline void slots_publish(_Atomic uint64_t *word, uint64_t value)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(word, value, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

/* Nothing of what was in it is left. */
void slots_wipe(struct slot *slot);

#endif
