/* SPDX-License-Identifier: Apache-2.0 */
#include "coap-server/bus/connection.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mosquitto.h>
#include <mqtt_protocol.h>

#include "core/base/clock.h"

/* A broker that is there answers in a fraction of that; one that hangs is left after it. */
#define ENTER_LIMIT_US (10 * US_PER_S)
#define KEEPALIVE_S    15

#define REASON_REFUSED 0x80 /* MQTT 5 section 2.4: this and above */

struct connection {
	struct connection_options o;
	struct mosquitto *mosquitto;
	int64_t enter_until_us;
	bool ready, silent;
	bool shaking; /* there was a connection, but it ended before the broker had let us in */
	unsigned send_max;
	int refused; /* reason of CONNACK or DISCONNECT; 0: none */
	char library[160];
	char why[256];
};

/* --- What the library tells --- */

static void on_connect(struct mosquitto *m, void *arg, int reason, int flags,
		       const mosquitto_property *properties)
{
	struct connection *c = arg;
	uint16_t send_max = UINT16_MAX; /* MQTT 5 section 3.2.2.3.3: when the broker says nothing */

	(void)m;
	(void)flags;
	if (reason != 0) {
		c->refused = reason;
		return;
	}
	mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &send_max, false);
	c->send_max = send_max < c->o.send_max ? send_max : c->o.send_max;
	c->ready = true;
}

static void on_disconnect(struct mosquitto *m, void *arg, int reason,
			  const mosquitto_property *properties)
{
	struct connection *c = arg;

	(void)m;
	(void)properties;
	if (reason >= REASON_REFUSED)
		c->refused = reason;
}

static void on_publish(struct mosquitto *m, void *arg, int mid, int reason,
		       const mosquitto_property *properties)
{
	struct connection *c = arg;

	(void)m;
	(void)properties;
	c->o.answered(c->o.arg, mid, reason);
}

/* The first is the cause; what follows it are the consequences. */
static void on_log(struct mosquitto *m, void *arg, int level, const char *text)
{
	struct connection *c = arg;

	(void)m;
	if ((level == MOSQ_LOG_ERR || level == MOSQ_LOG_WARNING) && !c->library[0])
		snprintf(c->library, sizeof(c->library), "%s", text);
}

/* --- Begin and end --- */

static int errno_of(int rc)
{
	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		return 0;
	case MOSQ_ERR_NOMEM:
		return -ENOMEM;
	case MOSQ_ERR_ERRNO:
		return errno > 0 ? -errno : -EIO;
	default:
		return -EPROTO;
	}
}

static int configure(struct connection *c)
{
	struct mosquitto *m = c->mosquitto;

	mosquitto_connect_v5_callback_set(m, on_connect);
	mosquitto_disconnect_v5_callback_set(m, on_disconnect);
	mosquitto_publish_v5_callback_set(m, on_publish);
	mosquitto_log_callback_set(m, on_log);
	if (mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5) != 0 ||
	    mosquitto_int_option(m, MOSQ_OPT_SEND_MAXIMUM, (int)c->o.send_max) != 0 ||
	    mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1) != 0 ||
	    mosquitto_int_option(m, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) != 0 ||
	    mosquitto_void_option(m, MOSQ_OPT_SSL_CTX, c->o.tls->context) != 0)
		return -EPROTO;
	return 0;
}

static void explain_open(struct connection *c, int rc, char *err, size_t err_len)
{
	snprintf(err, err_len, "%s", strerror(-rc));
	if (!c)
		return;
	snprintf(c->why, sizeof(c->why), "%s", strerror(-rc));
	c->shaking = rc == -EPROTO || rc == -ECONNRESET || rc == -EPIPE;
	connection_why(c, err, err_len);
}

int connection_open(struct connection **out, const struct connection_options *o, char *err,
		    size_t err_len)
{
	struct connection *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	*out = NULL;
	if (!c)
		goto out;
	c->o = *o;
	c->o.tls->why[0] = '\0';
	c->enter_until_us = clock_monotonic_us() + ENTER_LIMIT_US;
	c->mosquitto = mosquitto_new(o->client_id, true, c);
	if (!c->mosquitto)
		goto out;
	rc = configure(c);
	if (rc == 0)
		rc = errno_of(
			mosquitto_connect_async(c->mosquitto, o->address, o->port, KEEPALIVE_S));
out:
	if (rc == 0) {
		*out = c;
		return 0;
	}
	explain_open(c, rc, err, err_len);
	connection_close(c, false);
	return rc;
}

void connection_close(struct connection *c, bool polite)
{
	if (!c)
		return;
	if (polite && c->mosquitto)
		mosquitto_disconnect_v5(c->mosquitto, MQTT_RC_NORMAL_DISCONNECTION, NULL);
	if (c->mosquitto)
		mosquitto_destroy(c->mosquitto);
	free(c);
}

/* --- Events --- */

int connection_fd(const struct connection *c)
{
	return mosquitto_socket(c->mosquitto);
}

