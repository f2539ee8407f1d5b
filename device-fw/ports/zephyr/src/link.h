/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection: one socket of the modem, which does DTLS 1.2 with Connection ID, or TLS 1.2, with
 * the keys in its security tags. Names and handshakes take up to two minutes and block, so a small
 * thread does those; what it finds comes to the agent's thread as APP_OPENED. Bytes that arrive
 * wake it up (APP_READABLE) from the modem's interrupt. Everything below is called from the agent's
 * thread only.
 */
#ifndef FIELDGATE_LINK_H
#define FIELDGATE_LINK_H

#include "device-fw/core/agent.h"

#define LINK_TAGS_MAX 2

/* The tags whose credentials are offered and trusted; once, before the first link_open. */
void link_set_tags(const uint32_t *tags, size_t count);

/* As fg_port.open, .send, .close. */
int link_open(const struct fg_target *target, bool resume);
int link_send(const void *bytes, size_t length, bool expects_answer);
void link_close(bool keep);

/* APP_OPENED has come with this value: tells the agent how it went. */
void link_opened(struct fg_agent *agent, int32_t attempt);
/* After each event: gives the agent what has arrived. */
void link_read(struct fg_agent *agent);

#endif
