/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and their addresses. Each name is asked for once in the life of the process, and the answer
 * shared by all links: thousands of devices go to the same server. A name that was not found is
 * asked for again.
 */
#ifndef FG_DEVICE_LINK_HOST_H
#define FG_DEVICE_LINK_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct link_host; /* one for each name, never freed: it can be compared by its pointer */

/* Blocks at the first call for a name. NULL: not found, with a reason in words. */
struct link_host *link_host_find(const char *name, const char **reason);
const char *link_host_name(const struct link_host *h);
unsigned link_host_count(const struct link_host *h); /* of its addresses, at least 1 */
socklen_t link_host_address(const struct link_host *h, unsigned number, uint16_t port,
			    struct sockaddr_storage *out);
/* The one to begin with: that which worked last. */
unsigned link_host_preferred(const struct link_host *h);
void link_host_prefer(struct link_host *h, unsigned number);

#endif
