/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nRF9160 DK: button 1 is GET, 1 and 2 together PUT, 2 alone a reading now. Thingy:91 has one
 * button: pressed it is GET, held for two seconds PUT.
 */
#include "buttons.h"

#include <zephyr/devicetree.h>
#include <zephyr/kernel.h>
#include <dk_buttons_and_leds.h>

#include "gesture.h"

/* The two switches of the DK come after its two buttons. */
#define BUTTONS (DT_NODE_EXISTS(DT_ALIAS(sw1)) ? 2 : 1)

static void (*report)(enum button_press press);
static struct gesture gesture;

/* The work queue of dk_buttons_and_leds, which looks again until the contacts have settled. */
static void changed(uint32_t state, uint32_t has_changed)
{
	enum button_press press;

	ARG_UNUSED(has_changed);
	if (gesture_step(&gesture, state, BUTTONS, k_uptime_get(), &press))
		report(press);
}

int buttons_init(void (*pressed)(enum button_press press))
{
	report = pressed;
	return dk_buttons_init(changed);
}
