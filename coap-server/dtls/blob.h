/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record counters in a session that Mbed TLS 3.6 has serialised (mbedtls_ssl_context_save).
 * They stand at fixed places from its end, as long as no ALPN is negotiated:
 *
 *     window_top (8)  window (8)  packing (1)  out_ctr (8)  mtu (2)  ALPN length, 0 (1)
 *
 * all big-endian. Nothing in Mbed TLS's documentation promises that: whoever patches a blob proves
 * the layout when it starts. Pure functions; any thread.
 */
#ifndef FG_DTLS_BLOB_H
#define FG_DTLS_BLOB_H

#include <stddef.h>
#include <stdint.h>

#define BLOB_TAIL_LEN 28

/* Of a record's 64-bit number the upper 16 bits are its epoch (RFC 6347 section 4.1). */
#define RECORD_SEQUENCE_MASK ((UINT64_C(1) << 48) - 1)

struct blob_counters {
	uint64_t out;	 /* epoch and sequence number of the next record that we send */
	uint64_t top;	 /* newest sequence number received, without epoch */
	uint64_t window; /* bit n: top - n was received (RFC 6347 section 4.1.2.6) */
};

/* 0, or -EINVAL: too short, or its tail is not as above. */
int blob_counters(const uint8_t *blob, size_t len, struct blob_counters *out);
int blob_patch(uint8_t *blob, size_t len, const struct blob_counters *c);

/* What Mbed TLS does to its counters when it has authenticated a record with this number
 * (mbedtls_ssl_dtls_replay_update). */
void blob_received(struct blob_counters *c, uint64_t seq);

#endif
