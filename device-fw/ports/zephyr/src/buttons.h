/* SPDX-License-Identifier: Apache-2.0 */
/* The buttons of a board, and what a person means by pressing them. */
#ifndef FIELDGATE_BUTTONS_H
#define FIELDGATE_BUTTONS_H

enum button_press {
	BUTTON_PRESS_GET,     /* CoAP: GET, the answer is logged; MQTT: as PUBLISH */
	BUTTON_PRESS_PUT,     /* CoAP: PUT, the answer is logged; MQTT: as PUBLISH */
	BUTTON_PRESS_PUBLISH, /* a reading now, over either transport */
};

/* `pressed` is called from an interrupt or the system's work queue, once for each press, after the
 * contacts have settled; it only posts an event. 0, or a negative errno of the GPIO driver. */
int buttons_init(void (*pressed)(enum button_press press));

#endif
