/* SPDX-License-Identifier: Apache-2.0 */
/* Many ClientHellos at a given rate from many ports, in the background: what an attacker sends. The
 * hellos are made here, not by Mbed TLS, which could not make so many. */
#ifndef FG_TESTS_FLOOD_H
#define FG_TESTS_FLOOD_H

#include <jansson.h>

#include "tests/coap-client/port.h"

/* server, port, rate, seconds, ports, bind, cookie: see README.md. Answers to `id` at its end. */
void flood_begin(json_t *in, json_int_t id);

/* A datagram for one of the ports that it opened. */
void flood_receive(struct port *p, const uint8_t *datagram, size_t len);

int64_t flood_deadline(void);
void flood_tick(int64_t now_us);

#endif
