/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fieldgate's log lines into Mosquitto's log. mosquitto_log_printf may be called by the broker's
 * thread only, so lines of other threads wait in a bounded ring until that thread comes by: at the
 * next TICK, or when it has a line of its own. When the ring is full, lines are counted instead of
 * kept.
 */
#ifndef FG_PLUGIN_LOG_BRIDGE_H
#define FG_PLUGIN_LOG_BRIDGE_H

/* Take over core's log. The caller's thread is the broker's. */
void log_bridge_open(void);

/* The broker's thread: write what waits. */
void log_bridge_drain(void);

/* The broker's thread, when no other thread logs any more. */
void log_bridge_close(void);

#endif
