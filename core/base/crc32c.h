/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli; RFC 3720 appendix B.4), with the CPU's instruction where there is one. */
#ifndef FG_BASE_CRC32C_H
#define FG_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue crc (0 to begin) over len bytes. Any thread. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same by table only; exists so that a test can hold both against each other. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
