/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_mapped(const struct address *a)
{
	return memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

int address_from_sockaddr(struct address *out, const struct sockaddr *from)
{
	const struct sockaddr_in *four = (const void *)from;
	const struct sockaddr_in6 *six = (const void *)from;

	memset(out, 0, sizeof(*out));
	if (from->sa_family == AF_INET) {
		memcpy(out->ip, mapped, sizeof(mapped));
		memcpy(out->ip + sizeof(mapped), &four->sin_addr, sizeof(four->sin_addr));
		out->port = four->sin_port;
		return 0;
	}
	if (from->sa_family != AF_INET6)
		return -EAFNOSUPPORT;
	memcpy(out->ip, &six->sin6_addr, sizeof(out->ip));
	out->port = six->sin6_port;
	if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
		out->scope = six->sin6_scope_id;
	return 0;
}

int address_to_sockaddr(const struct address *a, int family, struct sockaddr_storage *out)
{
	struct sockaddr_in *four = (void *)out;
	struct sockaddr_in6 *six = (void *)out;

	memset(out, 0, sizeof(*out));
	if (family == AF_INET6) {
		six->sin6_family = AF_INET6;
		memcpy(&six->sin6_addr, a->ip, sizeof(a->ip));
		six->sin6_port = a->port;
		six->sin6_scope_id = a->scope;
		return sizeof(*six);
	}
	if (family != AF_INET || !is_mapped(a))
		return -EAFNOSUPPORT;
	four->sin_family = AF_INET;
	memcpy(&four->sin_addr, a->ip + sizeof(mapped), sizeof(four->sin_addr));
	four->sin_port = a->port;
	return sizeof(*four);
}

const char *address_text(const struct address *a, char text[ADDRESS_TEXT_MAX])
{
	char ip[INET6_ADDRSTRLEN];

	if (is_mapped(a)) {
		inet_ntop(AF_INET, a->ip + sizeof(mapped), ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT_MAX, "%s:%u", ip, ntohs(a->port));
	} else {
		inet_ntop(AF_INET6, a->ip, ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u", ip, ntohs(a->port));
	}
	return text;
}

uint64_t address_source(const struct address *a)
{
	uint64_t source;

	memcpy(&source, is_mapped(a) ? a->ip + 8 : a->ip, sizeof(source));
	return source;
}
