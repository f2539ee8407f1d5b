/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, for config.c alone: the only place where a setting's name, default, range
 * and meaning are written. */
#ifndef FG_BASE_SETTINGS_H
#define FG_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_type {
	SETTING_TEXT,
	SETTING_NUMBER,
	SETTING_CHOICE, /* value is the index of the word in choices */
};

struct setting {
	const char *name;
	enum setting_type type;
	size_t offset;
	const char *fallback; /* NULL: required */
	int64_t min, max;
	const char *choices; /* words separated by '|' */
	const char *help;
	bool optional; /* text only: NULL when it is not set */
};

#define SETTINGS_MAX 128

extern const struct setting settings[];
extern const size_t setting_count; /* at most SETTINGS_MAX */

#endif
