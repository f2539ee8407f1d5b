/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESSES_MAX 4

struct link_host {
	struct link_host *next;
	unsigned count, preferred;
	struct {
		struct sockaddr_storage address;
		socklen_t length;
	} at[ADDRESSES_MAX];
	char name[];
};

static struct link_host *hosts;

static struct link_host *resolve(const char *name, const char **reason)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *found;
	size_t name_size = strlen(name) + 1;
	struct link_host *h;
	int r = getaddrinfo(name, NULL, &hints, &found);

	if (r == EAI_NONAME || r == EAI_ADDRFAMILY) {
		/* 127.0.0.1 and ::1 are there without any network. */
		const struct addrinfo any = {.ai_socktype = SOCK_STREAM};

		r = getaddrinfo(name, NULL, &any, &found);
	}
	if (r != 0) {
		*reason = r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r);
		return NULL;
	}
	h = calloc(1, sizeof(*h) + name_size);
	*reason = "out of memory";
	if (h)
		memcpy(h->name, name, name_size);
	for (const struct addrinfo *a = found; h && a && h->count < ADDRESSES_MAX; a = a->ai_next) {
		memcpy(&h->at[h->count].address, a->ai_addr, a->ai_addrlen);
		h->at[h->count++].length = a->ai_addrlen;
	}
	freeaddrinfo(found);
	return h;
}

struct link_host *link_host_find(const char *name, const char **reason)
{
	struct link_host *h;

	for (h = hosts; h; h = h->next)
		if (strcmp(h->name, name) == 0)
			return h;
	h = resolve(name, reason);
	if (h) {
		h->next = hosts;
		hosts = h;
	}
	return h;
}

const char *link_host_name(const struct link_host *h)
{
	return h->name;
}

unsigned link_host_count(const struct link_host *h)
{
	return h->count;
}

socklen_t link_host_address(const struct link_host *h, unsigned number, uint16_t port,
			    struct sockaddr_storage *out)
{
	*out = h->at[number].address;
	if (out->ss_family == AF_INET6)
		((struct sockaddr_in6 *)out)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)out)->sin_port = htons(port);
	return h->at[number].length;
}

unsigned link_host_preferred(const struct link_host *h)
{
	return h->preferred;
}

void link_host_prefer(struct link_host *h, unsigned number)
{
	h->preferred = number;
}
