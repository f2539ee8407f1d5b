/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets of a load: few for many sessions, as the server tells sessions apart by Connection
 * ID. Datagrams are sent and received many at a time. */
#ifndef FG_TESTS_LOAD_NET_H
#define FG_TESTS_LOAD_NET_H

#include <stddef.h>
#include <stdint.h>

#include "tests/coap-client/port.h"

/* `count` sockets to this server, numbered from 0; with sources above 1 they are spread over so
 * many addresses from 127.0.0.1 on. */
void net_open(const struct target *server, size_t count, unsigned sources);

/* Queued, at most until net_flush. */
void net_send(size_t socket, const uint8_t *datagram, size_t len);
void net_flush(void);

/* Wait for at most this long, and hand over what has come. */
void net_wait(int timeout_ms, void (*received)(size_t socket, const uint8_t *datagram, size_t len));

#endif
