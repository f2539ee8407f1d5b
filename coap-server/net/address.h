/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a datagram comes from and where it reached us: what is needed to answer on the same path.
 * IPv4 is kept in its mapped form (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so there is one kind
 * of address. No padding: two are the same path if their bytes are.
 */
#ifndef FG_NET_ADDRESS_H
#define FG_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct address {
	uint8_t ip[16];	   /* the peer's */
	uint8_t local[16]; /* ours, that the datagram was sent to; all zero if not known */
	uint32_t scope;	   /* interface of a link-local address, else 0 */
	uint16_t port;	   /* the peer's, network byte order */
	uint16_t zero;
};

static inline bool address_equal(const struct address *a, const struct address *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* From a sockaddr_in or sockaddr_in6; `local` is left zero. 0, or -EAFNOSUPPORT. */
int address_from_sockaddr(struct address *out, const struct sockaddr *from);

/* To a socket of this family (AF_INET or AF_INET6). The length, or -EAFNOSUPPORT for an IPv6
 * address and AF_INET. */
int address_to_sockaddr(const struct address *a, int family, struct sockaddr_storage *out);

/* "192.0.2.7:5684" or "[2001:db8::7]:5684"; returns text. */
#define ADDRESS_TEXT_MAX 64
const char *address_text(const struct address *a, char text[ADDRESS_TEXT_MAX]);

/* What a limit per source counts as one source: an IPv4 address, or the first 64 bits of an IPv6
 * address, which is what one subscriber is given. */
uint64_t address_source(const struct address *a);

#endif
