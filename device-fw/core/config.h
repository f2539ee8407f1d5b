/* SPDX-License-Identifier: Apache-2.0 */
/* What a device is told once: where the server is, who it is, how often it measures. */
#ifndef FG_DEVICE_CONFIG_H
#define FG_DEVICE_CONFIG_H

#include "device-fw/core/coap_client.h"
#include "device-fw/core/port.h"
#include "device-fw/core/session.h"

#define FG_DEVICE_ID_MAX 64

struct fg_config {
	const char *device; /* [A-Za-z0-9_.:-]{1,64} */
	struct fg_target target;
	int32_t interval_s; /* between readings; what the cloud said last (kept by name "interval")
			       comes first */
	uint32_t state_poll_s; /* how often a CoAP device asks what is desired of it: 21600; 0: at
				  each new session only */
	uint16_t keepalive_s;  /* MQTT: 1200 */
	bool observe; /* CoAP: stay awake and be told at once, instead of asking after each post */
	bool clean_session; /* MQTT */
	uint8_t batch_max;  /* records in a message, up to 23: 16 */
	struct fg_session_config session;
	struct fg_coap_settings coap;
};

/* Sensible values for a battery, for everything but `device` and `target`. */
void fg_config_defaults(struct fg_config *config, enum fg_transport transport,
			enum fg_credential credential);
/* 0, or -EINVAL with the member's name in *what. */
int fg_config_check(const struct fg_config *config, const char **what);

#endif
