/* SPDX-License-Identifier: Apache-2.0 */
/* A loop, a server, a link to it, and what the link has told. Everything asserts. */
#ifndef FG_TESTS_LINK_WORLD_H
#define FG_TESTS_LINK_WORLD_H

#include "device-fw/ports/posix/link.h"
#include "tests/posix/link_server.h"

#define LINK_WORLD_PSK "sixteen bytes..."

struct link_world {
	struct loop *loop;
	struct link_server *server;
	struct link_trust *trust;
	struct link_identity *identity;
	struct link_config config;
	struct fg_target target;
	struct link *link;

	unsigned connections, disconnections, messages;
	struct fg_connection connection; /* the last one */
	int error;
	char reason[400];
	uint8_t message[5000]; /* the last one; of a stream, all of them */
	size_t length;

	/* What the link's owner does in its callbacks. */
	void (*when_connected)(struct link_world *w);
	void (*when_disconnected)(struct link_world *w);
	void (*when_received)(struct link_world *w);
};

/* A server as `o` says, and the CA "ca". The link is not made yet: config may be changed before. */
void link_world_init(struct link_world *w, const struct link_server_options *o);
void link_world_identify(struct link_world *w, const char *name); /* of link_pki.h */
void link_world_identify_psk(struct link_world *w, const char *identity, const char *key);
void link_world_free(struct link_world *w);

/* Makes the link, if there is none, opens it, and waits for the outcome. */
void link_world_open(struct link_world *w, bool resume);
/* That it is connected; says why if it is not. */
void link_world_connect(struct link_world *w);
/* Runs the loop until this is true, at most for 20 seconds. */
void link_world_until(struct link_world *w, bool (*holds)(const struct link_world *w));
/* Runs the loop for so long, whatever happens. */
void link_world_pass(struct link_world *w, int ms);
/* Sends this, and waits until it has come back. */
void link_world_echo(struct link_world *w, const char *text);

#endif
