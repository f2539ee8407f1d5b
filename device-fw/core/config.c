/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/core/config.h"

#include <errno.h>
#include <string.h>

#include "device-fw/core/command.h"

#define PORT_COAPS 5684 /* RFC 7252 section 12.7 */
#define PORT_MQTTS 8883

/* The longest retransmission that makes sense, RFC 7252 section 4.8: 2^10 times ACK_TIMEOUT. */
#define MAX_RETRANSMIT_MAX 10

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

	if (!id)
		return false;
	for (; id[length] != '\0'; length++) {
		char c = id[length], lower = (char)(c | 0x20);

		/* '-', '.', ':', '_' and digits; ':' follows '9' */
		if (length == FG_DEVICE_ID_MAX ||
		    !((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= ':') || c == '-' ||
		      c == '.' || c == '_'))
			return false;
	}
	return length > 0;
}

/* The member that cannot be, or NULL. */
static const char *wrong_target(const struct fg_target *t)
{
	if (t->transport != FG_TRANSPORT_COAP && t->transport != FG_TRANSPORT_MQTT)
		return "transport";
	if (!t->host || t->host[0] == '\0')
		return "host";
	if (t->port == 0)
		return "port";
	if (t->credential > FG_CREDENTIAL_JWT ||
	    (t->credential == FG_CREDENTIAL_JWT && t->transport != FG_TRANSPORT_COAP))
		return "credential";
	return NULL;
}

static const char *wrong_session(const struct fg_session_config *s)
{
	if (s->attach_ms == 0)
		return "attach_ms";
	if (s->connect_ms == 0)
		return "connect_ms";
	if (s->authenticate_ms == 0)
		return "authenticate_ms";
	if (s->resume_ms == 0)
		return "resume_ms";
	if (s->run_ms == 0)
		return "run_ms";
	if (s->sleep_ms == 0)
		return "sleep_ms";
	if (s->backoff_min_ms == 0 || s->backoff_min_ms > s->backoff_max_ms)
		return "backoff_min_ms";
	if (s->refused_min_ms == 0 || s->refused_min_ms > s->backoff_max_ms)
		return "refused_min_ms";
	return NULL;
}

static const char *wrong_member(const struct fg_config *c)
{
	const char *wrong;

	if (!is_device_id(c->device))
		return "device";
	if (c->interval_s < FG_INTERVAL_MIN_S || c->interval_s > FG_INTERVAL_MAX_S)
		return "interval_s";
	if (c->batch_max == 0)
		return "batch_max";
	if (c->coap.ack_timeout_ms == 0)
		return "ack_timeout_ms";
	if (c->coap.max_retransmit > MAX_RETRANSMIT_MAX)
		return "max_retransmit";
	if (c->coap.response_timeout_ms == 0)
		return "response_timeout_ms";
	wrong = wrong_target(&c->target);
	return wrong ? wrong : wrong_session(&c->session);
}

int fg_config_check(const struct fg_config *config, const char **what)
{
	const char *wrong = wrong_member(config);

	if (!wrong)
		return 0;
	*what = wrong;
	return -EINVAL;
}
