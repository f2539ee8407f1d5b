/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that lives longest: it binds the sockets, starts the workers, starts another in the
 * place of one that died, passes on SIGHUP, and stops all of them by SIGTERM. It holds no session
 * and reads no datagram, so there is little in it that could fail.
 */
#ifndef FG_SUPERVISOR_SUPERVISOR_H
#define FG_SUPERVISOR_SUPERVISOR_H

#include "core/base/config.h"

/* Returns the process's exit status, in the supervisor and in each of its children. c was checked;
 * it stays the caller's, and may have been changed by a reload. */
int supervisor_run(struct config *c, const char *config_path);

#endif
