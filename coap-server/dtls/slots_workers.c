/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions go to where the steering of the sockets will send their records. A session is wiped from
 * one file before it is written to another: killed in between, it shakes hands again; it is never
 * in two. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coap-server/dtls/slots_internal.h"
#include "core/base/log.h"

#define WORKERS_MAX 256 /* byte 0 of the Connection ID */
#define FILE_FORMAT "worker-%u.slots"

struct move {
	struct slots *file[WORKERS_MAX]; /* NULL: there is none */
	unsigned workers;
	unsigned from;
	long moved, lost;
};

static char *path_of(const char *dir, unsigned worker)
{
	char *path;

	return asprintf(&path, "%s/" FILE_FORMAT, dir, worker) < 0 ? NULL : path;
}

static int list_files(const char *dir, bool there[WORKERS_MAX], char *err, size_t err_len)
{
	int fd = slots_directory(dir, err, err_len);
	char name[32];

	if (fd < 0)
		return -1;
	for (unsigned n = 0; n < WORKERS_MAX; n++) {
		snprintf(name, sizeof(name), FILE_FORMAT, n);
		there[n] = faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
	close(fd);
	return 0;
}

static int open_files(struct move *m, const char *dir, const bool there[WORKERS_MAX], size_t count,
		      char *err, size_t err_len)
{
	for (unsigned n = 0; n < WORKERS_MAX; n++) {
		char *path;
		int rc;

		if (n >= m->workers && !there[n])
			continue;
		path = path_of(dir, n);
		if (!path)
			return slots_fail(err, err_len, "%s: out of memory", dir);
		/* Nothing may be lost here for want of room: whoever opens it makes it smaller. */
		rc = slots_open_file(&m->file[n], path, count,
				     n < m->workers ? SLOTS_AT_LEAST : SLOTS_AS_FOUND, err,
				     err_len);
		free(path);
		if (rc)
			return rc;
	}
	return 0;
}

static void move_one(void *arg, uint32_t slot, const struct slot_content *c)
{
	struct move *m = arg;
	unsigned to = c->has_cid ? c->cid[0] % m->workers : m->from;
	uint32_t place;

	if (to == m->from && to < m->workers)
		return;
	place = to < m->workers ? slots_take(m->file[to]) : 0;
	slots_drop(m->file[m->from], slot);
	slots_put(m->file[to], place, c);
	if (place)
		m->moved++;
	else
		m->lost++;
}

static int move_all(struct move *m, const char *dir, char *err, size_t err_len)
{
	size_t damaged;

	for (m->from = 0; m->from < WORKERS_MAX; m->from++) {
		if (!m->file[m->from])
			continue;
		slots_restore(m->file[m->from], move_one, m, &damaged);
		m->lost += (long)damaged;
		if (m->from < m->workers)
			continue;

		char *path = path_of(dir, m->from);

		if (!path || unlink(path) != 0) {
			free(path);
			return slots_fail(err, err_len, "cannot remove " FILE_FORMAT " in %s: %s",
					  m->from, dir, strerror(errno));
		}
		free(path);
	}
	return 0;
}

long slots_redistribute(const char *dir, unsigned workers, size_t count, char *err, size_t err_len)
{
	struct move m = {.workers = workers};
	bool there[WORKERS_MAX] = {false};
	int rc;

	if (workers == 0 || workers > WORKERS_MAX)
		return slots_fail(err, err_len, "%u workers: expected 1 to %d", workers,
				  WORKERS_MAX);
	if (count == 0 || count > SLOTS_MAX)
		return slots_fail(err, err_len, "%zu slots: expected 1 to %u", count, SLOTS_MAX);
	rc = list_files(dir, there, err, err_len);
	if (!rc)
		rc = open_files(&m, dir, there, count, err, err_len);
	if (!rc)
		rc = move_all(&m, dir, err, err_len);
	for (unsigned n = 0; n < WORKERS_MAX; n++)
		slots_close(m.file[n]);
	if (rc)
		return rc;
	if (m.lost > 0)
		log_warn("slots_lost", NULL,
			 "%s: %ld sessions were damaged, had no room or no Connection ID in a "
			 "worker that is no more; their devices shake hands again",
			 dir, m.lost);
	return m.moved;
}
