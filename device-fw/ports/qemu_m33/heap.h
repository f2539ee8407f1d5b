/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of Mbed TLS, which asks for it by the names that deps/mbedtls-m33.h has: blocks of a
 * static array, the first free one that is large enough.
 */
#ifndef FG_QEMU_M33_HEAP_H
#define FG_QEMU_M33_HEAP_H

#include <stddef.h>

#define HEAP_SIZE 3584 /* bytes, for one session and its handshake: see README.md */

/* Zeroed and aligned to 8 bytes, or NULL. */
void *fg_heap_calloc(size_t count, size_t size);
void fg_heap_free(void *block);

#endif
