/* SPDX-License-Identifier: Apache-2.0 */
/* What the cloud wants, done. */
#include "device-fw/core/agent_internal.h"

void fg_agent_set_interval(struct fg_agent *a, int32_t interval_s)
{
	if (interval_s == a->interval_s)
		return;
	a->interval_s = interval_s;
	a->measure_at_ms = fg_agent_now(a) + interval_s * 1000;
	a->port->save(a->ctx, "interval", &interval_s, sizeof(interval_s));
	a->report_wanted = true;
}

void fg_agent_obey(struct fg_agent *a, const void *payload, size_t length, unsigned allowed)
{
	struct fg_command command;
	struct fg_note note = {.kind = FG_NOTE_COMMAND, .command = &command};

	if (fg_command_decode(&command, payload, length) != 0) {
		note.kind = FG_NOTE_COMMAND_REFUSED;
		fg_agent_note(a, &note);
		return;
	}
	/* What is not allowed because the message may come again is so if it has a number. */
	if (!(command.present & allowed & FG_COMMAND_ID))
		command.present &= allowed;
	if (command.present & FG_COMMAND_ID) {
		if (command.id == a->last_command)
			return;
		a->last_command = command.id;
	}
	if ((command.present & ~(unsigned)FG_COMMAND_ID) == 0)
		return;
	fg_agent_note(a, &note);
	if (command.present & FG_COMMAND_INTERVAL)
		fg_agent_set_interval(a, command.interval_s);
	if (command.present & FG_COMMAND_READ)
		fg_agent_measure(a);
	/* Not before the cloud knows that we have it, or it would come again. */
	if (command.present & FG_COMMAND_REBOOT)
		a->reboot_wanted = true;
	/* Last: if the power fails before, it comes again, and is carried out. */
	if (command.present & FG_COMMAND_ID)
		a->port->save(a->ctx, "command", &command.id, sizeof(command.id));
}