short connection_events(const struct connection *c)
{
	return (short)(mosquitto_want_write(c->mosquitto) ? POLLIN | POLLOUT : POLLIN);
}

static bool end(struct connection *c, const char *why)
{
	if (!c->why[0])
		snprintf(c->why, sizeof(c->why), "%s", why);
	return false;
}

/* With some versions of the library a socket that could not connect, or was closed amid the
 * handshake, is nothing to speak of: it would be asked for ever. */
static bool died_before_entering(struct connection *c, short revents)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (c->ready || !(revents & (POLLERR | POLLHUP | POLLNVAL)))
		return false;
	if (getsockopt(connection_fd(c), SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	c->shaking = error == 0 || error == ECONNRESET || error == EPIPE;
	end(c, error ? strerror(error) : "the connection was closed");
	return true;
}

bool connection_work(struct connection *c, short revents)
{
	struct mosquitto *m = c->mosquitto;
	int rc = 0;

	/* Reading also drives the handshake, whichever direction that waits for. */
	if (revents)
		rc = mosquitto_loop_read(m, 1);
	if (c->refused || c->o.tls->why[0])
		return false;
	if (rc == 0 && connection_fd(c) >= 0 && died_before_entering(c, revents))
		return false;
	if (rc == 0 && connection_fd(c) >= 0 && mosquitto_want_write(m))
		rc = mosquitto_loop_write(m, 1);
	if (rc == 0 && connection_fd(c) >= 0)
		rc = mosquitto_loop_misc(m);
	if (rc == MOSQ_ERR_KEEPALIVE) {
		c->silent = true;
		return end(c, "the broker is silent");
	}
	c->shaking = !c->ready && (rc != 0 || connection_fd(c) < 0);
	if (rc != 0)
		return end(c, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
	if (connection_fd(c) < 0)
		return end(c, "the broker has closed the connection");
	if (!c->ready && clock_monotonic_us() >= c->enter_until_us) {
		c->silent = true;
		return end(c, "the broker takes the connection and does not answer");
	}
	return true;
}

bool connection_ready(const struct connection *c)
{
	return c->ready;
}

unsigned connection_send_max(const struct connection *c)
{
	return c->send_max;
}

bool connection_was_silent(const struct connection *c)
{
	return c->silent;
}

bool connection_was_dismissed(const struct connection *c)
{
	switch (c->refused) {
	case MQTT_RC_SERVER_SHUTTING_DOWN:
	case MQTT_RC_SESSION_TAKEN_OVER:
	case MQTT_RC_ADMINISTRATIVE_ACTION:
		return true;
	default:
		return false;
	}
}

/* --- Messages --- */

enum connection_sent connection_publish(struct connection *c, const struct bus_message *m, int *mid,
					char *why, size_t why_len)
{
	int rc = mosquitto_publish_v5(c->mosquitto, mid, m->topic, (int)m->payload_len, m->payload,
				      m->qos, m->retain, NULL);

	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		return CONNECTION_SENT;
	case MOSQ_ERR_INVAL:
	case MOSQ_ERR_MALFORMED_UTF8:
	case MOSQ_ERR_PAYLOAD_SIZE:
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_QOS_NOT_SUPPORTED:
		snprintf(why, why_len, "%s", mosquitto_strerror(rc));
		return CONNECTION_REFUSES;
	default:
		end(c, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
		return CONNECTION_ENDED;
	}
}

void connection_cork(const struct connection *c, bool corked)
{
	int value = corked;

	setsockopt(connection_fd(c), IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
}

int connection_check_topic(const char *topic)
{
	size_t len = strlen(topic);

	return len > 0 && len <= UINT16_MAX && mosquitto_validate_utf8(topic, (int)len) == 0 &&
			       mosquitto_pub_topic_check(topic) == 0
		       ? 0
		       : -EINVAL;
}

/* --- Words --- */

static const char *what_to_do(int reason)
{
	switch (reason) {
	case MQTT_RC_NOT_AUTHORIZED:
	case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
	case MQTT_RC_BANNED:
		return "; is its service registered with this certificate, and active? (pki/fleet "
		       "show)";
	case MQTT_RC_SESSION_TAKEN_OVER:
		return "; another connection has its client id: give each fieldgate-coap a service "
		       "of its own";
	default:
		return "";
	}
}

void connection_why(const struct connection *c, char *text, size_t len)
{
	if (c->o.tls->why[0])
		snprintf(text, len, "the broker's certificate for %s is not good: %s",
			 c->o.tls->host, c->o.tls->why);
	else if (c->refused)
		snprintf(text, len, "the broker says: %s (0x%02x)%s",
			 mosquitto_reason_string(c->refused), (unsigned)c->refused,
			 what_to_do(c->refused));
	else
		snprintf(text, len, "%s%s%s%s", c->why, c->library[0] ? ": " : "", c->library,
			 c->shaking ? "; does the broker take the certificate of this service?"
				    : "");
}
