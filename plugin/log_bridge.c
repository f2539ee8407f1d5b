/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/log_bridge.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>

#include "core/base/log.h"

#define RING_LINES 256

struct ring_line {
	enum log_level level;
	char text[LOG_LINE_MAX];
};

/* One for the process, as core's log is. */
static struct {
	pthread_t broker;
	pthread_mutex_t lock;
	struct ring_line ring[RING_LINES];
	size_t first, count;
	unsigned long dropped;
} bridge = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int broker_level(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_DEBUG:
		return MOSQ_LOG_DEBUG;
	case LOG_LEVEL_INFO:
		return MOSQ_LOG_INFO;
	case LOG_LEVEL_WARN:
		return MOSQ_LOG_WARNING;
	case LOG_LEVEL_ERROR:
		return MOSQ_LOG_ERR;
	}
	return MOSQ_LOG_ERR;
}

static void keep(enum log_level level, const char *text)
{
	struct ring_line *line;

	pthread_mutex_lock(&bridge.lock);
	if (bridge.count == RING_LINES) {
		bridge.dropped++;
	} else {
		line = &bridge.ring[(bridge.first + bridge.count++) % RING_LINES];
		line->level = level;
		snprintf(line->text, sizeof(line->text), "%s", text);
	}
	pthread_mutex_unlock(&bridge.lock);
}

static bool next_line(struct ring_line *out)
{
	bool any = false;

	pthread_mutex_lock(&bridge.lock);
	if (bridge.count > 0) {
		*out = bridge.ring[bridge.first];
		bridge.first = (bridge.first + 1) % RING_LINES;
		bridge.count--;
		any = true;
	} else if (bridge.dropped > 0) {
		out->level = LOG_LEVEL_WARN;
		snprintf(out->text, sizeof(out->text),
			 "level=warn event=log_lines_dropped msg=\"%lu lines were not kept\"",
			 bridge.dropped);
		bridge.dropped = 0;
		any = true;
	}
	pthread_mutex_unlock(&bridge.lock);
	return any;
}

static void sink(enum log_level level, const char *line, void *arg)
{
	(void)arg;
	if (!pthread_equal(pthread_self(), bridge.broker)) {
		keep(level, line);
		return;
	}
	log_bridge_drain();
	mosquitto_log_printf(broker_level(level), "%s", line);
}

void log_bridge_open(void)
{
	bridge.broker = pthread_self();
	log_set_sink(sink, NULL);
}

void log_bridge_drain(void)
{
	struct ring_line line;

	while (next_line(&line))
		mosquitto_log_printf(broker_level(line.level), "%s", line.text);
}

void log_bridge_close(void)
{
	log_bridge_drain();
	log_set_sink(NULL, NULL);
}
