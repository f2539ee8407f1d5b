/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <errno.h>
#include <stdio.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/settings/settings.h>
#include <zephyr/storage/flash_map.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define PREFIX	    "fg/"
#define SECTOR_SIZE 4096 /* a page of the nRF9160's flash */

BUILD_ASSERT(FIXED_PARTITION_SIZE(backlog) % SECTOR_SIZE == 0);

static const struct flash_area *backlog;

/* What NVS cannot make sense of it would not mount at any later start either. */
static int erase_settings(void)
{
	const struct flash_area *area;
	int rc = flash_area_open(FIXED_PARTITION_ID(settings_storage), &area);

	return rc != 0 ? rc : flash_area_erase(area, 0, area->fa_size);
}

/* Readings are kept whatever the settings are like. */
int storage_init(void)
{
	int rc = settings_subsys_init(), backlog_rc;

	if (rc != 0) {
		LOG_ERR("The settings cannot be read (%d): they are erased", rc);
		rc = erase_settings();
	}
	if (rc == 0)
		rc = settings_subsys_init(); /* does nothing where it has worked */
	backlog_rc = flash_area_open(FIXED_PARTITION_ID(backlog), &backlog);
	return backlog_rc != 0 ? backlog_rc : rc;
}

/* ---- values */

struct value {
	void *out;
	size_t size;
	int length; /* -ENOENT until it is found */
};

/* Called for each setting below the name that was asked for: `key` is what remains of its name. */
static int on_value(const char *key, size_t length, settings_read_cb read, void *read_arg,
		    void *arg)
{
	struct value *value = arg;
	ssize_t n;

	if (key && *key != '\0')
		return 0;
	n = read(read_arg, value->out, MIN(length, value->size));
	value->length = n < 0 ? -EIO : (int)n;
	return 0;
}

static int path_of(const char *name, char path[sizeof(PREFIX) + STORAGE_NAME_MAX])
{
	int n = snprintf(path, sizeof(PREFIX) + STORAGE_NAME_MAX, PREFIX "%s", name);

	return n < (int)sizeof(PREFIX) + STORAGE_NAME_MAX ? 0 : -ENOENT;
}

int storage_load(const char *name, void *out, size_t size)
{
	char path[sizeof(PREFIX) + STORAGE_NAME_MAX];
	struct value value = {out, size, -ENOENT};

	if (path_of(name, path) != 0)
		return -ENOENT;
	return settings_load_subtree_direct(path, on_value, &value) == 0 ? value.length : -EIO;
}

static int result_of(int rc)
{
	return rc == 0 || rc == -ENOSPC ? rc : -EIO;
}

int storage_save(const char *name, const void *value, size_t length)
{
	char path[sizeof(PREFIX) + STORAGE_NAME_MAX];

	if (path_of(name, path) != 0)
		return -EIO;
	return result_of(settings_save_one(path, value, length));
}

int storage_forget(const char *name)
{
	char path[sizeof(PREFIX) + STORAGE_NAME_MAX];

	if (path_of(name, path) != 0)
		return 0;
	return result_of(settings_delete(path));
}

/* ---- the backlog */

const struct fg_flash_geometry *storage_backlog(void)
{
	static const struct fg_flash_geometry geometry = {
		.sector_size = SECTOR_SIZE,
		.sectors = FIXED_PARTITION_SIZE(backlog) / SECTOR_SIZE,
		.write_size = 4,
		.erased = 0xff,
	};

	return backlog ? &geometry : NULL;
}

int storage_backlog_read(uint32_t offset, void *out, size_t length)
{
	return flash_area_read(backlog, (off_t)offset, out, length) == 0 ? 0 : -EIO;
}

int storage_backlog_write(uint32_t offset, const void *bytes, size_t length)
{
	return flash_area_write(backlog, (off_t)offset, bytes, length) == 0 ? 0 : -EIO;
}

int storage_backlog_erase(uint32_t offset)
{
	return flash_area_erase(backlog, (off_t)offset, SECTOR_SIZE) == 0 ? 0 : -EIO;
}
