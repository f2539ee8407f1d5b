/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dialogue of AT commands (3GPP TS 27.007, ITU-T V.250) as an nRF91 modem speaks it: a command
 * ends with CR LF, its answer is lines and then OK, ERROR or +CME ERROR: n. Lines end with CR, LF
 * or both; the command itself may come back (echo), and lines that nobody has asked for may come at
 * any time. One thread.
 */
#ifndef FG_PKI_MODEM_AT_H
#define FG_PKI_MODEM_AT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AT_COMMAND_MAX 4224 /* a credential of 4 KiB, and the words around it */
#define AT_ANSWER_MAX  16384

struct at {
	int fd;	       /* the port */
	char *command; /* AT_COMMAND_MAX */
	char *line;    /* AT_ANSWER_MAX */
	char *answer; /* AT_ANSWER_MAX; lines that were wanted, each with \n and the last with \0 */
	size_t line_len, answer_len;
	bool too_long;
};

enum at_result {
	AT_OK,
	AT_REFUSED,  /* code says why */
	AT_SILENT,   /* no answer in time */
	AT_GONE,     /* the port is no more */
	AT_TOO_LONG, /* an answer was longer than AT_ANSWER_MAX */
};

#define AT_NO_CODE (-1) /* a plain ERROR */

/* 0, or -ENOMEM. at_close wipes what was said: it may have been a key. It does not close the port.
 */
int at_open(struct at *a, int fd);
void at_close(struct at *a);

/*
 * Send a command of len bytes (without AT_COMMAND_MAX; no line end) and wait for its answer. Lines
 * for which `wanted` is true are kept in a->answer until the next command; NULL: none. code is set
 * with AT_REFUSED.
 */
enum at_result at_command(struct at *a, const char *command, size_t len, int64_t timeout_us,
			  bool (*wanted)(const char *line), int *code);

/* Is there a modem that answers? From whatever state an interrupted program has left it in. */
enum at_result at_attention(struct at *a);

/* The number that text begins with, and what follows it in end (or NULL); -1 when there is none. */
long at_number(const char *text, const char **end);

/* What the modem means, and what to do. */
const char *at_explain(enum at_result result, int code);

#endif
