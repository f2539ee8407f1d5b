/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was meant by pressing buttons, decided when all are released: 1 and 2 together would
 * otherwise be 1 first. Pure; known to the tests on Linux.
 */
#ifndef FIELDGATE_GESTURE_H
#define FIELDGATE_GESTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "buttons.h"

#define GESTURE_HELD_MS 2000 /* with one button: for the second meaning */

struct gesture {
	uint32_t pressed; /* all that were down since the last time that none was */
	int64_t since_ms;
};

/* `down`: the buttons as bits, button 1 is bit 0. `buttons`: how many the board has. True: *press
 * is what was meant. */
bool gesture_step(struct gesture *g, uint32_t down, unsigned buttons, int64_t now_ms,
		  enum button_press *press);

#endif
