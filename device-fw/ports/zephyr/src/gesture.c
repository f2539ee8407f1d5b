/* SPDX-License-Identifier: Apache-2.0 */
#include "gesture.h"

#define FIRST  (1u << 0)
#define SECOND (1u << 1)

static bool meaning(uint32_t pressed, int64_t held_ms, unsigned buttons, enum button_press *press)
{
	if (buttons == 1)
		*press = held_ms < GESTURE_HELD_MS ? BUTTON_PRESS_GET : BUTTON_PRESS_PUT;
	else if (pressed == FIRST)
		*press = BUTTON_PRESS_GET;
	else if (pressed == (FIRST | SECOND))
		*press = BUTTON_PRESS_PUT;
	else if (pressed == SECOND)
		*press = BUTTON_PRESS_PUBLISH;
	else
		return false;
	return true;
}

bool gesture_step(struct gesture *g, uint32_t down, unsigned buttons, int64_t now_ms,
		  enum button_press *press)
{
	uint32_t pressed = g->pressed;

	down &= (1u << buttons) - 1;
	if (down != 0) {
		if (pressed == 0)
			g->since_ms = now_ms;
		g->pressed |= down;
		return false;
	}
	g->pressed = 0;
	return pressed != 0 && meaning(pressed, now_ms - g->since_ms, buttons, press);
}
