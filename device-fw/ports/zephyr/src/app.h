/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application's one thread, which owns the agent: everything else posts events to its queue.
 * These functions may be called from any thread, and from interrupts; they never block.
 */
#ifndef FIELDGATE_APP_H
#define FIELDGATE_APP_H

#include <stdbool.h>
#include <stdint.h>

enum app_event_kind {
	APP_NETWORK,  /* value: registered or not */
	APP_OPENED,   /* link: the attempt numbered `value` has ended */
	APP_READABLE, /* link: something has arrived */
	APP_BUTTON,   /* value: enum button_press */
	APP_MEASURE,  /* a reading now */
	APP_HOLD,     /* disconnect, switch the radio off, do nothing until APP_GO */
	APP_GO,
	APP_REBOOT,	 /* leave the network, then reset */
	APP_MODEM_FAULT, /* wakes up; then a reset */
};

/* -ENOMSG: the queue is full; the event is lost, and counted. */
int app_post(enum app_event_kind kind, int32_t value);

#endif
