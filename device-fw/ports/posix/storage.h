/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device keeps when its power fails: small values by name, each a file that is replaced
 * whole, and the flash of the backlog. Without a directory both are memory, and last as long as the
 * structure, so over a reboot of the device and not over the end of the process.
 */
#ifndef FG_DEVICE_STORAGE_H
#define FG_DEVICE_STORAGE_H

#include "device-fw/core/port.h"

struct storage;

struct storage_config {
	const char *directory; /* made if it is not there; NULL: memory */
	const struct fg_flash_geometry *flash;
	/* Every write is on the disk before the function returns. False: it survives the death of
	 * the process, not a power cut. */
	bool sync;
};

/* NULL, and one line for a person in `error`. One process at a time has a directory. */
struct storage *storage_new(const struct storage_config *config, char *error, size_t size);
void storage_free(struct storage *s);

/* As fg_port's functions of these names. */
int storage_load(struct storage *s, const char *name, void *out, size_t size);
int storage_save(struct storage *s, const char *name, const void *value, size_t length);
int storage_flash_read(struct storage *s, uint32_t offset, void *out, size_t length);
int storage_flash_write(struct storage *s, uint32_t offset, const void *bytes, size_t length);
int storage_flash_erase(struct storage *s, uint32_t offset);

#endif
