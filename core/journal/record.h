/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How one record lies in a segment. Both of its checksums begin with the journal's id, the
 * segment's number and the offset, so the bytes of another place, however they came here, are never
 * a record.
 *
 *      0  u32 magic          little-endian throughout
 *      4  u32 header_crc     over the place, then bytes 8 to 31
 *      8  u32 body_crc       over the place, then the body with its padding
 *     12  u32 payload_len
 *     16  i64 received_at_us
 *     24  u16 topic_len
 *     26  u8  device_len
 *     27  u8  kind
 *     28  u8  format
 *     29  3 bytes, zero
 *     32  device, topic, payload, and zeros up to a multiple of RECORD_ALIGN
 *
 * A header that is valid at its place is believed for the record's length, also when the body is
 * damaged.
 */
#ifndef FG_JOURNAL_RECORD_H
#define FG_JOURNAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/journal/journal.h"

#define RECORD_HEADER	  32
#define RECORD_ALIGN	  8
#define RECORD_DEVICE_MAX 255
#define RECORD_TOPIC_MAX  65535

#define JOURNAL_ID_BYTES 16

/* What ties a record to its journal and segment; made once a segment. */
uint32_t record_seed(const uint8_t id[JOURNAL_ID_BYTES], uint64_t segment);

/* Bytes that r needs in a segment; 0: a field is too long. */
size_t record_size(const struct journal_record *r);

/* A record ready for pwritev: small ones as one piece (copying is cheaper than five pieces), large
 * ones from where their fields are. */
#define RECORD_COPY_MAX 4096
#define RECORD_PARTS	5

struct record_image {
	unsigned char copy[RECORD_COPY_MAX]; /* begins with the header */
	struct iovec parts[RECORD_PARTS];
	int part_count;
};

/* size: of record_size. */
void record_encode(struct record_image *image, const struct journal_record *r, size_t size,
		   uint32_t seed, uint64_t offset);

/* The record's size if the RECORD_HEADER bytes at p are a record's header for this place, else 0.
 */
size_t record_header_size(const unsigned char *p, uint32_t seed, uint64_t offset);

/* p has a valid header and size bytes. True and *r with pointers into p, or false: the body is
 * damaged. */
bool record_parse(const unsigned char *p, size_t size, uint32_t seed, uint64_t offset,
		  struct journal_record *r);

#endif
