/* SPDX-License-Identifier: Apache-2.0 */
/* What was sent and what was acknowledged, for a test that looks for exactly that in PostgreSQL. A
 * line is in the file before anything else is done. */
#ifndef FG_TESTS_LOAD_LOG_H
#define FG_TESTS_LOAD_LOG_H

#include <stdint.h>

/* NULL: none. */
void load_log_open(const char *sent, const char *acknowledged);
void load_log_sent(const char *device, uint32_t seq);
void load_log_acknowledged(const char *device, uint32_t seq);

#endif
