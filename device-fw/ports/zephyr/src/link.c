/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include "app.h"
#include "compat.h"
#include "lte.h"

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define OPENER_STACK	1536
#define OPENER_PRIORITY 7  /* below the agent, which is 0 */
#define SEND_TIMEOUT_S	30 /* below the watchdog's */
/* Above the handshake's own limit, which the modem keeps itself. */
#define CONNECT_TIMEOUT_S (CONFIG_FIELDGATE_HANDSHAKE_TIMEOUT_S + 7)
/* Names and handshakes over two versions of IP. Beyond that the modem will not answer any more. */
#define OPENER_LOST_MS (10 * 60 * MSEC_PER_SEC)
#define RECEIVE_MAX    1280
/* What one APP_READABLE may take before other events have their turn. */
#define READS_AT_ONCE 8

enum stage { LINK_CLOSED, LINK_OPENING, LINK_OPEN, LINK_KEPT };

static struct {
	enum stage stage;
	int fd;		 /* OPEN, KEPT */
	int32_t attempt; /* counts up with each open and close: what is late is known by it */
	bool datagrams, connection_id, saved;
	bool opener_busy;
	int64_t opener_since_ms;
	/* While it is busy the next one waits: there is one modem. */
	bool wanted;
	struct fg_target target;
} link;

/* What the opener works on: written by the agent's thread before it starts, by the opener's until
 * APP_OPENED. */
static struct {
	struct fg_target target;
	int32_t attempt;
	int fd, error;
	bool connection_id;
} job;

static K_SEM_DEFINE(job_ready, 0, 1);
/* NRF_POLL..., set by the modem's interrupt. */
static atomic_t polled;
static uint32_t tags[LINK_TAGS_MAX];
static size_t tag_count;

void link_set_tags(const uint32_t *list, size_t count)
{
	tag_count = MIN(count, LINK_TAGS_MAX);
	memcpy(tags, list, tag_count * sizeof(*list));
}

/* ---- the opener's thread */

static int set_secure(int fd, int option, int value)
{
	return nrf_setsockopt(fd, NRF_SOL_SECURE, option, &value, sizeof(value));
}

static int configure_security(int fd, const struct fg_target *target)
{
	bool datagrams = target->transport == FG_TRANSPORT_COAP;

	if (set_secure(fd, NRF_SO_SEC_PEER_VERIFY, NRF_SO_SEC_PEER_VERIFY_REQUIRED) != 0 ||
	    nrf_setsockopt(fd, NRF_SOL_SECURE, NRF_SO_SEC_HOSTNAME, target->host,
			   strlen(target->host)) != 0 ||
	    nrf_setsockopt(fd, NRF_SOL_SECURE, NRF_SO_SEC_TAG_LIST, tags,
			   tag_count * sizeof(tags[0])) != 0)
		return -errno;
	/* The rest is for speed: a modem that knows less connects all the same. */
	if (set_secure(fd, NRF_SO_SEC_SESSION_CACHE, NRF_SO_SEC_SESSION_CACHE_ENABLED) != 0)
		LOG_WRN("No session cache (%d)", errno);
	if (!datagrams)
		return 0;
	if (set_secure(fd, NRF_SO_SEC_DTLS_HANDSHAKE_TIMEO, CONFIG_FIELDGATE_HANDSHAKE_TIMEOUT_S) !=
	    0)
		LOG_WRN("No limit of the handshake (%d)", errno);
	if (set_secure(fd, NRF_SO_SEC_DTLS_CID, NRF_SO_SEC_DTLS_CID_ENABLED) != 0)
		LOG_WRN("No Connection ID (%d): it came with modem firmware 1.3.5", errno);
	return 0;
}

