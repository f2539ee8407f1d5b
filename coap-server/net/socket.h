/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UDP sockets of all workers. They are bound in order by the one process that lives longest,
 * and stay open there: the kernel counts the sockets of a port, and steering by Connection ID (byte
 * 0 modulo the number of workers) only works as long as none of them is gone. A record with a
 * Connection ID (RFC 9146 section 4: content type 25) reaches the worker that handed it out;
 * everything else the worker that the kernel picks by address and port of both ends, always the
 * same.
 */
#ifndef FG_NET_SOCKET_H
#define FG_NET_SOCKET_H

#include <stddef.h>
#include <stdint.h>

struct sockets;

/*
 * listen: "address:port", where the address is numeric, IPv6 in brackets (with %interface if it is
 * link-local). `[::]` takes IPv4 too, and is IPv4 only, with a line in the log, on a machine
 * without IPv6. Port 0: any free one, the same for all workers (for tests). All are non-blocking,
 * and closed by exec. 0; or -1 with what, where and what to do in err: not such an address, in use,
 * not ours.
 */
int sockets_open(struct sockets **out, const char *listen, unsigned workers, char *err,
		 size_t err_len);

/* NULL is allowed. */
void sockets_close(struct sockets *s);

/* Close all but this worker's: what a worker does after fork. The others stay open in its parent.
 */
void sockets_keep(struct sockets *s, unsigned worker);

int sockets_fd(const struct sockets *s, unsigned worker);
uint16_t sockets_port(const struct sockets *s);

#endif
