/* SPDX-License-Identifier: Apache-2.0 */
/* What a record of presence is to the fleet: a message on `m/presence/<device>`. Rules see it, too.
 */
#ifndef FG_RELAY_PRESENCE_H
#define FG_RELAY_PRESENCE_H

#include <stdbool.h>

#include "core/base/arena.h"
#include "core/journal/journal.h"
#include "core/rule/statement.h"

/* In the arena, raw as JSON. source: see struct relay_options. False: the record is no device's, or
 * there is no memory. */
bool presence_message(struct rule_input *out, const struct journal_record *r, const char *source,
		      struct arena *a);

#endif
