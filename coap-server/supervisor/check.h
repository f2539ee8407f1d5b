/* SPDX-License-Identifier: Apache-2.0 */
/* Settings that are each in order can still make no sense together, or name files that cannot be
 * used. This finds it before anything is started. */
#ifndef FG_SUPERVISOR_CHECK_H
#define FG_SUPERVISOR_CHECK_H

#include <stddef.h>

#include "core/base/config.h"

/* 0, or -1 with what is wrong, where and what to do in err. Makes coap.sessions_dir if it is not
 * there; changes nothing else. */
int check_settings(const struct config *c, char *err, size_t err_len);

#endif
