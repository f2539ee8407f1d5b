/* SPDX-License-Identifier: Apache-2.0 */
/* What the core tells (device-fw/core/note.h), for a person at the log. */
#ifndef FIELDGATE_NOTE_H
#define FIELDGATE_NOTE_H

#include "device-fw/core/note.h"

/* As fg_port.note. */
void note_log(void *ctx, const struct fg_note *note);

#endif
