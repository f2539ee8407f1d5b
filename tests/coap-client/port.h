/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sockets of the client, each with its local port. A port belongs to a device or to nobody:
 * what arrives at the latter is reported as it is. Not connected, so that ICMP errors do not
 * disturb. */
#ifndef FG_TESTS_PORT_H
#define FG_TESTS_PORT_H

#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>

struct device;

struct target {
	struct sockaddr_storage address;
	socklen_t len;
};

struct port {
	struct port *next;
	int fd;
	uint16_t number; /* host byte order */
	struct target server;
	struct device *device; /* NULL: nobody's */
	void *flood;	       /* what a flood keeps here; then it gets the datagrams */
};

/* Numeric addresses only. 0, or -1. */
int target_parse(struct target *t, const char *host, uint16_t number);

/* A socket bound to this local address (NULL: any) and port (0: a free one). NULL with errno. */
struct port *port_open(const struct target *server, const char *host, uint16_t number);
void port_close(struct port *p);

struct port *port_find(uint16_t number);
void port_send(struct port *p, const uint8_t *datagram, size_t len);

/* Datagrams that are there, to `receive`, which may open and close ports. At most a bounded number
 * of each, so that one cannot keep the others from being heard. */
typedef void port_receive(struct port *p, const uint8_t *datagram, size_t len);
size_t port_count(void);
void port_fill(struct pollfd *fds);
void port_drain(const struct pollfd *fds, size_t count, port_receive *receive);

#endif
