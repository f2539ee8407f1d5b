/* SPDX-License-Identifier: Apache-2.0 */
/* Between a device's session and its port: losses, duplicates and delays by a seeded generator,
 * held datagrams, and the record of all. */
#ifndef FG_TESTS_CAPTURE_H
#define FG_TESTS_CAPTURE_H

#include "tests/coap-client/device.h"

void capture_pass(struct device *d, enum direction direction, const uint8_t *datagram, size_t len);
void capture_forget(struct device *d);
int64_t capture_deadline(void);
void capture_tick(int64_t now_us);

#endif
