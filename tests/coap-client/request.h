/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CoAP on a device's session: requests with retransmission (RFC 7252 section 4.2), block by block
 * in both directions (RFC 7959), observations (RFC 7641). And bytes that somebody else has put
 * together.
 */
#ifndef FG_TESTS_REQUEST_H
#define FG_TESTS_REQUEST_H

#include "tests/coap-client/device.h"

/* Begin what the command asks for; the answer to `id` comes when the response is whole. */
void request_begin(struct device *d, json_t *in, json_int_t id);
void request_ping(struct device *d, json_t *in, json_int_t id);

/* These bytes in one record; responses to their token are events of their own. */
int request_raw(struct device *d, const uint8_t *bytes, size_t len);

/* The plaintext of a record. */
void request_receive(struct device *d, const uint8_t *bytes, size_t len);

/* The session is gone: every request has failed. */
void request_fail_all(struct device *d, const char *what);

int64_t request_deadline(const struct device *d);
void request_tick(struct device *d, int64_t now_us);

#endif
