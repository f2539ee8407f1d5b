/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving space back. A segment goes when the store has released it and no follower asks for it any
 * more; when followers ask for more than their share; or when an append would else be refused. The
 * oldest goes first, by one thread at a time, and never the newest: the next open learns from it
 * which numbers were used. Whoever is still reading a segment that goes is told where it ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/journal/internal.h"

/* Does s lie wholly before pos? */
static bool is_before(const struct segment *s, struct journal_position pos)
{
	return s->number < pos.segment ||
	       (s->number == pos.segment && pos.offset >= atomic_load(&s->end));
}

static bool a_follower_asks_for(const struct journal *j, const struct segment *s)
{
	for (const struct journal_reader *r = j->readers; r; r = r->next)
		if (r->keeps && !is_before(s, r->kept))
			return true;
	return false;
}

/* What the journal would not hold without followers. */
static uint64_t kept_bytes(const struct journal *j)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i + 1 < j->segment_count && is_before(j->segments[i], j->stored); i++)
		bytes += atomic_load(&j->segments[i]->end);
	return bytes;
}

/* The oldest segment, if the store does not need it. */
static struct segment *oldest_stored(const struct journal *j)
{
	struct segment *s = j->segment_count > 1 ? j->segments[0] : NULL;

	return s && is_before(s, j->stored) ? s : NULL;
}

/* --- Deleting --- */

/* The records of s go. True: somebody has its file open. */
static bool tell_readers(struct journal *j, const struct segment *s)
{
	uint64_t end = atomic_load(&s->end);
	bool open = false;

	if (end <= SEGMENT_HEADER)
		return false;
	for (struct journal_reader *r = j->readers; r; r = r->next) {
		if (r->segment == s->number && r->reading) {
			r->deleted_end = end; /* it will see what it has missed, if anything */
			open = true;
		} else if (r->segment == s->number && r->skip_to >= end) {
			continue; /* it was told to begin behind them */
		} else if (r->segment <= s->number && !r->lost) {
			r->lost = true;
			r->missed++;
		}
	}
	return open;
}

/* `open`: a reader has it open, which may be stuck for long. Without a name the file would still
 * take its space, so it is emptied too. */
static bool delete_file(const struct journal *j, uint64_t number, bool open)
{
	int fd = open ? segment_open(j->directory.fd, number, O_WRONLY) : -1;
	char name[SEGMENT_NAME_SIZE];
	bool deleted;

	segment_name(name, number);
	deleted = unlinkat(j->directory.fd, name, 0) == 0 || errno == ENOENT;
	if (!deleted)
		log_error("journal_delete_failed", NULL, "%s/%s: cannot delete: %s", j->path, name,
			  strerror(errno));
	if (deleted && fd >= 0 && ftruncate(fd, 0) != 0)
		log_debug("journal_delete_failed", NULL, "%s/%s: cannot empty: %s", j->path, name,
			  strerror(errno));
	if (fd >= 0)
		close(fd);
	return deleted;
}

static void drop_oldest(struct journal *j)
{
	struct segment *s = j->segments[0];

	j->segment_count--;
	memmove(j->segments, j->segments + 1, j->segment_count * sizeof(struct segment *));
	atomic_fetch_sub(&j->bytes_others, atomic_load(&s->end));
	s->dropped = true;
	if (!s->syncing)
		segment_free(s);
}

/* Lock held, and given up while the disk works. False: it could not be deleted. */
static bool delete_oldest(struct journal *j)
{
	struct segment *s = j->segments[0];
	uint64_t number = s->number;
	bool open, deleted;

	j->deleting = true;
	s->releasing = true;
	open = tell_readers(j, s);
	pthread_mutex_unlock(&j->lock);
	deleted = delete_file(j, number, open);
	pthread_mutex_lock(&j->lock);
	if (deleted)
		drop_oldest(j);
	else
		s->releasing = false;
	j->deleting = false;
	pthread_cond_broadcast(&j->settled);
	return deleted;
}

static bool may_go(const struct journal *j, const struct segment *s)
{
	return !a_follower_asks_for(j, s) || kept_bytes(j) > j->keep_bytes;
}

/* Lock held. Whoever is deleting already will look at the new positions when it is done. */
static void delete_what_may_go(struct journal *j)
{
	struct segment *s;

	while (!j->deleting && (s = oldest_stored(j)) && may_go(j, s) && delete_oldest(j))
		;
}

/* The oldest one, whoever of the followers asks for it. Lock held. */
static bool delete_one(struct journal *j)
{
	while (j->deleting)
		pthread_cond_wait(&j->settled, &j->lock);
	return oldest_stored(j) && delete_oldest(j);
}

/* --- What the store and the followers say --- */

void journal_release(struct journal *j, struct journal_position pos)
{
	pthread_mutex_lock(&j->lock);
	if (journal_position_compare(pos, j->released) > 0)
		j->released = pos;
	j->stored = pos;
	delete_what_may_go(j);
	pthread_mutex_unlock(&j->lock);
}

void journal_keep(struct journal_reader *r, struct journal_position pos)
{
	struct journal *j = r->journal;

	pthread_mutex_lock(&j->lock);
	r->keeps = true;
	r->kept = pos;
	delete_what_may_go(j);
	pthread_mutex_unlock(&j->lock);
}

/* --- When an append needs the space --- */

bool journal_make_room(struct journal *j, size_t size, uint64_t bound)
{
	bool fits;

	pthread_mutex_lock(&j->lock);
	while (!(fits = journal_fits(j, size, bound)) && delete_one(j))
		;
	delete_what_may_go(j);
	pthread_mutex_unlock(&j->lock);
	return fits;
}

/*
 * On a disk that is smaller than a segment the newest one may be all there is. When the store has
 * released it to its end its records can go: the file stays, for its number, and nothing is
 * appended to it any more. Lock held, and given up.
 */
static bool empty_current(struct journal *j)
{
	struct segment *s = j->current;

	if (!s || s->releasing || atomic_load(&s->end) <= SEGMENT_HEADER ||
	    !is_before(s, j->stored))
		return false;
	s->releasing = true;
	tell_readers(j, s);
	pthread_mutex_unlock(&j->lock);
	if (ftruncate(s->fd, SEGMENT_HEADER) != 0)
		log_debug("journal_delete_failed", NULL, "%s: cannot empty segment: %s", j->path,
			  strerror(errno));
	pthread_mutex_lock(&j->lock);
	return true;
}

bool journal_give_back(struct journal *j)
{
	bool given;

	pthread_mutex_lock(&j->lock);
	given = delete_one(j) || empty_current(j);
	delete_what_may_go(j);
	pthread_mutex_unlock(&j->lock);
	return given;
}
