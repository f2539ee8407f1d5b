/* SPDX-License-Identifier: Apache-2.0 */
/* A UDP socket of a link, through a network that loses, doubles and delays. */
#ifndef FG_DEVICE_LINK_DATAGRAMS_H
#define FG_DEVICE_LINK_DATAGRAMS_H

#include <sys/socket.h>

#include "device-fw/ports/posix/link_air.h"

#define LINK_DATAGRAM_MAX 4608 /* of those that come; longer ones are lost */

struct link_datagrams;

struct link_datagrams_events { /* never from inside one of the functions below */
	void (*received)(void *arg, const uint8_t *bytes, size_t length);
	void (*failed)(void *arg, int error); /* the socket said so; it goes on */
};

void link_datagrams_seed(struct link_air *air);

/* 0 or -errno. */
int link_datagrams_open(struct link_air *air, const struct sockaddr_storage *to, socklen_t length,
			const struct link_datagrams_events *events, void *arg,
			struct link_datagrams **out);
void link_datagrams_send(struct link_datagrams *d, const void *bytes, size_t length);
/* Another local port. 0 or -errno, then the old one stays. */
int link_datagrams_rebind(struct link_datagrams *d);
/* What was sent still arrives. */
void link_datagrams_close(struct link_datagrams *d);
/* What was closed before is gone now. */
void link_datagrams_forget(struct link_air *air);

#endif
