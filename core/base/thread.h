/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a library that lives in other people's processes. */
#ifndef FG_BASE_THREAD_H
#define FG_BASE_THREAD_H

#include <pthread.h>

/*
 * Start a thread that no signal of the process is given to: those are the host program's business,
 * and a SIGPIPE of ours must not end it. name: as ps -L shows it, at most 15 bytes. 0 or -errno.
 */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *arg), void *arg);

#endif