/* Of connect, too, which else may take for ever. */
static int set_send_timeout(int fd, uint32_t seconds)
{
	struct nrf_timeval timeout = {.tv_sec = seconds};

	return nrf_setsockopt(fd, NRF_SOL_SOCKET, NRF_SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0
		       ? 0
		       : -errno;
}

/* In words, where the modem's number leads astray. */
static const char *explain(int error)
{
	switch (error) {
	case -ECONNREFUSED:
		return ": the server was refused or has refused us: CA, certificate, key or PSK";
	case -ETIMEDOUT:
		return ": no answer; is the port open for UDP or TCP?";
	case -ENETDOWN:
		return ": the network has gone";
	case -EHOSTUNREACH:
	case -ENETUNREACH:
		return ": no way to that address";
	default:
		return "";
	}
}

static int connect_to(const struct nrf_addrinfo *address, int *fd)
{
	bool datagrams = job.target.transport == FG_TRANSPORT_COAP;
	int rc;

	*fd = nrf_socket(address->ai_family, datagrams ? NRF_SOCK_DGRAM : NRF_SOCK_STREAM,
			 datagrams ? NRF_SPROTO_DTLS1v2 : NRF_SPROTO_TLS1v2);
	if (*fd < 0)
		return -errno;
	rc = configure_security(*fd, &job.target);
	if (rc == 0)
		rc = set_send_timeout(*fd, CONNECT_TIMEOUT_S);
	if (rc == 0 && nrf_connect(*fd, address->ai_addr, address->ai_addrlen) != 0)
		rc = -errno;
	if (rc == 0)
		rc = set_send_timeout(*fd, SEND_TIMEOUT_S);
	if (rc != 0)
		nrf_close(*fd);
	return rc;
}

static int resolve_and_connect(int family)
{
	struct nrf_addrinfo hints = {.ai_flags = NRF_AI_NUMERICSERV,
				     .ai_family = family,
				     .ai_socktype = job.target.transport == FG_TRANSPORT_COAP
							    ? NRF_SOCK_DGRAM
							    : NRF_SOCK_STREAM};
	struct nrf_addrinfo *address;
	char port[sizeof("65535")];
	int rc;

	snprintf(port, sizeof(port), "%u", job.target.port);
	rc = nrf_getaddrinfo(job.target.host, port, &hints, &address);
	if (rc != 0) {
		LOG_WRN("%s: no IPv%d address (%d)", job.target.host, family == NRF_AF_INET ? 4 : 6,
			rc);
		return -EHOSTUNREACH;
	}
	rc = connect_to(address, &job.fd);
	nrf_freeaddrinfo(address);
	if (rc != 0)
		LOG_WRN("%s:%u over IPv%d: %d%s", job.target.host, job.target.port,
			family == NRF_AF_INET ? 4 : 6, rc, explain(rc));
	return rc;
}

/* The modem may know CID and have been refused it: what counts is what was agreed. */
static bool has_connection_id(int fd)
{
	static const char *const names[] = {"none", "to us", "from us", "both ways"};
	int status = NRF_SO_SEC_DTLS_CID_STATUS_DISABLED;
	nrf_socklen_t length = sizeof(status);

	if (nrf_getsockopt(fd, NRF_SOL_SECURE, NRF_SO_SEC_DTLS_CID_STATUS, &status, &length) != 0) {
		LOG_WRN("Connection ID: the modem does not say (%d)", errno);
		return false;
	}
	LOG_INF("Connection ID: %s",
		(size_t)status < ARRAY_SIZE(names) ? names[status] : "unknown");
	/* It is our address that changes: the server must find us by what we send. */
	return status == NRF_SO_SEC_DTLS_CID_STATUS_UPLINK ||
	       status == NRF_SO_SEC_DTLS_CID_STATUS_BIDIRECTIONAL;
}

/* A query for addresses of a version that the network has not given us takes 20 s to fail. */
static int try_families(void)
{
	bool ipv4, ipv6;
	int rc = -ENETUNREACH;

	lte_address_families(&ipv4, &ipv6);
	if (ipv4)
		rc = resolve_and_connect(NRF_AF_INET);
	if (rc != 0 && rc != -ECONNREFUSED && ipv6)
		rc = resolve_and_connect(NRF_AF_INET6);
	return rc;
}

static void opener(void *a, void *b, void *c)
{
	ARG_UNUSED(a);
	ARG_UNUSED(b);
	ARG_UNUSED(c);
	for (;;) {
		k_sem_take(&job_ready, K_FOREVER);
		job.error = try_families();
		job.connection_id = job.error == 0 && job.target.transport == FG_TRANSPORT_COAP &&
				    has_connection_id(job.fd);
		/* The agent waits for it: when the queue is full, later. */
		while (app_post(APP_OPENED, job.attempt) != 0)
			k_sleep(K_MSEC(100));
	}
}

K_THREAD_DEFINE(link_opener, OPENER_STACK, opener, NULL, NULL, NULL, OPENER_PRIORITY, 0, 0);

/* ---- the agent's thread */

/* The modem's interrupt. When the queue is full the agent's thread is awake, and finds the mark. */
static void on_poll(struct nrf_pollfd *pollfd)
{
	atomic_or(&polled, pollfd->revents);
	app_post(APP_READABLE, 0);
}

/* Once for each time that all has been read: a storm of interrupts would fill the queue. */
static int watch(void)
{
	struct nrf_modem_pollcb callback = {
		.callback = on_poll, .events = NRF_POLLIN, .oneshot = true};

	return nrf_setsockopt(link.fd, NRF_SOL_SOCKET, NRF_SO_POLLCB, &callback,
			      sizeof(callback)) == 0
		       ? 0
		       : -errno;
}

static void start_job(const struct fg_target *target)
{
	job.target = *target;
	job.attempt = link.attempt;
	link.opener_busy = true;
	link.opener_since_ms = k_uptime_get();
	k_sem_give(&job_ready);
}

/* The answer comes as an event, like that of a handshake: not from inside of link_open. */
static int resume(void)
{
	if (link.stage != LINK_KEPT)
		return -ENOTCONN;
	if (link.saved && set_secure(link.fd, NRF_SO_SEC_DTLS_CONN_LOAD, 1) != 0) {
		LOG_WRN("The modem has lost the connection (%d)", errno);
		link_close(false);
		return -ENOTCONN;
	}
	link.saved = false;
	link.attempt++;
	return app_post(APP_OPENED, link.attempt);
}

int link_open(const struct fg_target *target, bool resume_kept)
{
	if (resume_kept)
		return resume();
	if (link.stage != LINK_CLOSED)
		link_close(false);
	link.stage = LINK_OPENING;
	link.attempt++;
	link.datagrams = target->transport == FG_TRANSPORT_COAP;
	link.wanted = link.opener_busy;
	if (!link.wanted) {
		start_job(target);
		return 0;
	}
	link.target = *target;
	if (k_uptime_get() - link.opener_since_ms > OPENER_LOST_MS) {
		LOG_ERR("The modem does not come back from connecting: starting anew");
		app_post(APP_REBOOT, 0);
	}
	return 0;
}

int link_send(const void *bytes, size_t length, bool expects_answer)
{
	const uint8_t *at = bytes;
	ssize_t n;

	if (link.stage != LINK_OPEN)
		return -ENOTCONN;
	if (!expects_answer)
		compat_set_rai(link.fd, COMPAT_RAI_LAST);
	/* A datagram goes in one piece; a stream may take less at a time. */
	do {
		n = nrf_send(link.fd, at, length, 0);
		if (n < 0)
			return -errno;
		at += n;
		length -= (size_t)n;
	} while (length > 0 && !link.datagrams);
	return length == 0 ? 0 : -EIO;
}

/*
 * The radio may go, the connection stays. A saved DTLS connection takes less of the modem's memory;
 * where that is not to be had (no AEAD suite, the socket is busy) the socket just stays open.
 * Without Connection ID the server would not know us behind the NAT's next port: it is closed, and
 * the session cache shortens the next handshake.
 */
static bool keep(void)
{
	compat_set_rai(link.fd, COMPAT_RAI_NO_DATA);
	if (link.datagrams && !link.connection_id)
		return false;
	link.saved = link.datagrams && set_secure(link.fd, NRF_SO_SEC_DTLS_CONN_SAVE, 1) == 0;
	if (link.datagrams && !link.saved)
		LOG_DBG("The connection is not saved (%d)", errno);
	link.stage = LINK_KEPT;
	return true;
}

void link_close(bool keep_it)
{
	if (keep_it && (link.stage == LINK_KEPT || (link.stage == LINK_OPEN && keep())))
		return;
	link.attempt++;
	link.wanted = false;
	/* The opener cannot be stopped; what it brings is closed when it comes. */
	if (link.stage == LINK_OPEN || link.stage == LINK_KEPT)
		nrf_close(link.fd);
	link.stage = LINK_CLOSED;
	link.saved = false;
}

static void opener_done(void)
{
	link.opener_busy = false;
	if (job.attempt == link.attempt)
		return;
	if (job.error == 0)
		nrf_close(job.fd);
	if (link.wanted) {
		link.wanted = false;
		start_job(&link.target);
	}
}

static void established(struct fg_agent *agent, bool resumed)
{
	struct fg_connection connection = {.resumed = resumed, .connection_id = link.connection_id};
	int rc;

	link.stage = LINK_OPEN;
	/* Not what was told of an earlier socket; but something may have come already. */
	atomic_set(&polled, NRF_POLLIN);
	rc = watch();
	if (rc != 0) {
		link_close(false);
		fg_agent_disconnected(agent, rc);
		return;
	}
	fg_agent_connected(agent, &connection);
}

void link_opened(struct fg_agent *agent, int32_t attempt)
{
	if (link.opener_busy && attempt == job.attempt)
		opener_done();
	if (attempt != link.attempt)
		return;
	if (link.stage == LINK_KEPT) {
		established(agent, true);
	} else if (link.stage == LINK_OPENING && job.error == 0) {
		link.fd = job.fd;
		link.connection_id = job.connection_id;
		established(agent, false);
	} else if (link.stage == LINK_OPENING) {
		link_close(false);
		/* Either side has refused the other: waiting does not help soon. */
		fg_agent_disconnected(agent, job.error == -ECONNREFUSED ? -EACCES : job.error);
	}
}

static void lost(struct fg_agent *agent, int error)
{
	LOG_WRN("The connection has ended: %d%s", error, explain(error));
	link_close(false);
	fg_agent_disconnected(agent, error);
}

/* Reads until there is no more. The agent may close the connection in between, or put it to sleep;
 * a saved one cannot be read. False: it is not the same any more. */
static bool read_all(struct fg_agent *agent)
{
	static uint8_t bytes[RECEIVE_MAX];
	int32_t attempt = link.attempt;

	for (int i = 0; i < READS_AT_ONCE; i++) {
		ssize_t n = nrf_recv(link.fd, bytes, sizeof(bytes), NRF_MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			lost(agent, n < 0 ? -errno : -ECONNRESET);
			return false;
		}
		fg_agent_receive(agent, bytes, (size_t)n);
		if (link.attempt != attempt || link.saved)
			return false;
	}
	on_poll(&(struct nrf_pollfd){.revents = NRF_POLLIN}); /* the rest, after other events */
	return true;
}

void link_read(struct fg_agent *agent)
{
	long events = atomic_clear(&polled);
	bool ended = (events & (NRF_POLLERR | NRF_POLLHUP | NRF_POLLNVAL)) != 0;
	int rc;

	if (events == 0 || link.saved || (link.stage != LINK_OPEN && link.stage != LINK_KEPT))
		return;
	/* Before it is read: of what comes after the last read nobody would tell. */
	rc = ended ? 0 : watch();
	if (rc != 0)
		lost(agent, rc);
	else if (read_all(agent) && ended)
		lost(agent, -ECONNRESET); /* the end that reading did not find */
}
