/* SPDX-License-Identifier: Apache-2.0 */
/* Which settings take effect by SIGHUP, and which by a restart. */
#ifndef FG_WORKER_SETTINGS_H
#define FG_WORKER_SETTINGS_H

#include <stddef.h>

#include "core/base/config.h"

/*
 * Take over from fresh what can change while the process runs; what was in force before is then in
 * fresh, for config_free. The names of other settings that differ are written to `pending`,
 * separated by ", ".
 */
void settings_adopt(struct config *current, struct config *fresh, char *pending,
		    size_t pending_len);

#endif
