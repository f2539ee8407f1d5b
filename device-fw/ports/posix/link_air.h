/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is between a link and its peer, whatever the link is doing: the quality of the network,
 * whether there is one, and what is still on its way when a socket is closed.
 */
#ifndef FG_DEVICE_LINK_AIR_H
#define FG_DEVICE_LINK_AIR_H

#include "device-fw/ports/posix/link.h"

struct link_datagrams;
struct link_stream;

struct link_air {
	struct loop *loop;
	const struct link_impairment *impairment; /* NULL: none */
	uint64_t chance;			  /* state of the generator */
	struct link_datagrams *leaving; /* closed, but what was sent before has not arrived yet */
	struct link_stream *silent; /* closed while the network was cut: the peer cannot know yet */
	struct link_counters counters;
	bool cut;
};

#endif
