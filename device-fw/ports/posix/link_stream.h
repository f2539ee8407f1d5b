/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP socket of a link. What the kernel does not take at once is queued. */
#ifndef FG_DEVICE_LINK_STREAM_H
#define FG_DEVICE_LINK_STREAM_H

#include <sys/socket.h>
#include <sys/types.h>

#include "device-fw/ports/posix/link_air.h"

#define LINK_STREAM_QUEUE_MAX 65536 /* bytes; what fills it up belongs to a dead connection */

struct link_stream;

struct link_stream_events { /* never from inside one of the functions below */
	void (*connected)(void *arg);
	void (*readable)(void *arg); /* again and again, until link_stream_receive has it all */
	void (*failed)(void *arg, int error); /* once; to be closed */
};

/* 0 or -errno. */
int link_stream_open(struct link_air *air, const struct sockaddr_storage *to, socklen_t length,
		     const struct link_stream_events *events, void *arg, struct link_stream **out);
/* All of it is sent or queued: 0, or -errno. -ENOBUFS: none of it. */
int link_stream_send(struct link_stream *s, const void *bytes, size_t length);
size_t link_stream_room(const struct link_stream *s); /* how much could be sent now */
/* Bytes; 0: the peer has said that it is the end; -EAGAIN: none now; other -errno. */
ssize_t link_stream_receive(struct link_stream *s, void *out, size_t size);
/* Nobody is told of anything while it stands still: its link keeps it, or the network is cut. */
int link_stream_stand(struct link_stream *s, bool still);
/* While the network is cut the peer does not notice it before link_stream_forget. */
void link_stream_close(struct link_stream *s);
void link_stream_forget(struct link_air *air);

#endif
