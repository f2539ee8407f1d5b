/* SPDX-License-Identifier: Apache-2.0 */
/* The datagrams of a load through a bad network: lost, doubled, late, in both directions. */
#ifndef FG_TESTS_LOSSY_H
#define FG_TESTS_LOSSY_H

#include <stddef.h>

#include "tests/coap-client/impairment.h"

typedef void lossy_deliver(size_t socket, const uint8_t *datagram, size_t len);

void lossy_setup(const struct impairment *i, uint64_t seed);

/* Now, later by the wheel, twice, or never. */
void lossy_pass(size_t socket, const uint8_t *datagram, size_t len, lossy_deliver *deliver);

#endif
