/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process says on standard output: lines for people, or one JSON object a line (README.md
 * lists them), flushed at each line. And the files for tests of loss.
 */
#ifndef FG_DEVICE_OUTPUT_H
#define FG_DEVICE_OUTPUT_H

#include <jansson.h>

#include "device-fw/core/note.h"
#include "device-fw/core/port.h"
#include "device-fw/ports/posix/totals.h"

struct output {
	bool json;
	bool silent; /* of single events; begin, ready and done are said all the same */
	enum fg_transport transport;
	int acked, recorded; /* -1: no such file */
};

/* Opens the files, NULL: none. 0, or -1 with one line in `error`. */
int output_open(struct output *o, const char *acked, const char *recorded, char *error,
		size_t size);
void output_close(struct output *o);

/* `DEVICE SEQ` lines; fd -1: none. Ends the process when they cannot be written. */
void output_log(int fd, const char *device, const uint32_t *numbers, size_t count);

void output_note(struct output *o, const char *device, const struct fg_note *note);
void output_disconnected(struct output *o, const char *device, int error, const char *reason);
/* To a person's command. error 0: it is carried out. */
void output_command(struct output *o, const char *device, const char *command, int error,
		    const char *text);
/* An event of its own: takes over `fields`; the text is for people. */
void output_event(const struct output *o, const char *event, const char *device, json_t *fields,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));

const char *output_state_name(enum fg_session_state state);
json_t *output_totals(const struct totals *t);

#endif
