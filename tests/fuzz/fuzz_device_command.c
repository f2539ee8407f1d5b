/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a command to a device: nothing is read behind the end, what is accepted is in range,
 * and of JSON it is what jansson reads. Seeds: tests/fuzz/fuzz_device_command_seeds.py
 * DIRECTORY.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <jansson.h>

#include "device-fw/core/command.h"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define ALL (FG_COMMAND_INTERVAL | FG_COMMAND_READ | FG_COMMAND_REBOOT | FG_COMMAND_ID)

static void check_number(json_t *map, const char *name, bool present, int32_t value)
{
	json_t *member = json_object_get(map, name);

	CHECK(present == (member != NULL));
	if (present)
		CHECK(json_is_integer(member) && json_integer_value(member) == value);
}

static void check_bool(json_t *map, const char *name, bool present)
{
	json_t *member = json_object_get(map, name);

	CHECK(present == json_is_true(member));
	CHECK(!member || json_is_boolean(member));
}

/* Where jansson reads it, it must read the same. It refuses more, of what is in members that do not
 * matter here: text that is no UTF-8, escapes that are none, numbers too large. */
static void check_json(const struct fg_command *c, const char *data, size_t size)
{
	json_t *map;

	if (memchr(data, '\\', size))
		return; /* a name with escapes is another one for a device */
	map = json_loadb(data, size, JSON_ALLOW_NUL, NULL);
	if (!map)
		return;
	check_number(map, "interval", c->present & FG_COMMAND_INTERVAL, c->interval_s);
	check_number(map, "id", c->present & FG_COMMAND_ID, c->id);
	check_bool(map, "read", c->present & FG_COMMAND_READ);
	check_bool(map, "reboot", c->present & FG_COMMAND_REBOOT);
	json_decref(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fg_command c;
	int rc = fg_command_decode(&c, data, size);

	CHECK(rc == 0 || rc == -EBADMSG);
	CHECK((c.present & ~(unsigned)ALL) == 0);
	if (rc) {
		CHECK(c.present == 0);
		return 0;
	}
	if (c.present & FG_COMMAND_INTERVAL)
		CHECK(c.interval_s >= FG_INTERVAL_MIN_S && c.interval_s <= FG_INTERVAL_MAX_S);
	if (data[0] < 0xa0 || data[0] > 0xbf)
		check_json(&c, (const char *)data, size);
	return 0;
}
