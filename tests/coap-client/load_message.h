/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a load. The same arguments give the same bytes: a retransmission is made anew. */
#ifndef FG_TESTS_LOAD_MESSAGE_H
#define FG_TESTS_LOAD_MESSAGE_H

#include "tests/coap-client/load_options.h"

#define LOAD_MESSAGE_MAX 1400
#define LOAD_TOKEN_LEN	 4
#define LOAD_TOKEN_JWT	 UINT32_MAX

void load_message_setup(const struct load_options *o);
void load_message_token(uint32_t seq, uint8_t token[LOAD_TOKEN_LEN]);

/* The length; 0: no room. */
size_t load_message_ping(uint16_t mid, uint8_t out[LOAD_MESSAGE_MAX]);
size_t load_message_jwt(uint16_t mid, const char *jwt, uint8_t out[LOAD_MESSAGE_MAX]);

/* Telemetry as CBOR (RFC 8949): readings, seq unless --no-seq, and ts_ms unless that is 0. */
size_t load_message_post(uint16_t mid, uint32_t seq, int64_t ts_ms, uint8_t out[LOAD_MESSAGE_MAX]);

#endif
