/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the core takes from outside. A port fills one structure of functions; each is
 * given the port's own `ctx`. A function that takes time (open, attach) only begins it: the outcome
 * comes as a call of fg_agent_... (agent.h), from the same thread, and never from inside the
 * function.
 */
#ifndef FG_DEVICE_PORT_H
#define FG_DEVICE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fg_reading;
struct fg_note;

enum fg_transport { FG_TRANSPORT_COAP, FG_TRANSPORT_MQTT };

/* How the device proves who it is. */
enum fg_credential {
	FG_CREDENTIAL_CERTIFICATE, /* in the handshake */
	FG_CREDENTIAL_PSK,	   /* in the handshake */
	FG_CREDENTIAL_JWT,	   /* POST auth/jwt after it; CoAP only */
};

/* Where to: the strings outlive the connection. */
struct fg_target {
	enum fg_transport transport; /* COAP: datagrams with DTLS 1.2; MQTT: a stream with TLS */
	const char *host;	     /* also the name that the server's certificate must have */
	uint16_t port;
	uint32_t security_tag; /* where the modem, or the port, keeps CA, certificate, key, PSK */
	enum fg_credential credential;
};

struct fg_flash_geometry {
	uint32_t sector_size; /* what is erased at a time; at least 512 */
	uint32_t sectors;     /* at least 2 */
	uint8_t write_size;   /* writes are aligned to it and a multiple of it: 4 on nRF9160 */
	uint8_t erased;	      /* what an erased byte reads as: 0xff */
};

struct fg_port {
	/* ---- time. Uptime goes on while the device sleeps and never goes back. */
	int64_t (*uptime_ms)(void *ctx);
	int64_t (*wall_ms)(void *ctx); /* since 1970, from the network; 0: not known */
	void (*set_wall_ms)(void *ctx,
			    int64_t wall_ms); /* from the server, when the network did not say */
	void (*random)(void *ctx, void *out, size_t length); /* fit for tokens and jitter */

	/* ---- network. 0, or a negative errno when it cannot even begin. */
	int (*attach)(void *ctx); /* then fg_agent_network, also when it is attached already */
	void (*detach)(void *ctx);
	/*
	 * Then fg_agent_connected or fg_agent_disconnected. Peer verification is required, with the
	 * name. `resume`: the connection that close(keep) has left; if there is none, -ENOTCONN.
	 */
	int (*open)(void *ctx, const struct fg_target *target, bool resume);
	/*
	 * A datagram, or bytes of the stream: all of them, or an error. expects_answer false:
	 * nothing more will come back, the radio may be released (RAI).
	 */
	int (*send)(void *ctx, const void *bytes, size_t length, bool expects_answer);
	/* keep: for resume; else with a farewell to the peer. */
	void (*close)(void *ctx, bool keep);
	/* A JWT for POST auth/jwt, signed by the modem or by the port's own key. Its length, or a
	 * negative errno: -EAGAIN if it needs the time first. */
	int (*jwt)(void *ctx, char *out, size_t size);

	/* ---- storage. Small values by name: bytes read, or -ENOENT, -EIO; 0, -EIO, -ENOSPC. A
	 * value is the old or the new one after a power failure. */
	int (*load)(void *ctx, const char *name, void *out, size_t size);
	int (*save)(void *ctx, const char *name, const void *value, size_t length);
	/* Flash for the backlog, addressed from 0. 0 or -EIO. A write only clears bits. */
	const struct fg_flash_geometry
		*flash; /* NULL: there is none, readings are kept in memory by the port */
	int (*flash_read)(void *ctx, uint32_t offset, void *out, size_t length);
	int (*flash_write)(void *ctx, uint32_t offset, const void *bytes, size_t length);
	int (*flash_erase)(void *ctx, uint32_t offset); /* one sector */

	/* ---- the device */
	/* How many readings of at most `max` were taken. Names and texts stay valid until the next
	 * call. */
	size_t (*measure)(void *ctx, struct fg_reading *out, size_t max);
	void (*reboot)(void *ctx); /* may return: the port then does it later */
	/* What has happened, for logs and tests (note.h). May be NULL. */
	void (*note)(void *ctx, const struct fg_note *note);
};

#endif
