/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/core/config.h"

#include <errno.h>
#include <string.h>

#include "device-fw/core/command.h"

#define PORT_COAPS 5684 /* RFC 7252 section 12.7 */
#define PORT_MQTTS 8883

/* The last wait is 2^10 times the first: 34 minutes for 2 s (RFC 7252 section 4.8 has 4). */
#define RETRANSMIT_MAX 10

#define BATCH_MAX 23 /* the head of its array is one byte */

void fg_config_defaults(struct fg_config *config, enum fg_transport transport,
			enum fg_credential credential)
{
	bool coap = transport == FG_TRANSPORT_COAP;

	*config = (struct fg_config){
		.target = {.transport = transport,
			   .port = coap ? PORT_COAPS : PORT_MQTTS,
			   .credential = credential},
		.interval_s = 3600,
		.state_poll_s = 21600,
		.keepalive_s = 1200,
		.batch_max = 16,
		.session = fg_session_defaults,
		.coap = fg_coap_defaults,
	};
	/* MQTT's CONNECT is part of coming in, and its connection lives of being open. */
	config->session.authenticates = !coap || credential == FG_CREDENTIAL_JWT;
	config->session.sleeps = coap;
	config->session.keeps_connection = true;
}

static bool is_device_id(const char *id)
{
	size_t length = 0;

	for (; id && id[length] != '\0'; length++) {
		char c = id[length], lower = (char)(c | 0x20);

		/* ':' comes behind '9', '.' behind '-'. */
		if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= ':') &&
		    !(c >= '-' && c <= '.') && c != '_')
			return false;
	}
	return length > 0 && length <= FG_DEVICE_ID_MAX;
}

static bool is_target(const struct fg_target *t)
{
	return t->host && t->host[0] != '\0' && t->port != 0 && t->transport <= FG_TRANSPORT_MQTT &&
	       t->credential <= FG_CREDENTIAL_JWT &&
	       (t->credential != FG_CREDENTIAL_JWT || t->transport == FG_TRANSPORT_COAP);
}

static bool is_session(const struct fg_session_config *s)
{
	return s->attach_ms && s->connect_ms && s->authenticate_ms && s->resume_ms && s->run_ms &&
	       s->sleep_ms && s->backoff_min_ms && s->backoff_min_ms <= s->backoff_max_ms &&
	       s->refused_min_ms && s->refused_min_ms <= s->backoff_max_ms;
}

int fg_config_check(const struct fg_config *config, const char **what)
{
	if (!is_device_id(config->device))
		*what = "device";
	else if (!is_target(&config->target))
		*what = "target";
	else if (config->interval_s < FG_INTERVAL_MIN_S || config->interval_s > FG_INTERVAL_MAX_S)
		*what = "interval_s";
	else if (config->batch_max == 0 || config->batch_max > BATCH_MAX)
		*what = "batch_max";
	else if (!is_session(&config->session))
		*what = "session";
	else if (config->coap.ack_timeout_ms == 0 || config->coap.response_timeout_ms == 0 ||
		 config->coap.max_retransmit > RETRANSMIT_MAX)
		*what = "coap";
	else
		return 0;
	return -EINVAL;
}
