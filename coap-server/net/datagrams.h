/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams of one socket, many in one system call, in buffers that are allocated once. Nothing
 * here ever waits, and nothing that happens to one peer (an ICMP error, a route that is gone, a
 * full queue) stops the others: a datagram that cannot be sent is as if lost, and counted.
 *
 * One thread.
 */
#ifndef FG_NET_DATAGRAMS_H
#define FG_NET_DATAGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/net/address.h"

#define DATAGRAMS_AT_ONCE    64
#define DATAGRAM_RECEIVE_MAX 8192 /* bytes; longer ones are dropped */
#define DATAGRAM_SEND_MAX    4096

struct datagrams;

/* fd: of sockets_open; it stays the caller's. 0 or -errno. */
int datagrams_open(struct datagrams **out, int fd);

/* What is still queued is lost. NULL is allowed. */
void datagrams_close(struct datagrams *d);

/*
 * Up to DATAGRAMS_AT_ONCE of those that wait, in order; data is valid during the call of
 * `received`, which may call datagrams_send. How many were received; fewer than DATAGRAMS_AT_ONCE:
 * none waits any more. -errno: the socket itself is unusable.
 */
int datagrams_receive(struct datagrams *d,
		      void (*received)(void *arg, const struct address *from, const uint8_t *data,
				       size_t len),
		      void *arg);

/*
 * Queue one, from the address `to->local` if that is set; when DATAGRAMS_AT_ONCE are queued they
 * are sent. 0; -EMSGSIZE; -EAFNOSUPPORT: IPv6 on an IPv4 socket; -ENOBUFS: the kernel takes no more
 * and the queue is full, so this one is lost.
 */
int datagrams_send(struct datagrams *d, const struct address *to, const void *data, size_t len);

/* Send what is queued: before every wait. false: some is left, because the kernel takes no more
 * now; call again when the socket can be written. */
bool datagrams_flush(struct datagrams *d);

struct datagrams_stats {
	uint64_t received, truncated;
	uint64_t sent;
	uint64_t refused; /* the kernel would not send them: no route, no permission, too long */
	uint64_t lost;	  /* the queue was full */
};

void datagrams_stats(const struct datagrams *d, struct datagrams_stats *out);

#endif
