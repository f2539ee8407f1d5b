/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serial port: raw, 8N1, without flow control, and locked as other terminal programs lock it
 * (flock), so that two do not talk to one modem. One thread.
 */
#ifndef FG_PKI_MODEM_PORT_H
#define FG_PKI_MODEM_PORT_H

#include <stdbool.h>
#include <stddef.h>

/* The descriptor, which does not block; -1 with what, where and what to do in err. close() lets it
 * go. */
int port_open(const char *path, unsigned baud, char *err, size_t err_len);

bool port_knows_baud(unsigned baud);

#endif
