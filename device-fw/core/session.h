/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a device attaches, connects, proves who it is, works, sleeps and tries again: a pure
 * function of state, event and time. It calls nothing and keeps nothing; whoever calls it carries
 * out the actions, in the order of their bits, and tells the outcome as the next event.
 *
 *   OFF -> ATTACHING -> CONNECTING -> AUTHENTICATING -> RUNNING <-> SLEEPING -> RESUMING -> RUNNING
 *             \______________\______________\____________\_____________________/
 *                                   BACKING_OFF -> ATTACHING or CONNECTING
 *
 * There is no state that only an event from outside can end, but OFF: each of the others has a
 * deadline.
 */
#ifndef FG_DEVICE_SESSION_H
#define FG_DEVICE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

enum fg_session_state {
	FG_SESSION_OFF,
	FG_SESSION_ATTACHING,	   /* waits for the network */
	FG_SESSION_CONNECTING,	   /* name, socket, handshake (TCP: and TLS) */
	FG_SESSION_AUTHENTICATING, /* JWT, or MQTT's CONNECT */
	FG_SESSION_RUNNING,	   /* messages go back and forth */
	FG_SESSION_SLEEPING,	   /* radio released; the connection is kept */
	FG_SESSION_RESUMING,	   /* the kept connection is opened again, no handshake */
	FG_SESSION_BACKING_OFF,	   /* radio released; the next attempt is at the deadline */
	FG_SESSION_STATES,
};

enum fg_session_event {
	FG_SESSION_START,
	FG_SESSION_STOP,
	FG_SESSION_ATTACHED,  /* registered in the network */
	FG_SESSION_DETACHED,  /* not any more */
	FG_SESSION_CONNECTED, /* a new, authenticated-by-the-server connection: we are not known in
				 it yet */
	FG_SESSION_RESUMED,   /* the kept connection can be used again */
	FG_SESSION_FAILED,    /* what was asked for (attach, open, JWT) could not even begin, or the
				 connection could not be opened */
	FG_SESSION_CLOSED,    /* the peer or the network has ended it */
	FG_SESSION_AUTHENTICATED,
	FG_SESSION_REFUSED,	    /* the server does not let us in: waiting is all one can do */
	FG_SESSION_UNAUTHENTICATED, /* 4.01 in a running session: prove it again */
	FG_SESSION_WORK,	    /* there is something to send */
	FG_SESSION_IDLE,	    /* nothing is under way and nothing waits */
	FG_SESSION_NO_ANSWER,	    /* a request was given up */
	FG_SESSION_ANSWERED, /* the server has answered something, and not with 4.01 or with what
				is HOLD */
	FG_SESSION_HOLD,     /* the server asks for patience: hold_ms of the input */
	FG_SESSION_TIMER,    /* the deadline has come */
	FG_SESSION_EVENTS,
};

enum {
	FG_SESSION_DO_CLOSE = 1 << 0,  /* forget the connection */
	FG_SESSION_DO_KEEP = 1 << 1,   /* release the radio; DTLS: save the connection */
	FG_SESSION_DO_DETACH = 1 << 2, /* switch the radio off */
	FG_SESSION_DO_ATTACH = 1 << 3, /* ATTACHED follows, also if it is attached already */
	FG_SESSION_DO_CONNECT = 1 << 4,
	FG_SESSION_DO_RESUME = 1 << 5,
	FG_SESSION_DO_AUTHENTICATE = 1 << 6,
	FG_SESSION_DO_WORK = 1 << 7, /* begin, or go on, to send what waits */
};

/* All times in milliseconds, and above 0. */
struct fg_session_config {
	uint32_t attach_ms;	  /* longest wait for the network: 600000 */
	uint32_t connect_ms;	  /* for a handshake: 130000, above the modem's longest, 123 s */
	uint32_t authenticate_ms; /* 60000 */
	uint32_t resume_ms;	  /* 10000 */
	uint32_t run_ms;	  /* RUNNING without any answer at all: 300000 */
	uint32_t sleep_ms;	  /* longest sleep, when nothing wakes it up: 86400000 */
	uint32_t backoff_min_ms,
		backoff_max_ms;	 /* 5000, 3600000: doubled each time, with jitter of +-50 % */
	uint32_t refused_min_ms; /* after a refusal, instead of backoff_min_ms: 60000 */
	uint8_t detach_after;  /* failures in a row after which the radio is switched off and on: 6;
				  0: never while there is a network */
	bool keeps_connection; /* sleeping keeps the connection (DTLS with CID, or MQTT); else it is
				  closed */
	bool sleeps; /* false: stays in RUNNING when idle (mains power, or MQTT with a permanent
			connection) */
	bool authenticates; /* false: the handshake was enough (PSK, certificate) */
};

extern const struct fg_session_config fg_session_defaults;

struct fg_session {
	enum fg_session_state state;
	int64_t since_ms, deadline_ms; /* by uptime; INT64_MAX: none (OFF only) */
	uint8_t failures;	       /* in a row; saturates */
	bool attached;
	bool kept;     /* there is a connection of before: it may be resumed, or was and has not
			  proved yet that the server knows it still */
	bool work;     /* RUNNING: there is something to do; SLEEPING: but not before the deadline
			*/
	bool answered; /* RUNNING: the server has, since it was entered */
};

struct fg_session_input {
	enum fg_session_event event;
	int64_t now_ms;
	uint32_t random;  /* any 32 random bits, for the jitter */
	uint32_t hold_ms; /* HOLD only */
};

/* The actions, FG_SESSION_DO_...; *next may be *now. An event that means nothing in the state
 * changes nothing. */
unsigned fg_session_step(const struct fg_session_config *config, const struct fg_session *now,
			 const struct fg_session_input *input, struct fg_session *next);

#endif
