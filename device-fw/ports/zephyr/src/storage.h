/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flash: small values by name (Zephyr's settings over NVS, in settings_storage; a value is the old
 * or the new one after a power failure), and a partition of its own for the backlog. Agent's
 * thread; values also the provisioning shell's while the agent is stopped.
 */
#ifndef FIELDGATE_STORAGE_H
#define FIELDGATE_STORAGE_H

#include "device-fw/core/port.h"

#define STORAGE_NAME_MAX 24

/* Settings that cannot be read are erased: Kconfig's are in force. 0, or a negative errno of the
 * flash; what can be used of it is used. */
int storage_init(void);
/* As fg_port.load and .save. */
int storage_load(const char *name, void *out, size_t size);
int storage_save(const char *name, const void *value, size_t length);
int storage_forget(const char *name);

/* The backlog's partition; NULL: it cannot be used. */
const struct fg_flash_geometry *storage_backlog(void);
int storage_backlog_read(uint32_t offset, void *out, size_t length);
int storage_backlog_write(uint32_t offset, const void *bytes, size_t length);
int storage_backlog_erase(uint32_t offset);

#endif
