/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event, one line, in logfmt:
 *
 *     level=warn event=connect_refused device=dev-1 msg="certificate is not registered; ..."
 *
 * The device's id is always in the field `device` and nowhere else. Never pass a secret.
 * log_event may be called from any thread; the sink must then be able to take lines from any
 * thread.
 */
#ifndef FG_BASE_LOG_H
#define FG_BASE_LOG_H

enum log_level {
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARN,
	LOG_LEVEL_ERROR,
};

#define LOG_LINE_MAX 900 /* bytes; Mosquitto 2.0 cuts its own lines at 1000 */

typedef void log_sink_fn(enum log_level level, const char *line, void *arg);

/* Where lines go; NULL means stderr. Set before other threads start. */
void log_set_sink(log_sink_fn *sink, void *arg);

/* Lines below this level are not written. Default LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* "debug", "info", "warn" or "error"; -1 if name is none of them. */
int log_level_parse(const char *name);

/*
 * event: a snake_case word that names what happened, the same in every release.
 * device: the principal's id, or NULL when the line is about no device.
 * fmt: what a person needs to know: what, why, and what to do.
 * Quotes, control characters and what is not UTF-8 are escaped; a line is cut, between characters,
 * to fit LOG_LINE_MAX with its NUL.
 */
void log_event(enum log_level level, const char *event, const char *device, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define log_debug(event, device, ...) log_event(LOG_LEVEL_DEBUG, event, device, __VA_ARGS__)
#define log_info(event, device, ...)  log_event(LOG_LEVEL_INFO, event, device, __VA_ARGS__)
#define log_warn(event, device, ...)  log_event(LOG_LEVEL_WARN, event, device, __VA_ARGS__)
#define log_error(event, device, ...) log_event(LOG_LEVEL_ERROR, event, device, __VA_ARGS__)

#endif
