/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal when the system refuses: every call of one scenario fails in turn, once or from then
 * on, or is the last one before the process is killed or the power fails. Whatever happens, what
 * append acknowledged is read after the next open, in order and once, and nothing else is.
 *
 * LINK: -Wl,--wrap=open,--wrap=openat,--wrap=pread,--wrap=pwrite,--wrap=pwritev,--wrap=ftruncate
 * LINK: -Wl,--wrap=fsync,--wrap=fdatasync,--wrap=mkdir,--wrap=renameat,--wrap=unlinkat,--wrap=flock
 * LINK: -Wl,--wrap=fstat,--wrap=fstatat,--wrap=eventfd,--wrap=eventfd_write,--wrap=pthread_create
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
 */
#include "tests/unit/test_journal.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* --- The calls that fail --- */

enum call {
	CALL_OPEN,
	CALL_PREAD,
	CALL_PWRITE,
	CALL_FTRUNCATE,
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_DIRECTORY, /* mkdir, renameat, unlinkat */
	CALL_OTHER,
	CALL_MEMORY,
	CALL_KINDS,
};

enum how {
	FAIL_ONCE,
	FAIL_FROM_THEN_ON,
	WRITE_HALF,	 /* short writes; other calls are let through */
	WRITE_ALL_BUT_1, /* the last byte is missing */
	KILL,		 /* at the call, which is not made; half of it if it is a write */
};

static struct {
	_Atomic bool armed;
	unsigned kinds; /* bit set of enum call */
	enum how how;
	int error;
	unsigned at; /* the call that fails, from 1 */
	_Atomic unsigned seen;
	_Atomic unsigned fired;
} plan;

static _Atomic unsigned calls[CALL_KINDS];
static _Atomic bool slow_sync;
static char order[64]; /* f: a file was synced, d: a directory, r: a file was renamed */

static void arm(unsigned kinds, enum how how, int error, unsigned at)
{
	plan.kinds = kinds;
	plan.how = how;
	plan.error = error;
	plan.at = at;
	plan.seen = plan.fired = 0;
	plan.armed = true;
}

static bool is_write_fault(void)
{
	return plan.how == WRITE_HALF || plan.how == WRITE_ALL_BUT_1;
}

/* Is this the call? */
static bool hit(enum call kind)
{
	unsigned nth;

	calls[kind]++;
	if (!plan.armed || !(plan.kinds & 1U << kind))
		return false;
	if (is_write_fault() && kind != CALL_PWRITE)
		return false;
	nth = ++plan.seen;
	if (plan.how == FAIL_ONCE || is_write_fault() ? nth != plan.at : nth < plan.at)
		return false;
	plan.fired++;
	return true;
}

static bool fails(enum call kind)
{
	if (!hit(kind))
		return false;
	if (plan.how == KILL)
		kill(getpid(), SIGKILL);
	errno = plan.error;
	return true;
}

static void note_order(char what)
{
	size_t len = strlen(order);

	if (len + 1 < sizeof(order))
		order[len] = what;
}

#define REAL(type, name, ...)                                                                      \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

REAL(void *, malloc, size_t n)
{
	return fails(CALL_MEMORY) ? NULL : __real_malloc(n);
}

REAL(void *, calloc, size_t n, size_t size)
{
	return fails(CALL_MEMORY) ? NULL : __real_calloc(n, size);
}

REAL(void *, realloc, void *p, size_t n)
{
	return fails(CALL_MEMORY) ? NULL : __real_realloc(p, n);
}

REAL(char *, strdup, const char *s)
{
	return fails(CALL_MEMORY) ? NULL : __real_strdup(s);
}

REAL(int, mkdir, const char *path, mode_t mode)
{
	return fails(CALL_DIRECTORY) ? -1 : __real_mkdir(path, mode);
}

REAL(int, renameat, int from_fd, const char *from, int to_fd, const char *to)
{
	note_order('r');
	return fails(CALL_DIRECTORY) ? -1 : __real_renameat(from_fd, from, to_fd, to);
}

REAL(int, unlinkat, int fd, const char *path, int flags)
{
	return fails(CALL_DIRECTORY) ? -1 : __real_unlinkat(fd, path, flags);
}

REAL(int, flock, int fd, int operation)
{
	return fails(CALL_OTHER) ? -1 : __real_flock(fd, operation);
}

REAL(int, fstat, int fd, struct stat *st)
{
	return fails(CALL_OTHER) ? -1 : __real_fstat(fd, st);
}

REAL(int, fstatat, int fd, const char *path, struct stat *st, int flags)
{
	return fails(CALL_OTHER) ? -1 : __real_fstatat(fd, path, st, flags);
}

REAL(int, eventfd, unsigned count, int flags)
{
	return fails(CALL_OTHER) ? -1 : __real_eventfd(count, flags);
}

REAL(int, eventfd_write, int fd, eventfd_t value)
{
	return fails(CALL_OTHER) ? -1 : __real_eventfd_write(fd, value);
}

REAL(int, pthread_create, pthread_t *t, const pthread_attr_t *a, void *(*main)(void *), void *arg)
{
	return fails(CALL_OTHER) ? EAGAIN : __real_pthread_create(t, a, main, arg);
}

REAL(ssize_t, pread, int fd, void *buf, size_t n, off_t at)
{
	return fails(CALL_PREAD) ? -1 : __real_pread(fd, buf, n, at);
}

REAL(int, ftruncate, int fd, off_t len)
{
	if (plan.armed && is_write_fault()) {
		errno = EIO; /* the short write stays as it is */
		return -1;
	}
	return fails(CALL_FTRUNCATE) ? -1 : __real_ftruncate(fd, len);
}

ssize_t __real_pwritev(int fd, const struct iovec *v, int n, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *v, int n, off_t at);

/* The first `len` bytes only. */
static ssize_t write_part(int fd, const struct iovec *v, int n, off_t at, size_t len)
{
	struct iovec part[8];
	int i;

	for (i = 0; i < n && len > 0; i++) {
		part[i] = v[i];
		if (part[i].iov_len > len)
			part[i].iov_len = len;
		len -= part[i].iov_len;
	}
	return __real_pwritev(fd, part, i, at);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	if (!hit(CALL_PWRITE))
		return __real_pwritev(fd, v, n, at);
	if (plan.how == KILL) {
		write_part(fd, v, n, at, len / 2);
		kill(getpid(), SIGKILL);
	}
	if (is_write_fault())
		return write_part(fd, v, n, at, plan.how == WRITE_HALF ? len / 2 : len - 1);
	errno = plan.error;
	return -1;
}

REAL(ssize_t, pwrite, int fd, const void *buf, size_t n, off_t at)
{
	struct iovec v = {(void *)buf, n};

	(void)__real_pwrite;
	return __wrap_pwritev(fd, &v, 1, at);
}

/* --- What the disk holds: for the loss of power --- */

#define FILES_MAX 256
#define NUMBERS	  200

/* In memory that the child which is killed shares with its parent. */
static struct shared {
	pthread_mutex_t lock;
	struct {
		ino_t inode;
		off_t size; /* on stable storage */
		bool named; /* its name is */
	} files[FILES_MAX];
	size_t file_count;
	bool acked[NUMBERS];
	bool synced[NUMBERS];
	bool maybe[NUMBERS]; /* append was called and did not return */
	struct journal_position ends[NUMBERS];
	struct journal_position highest;
	struct journal_position released;
} * shared;

static void disk_lock(void)
{
	pthread_mutex_lock(&shared->lock);
}

static void disk_unlock(void)
{
	pthread_mutex_unlock(&shared->lock);
}

static size_t disk_find(ino_t inode)
{
	size_t i = 0;

	while (i < shared->file_count && shared->files[i].inode != inode)
		i++;
	return i;
}

static void disk_created(int fd)
{
	struct stat st;
	size_t i;

	assert_int_equal(__real_fstat(fd, &st), 0);
	disk_lock();
	i = disk_find(st.st_ino); /* the number of a deleted file may come again */
	if (i == shared->file_count)
		shared->file_count++;
	assert_true(i < FILES_MAX);
	shared->files[i].inode = st.st_ino;
	shared->files[i].size = 0;
	shared->files[i].named = false;
	disk_unlock();
}

static void disk_synced(const struct stat *st)
{
	size_t i;

	disk_lock();
	i = disk_find(st->st_ino);
	if (i < shared->file_count)
		shared->files[i].size = st->st_size;
	if (S_ISDIR(st->st_mode))
		for (i = 0; i < shared->file_count; i++)
			shared->files[i].named = true;
	disk_unlock();
}

static int open_any(int fd, const char *path, int flags, mode_t mode);
int __real_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode);

static int open_any(int fd, const char *path, int flags, mode_t mode)
{
	int opened;

	if (fails(CALL_OPEN))
		return -1;
	opened = __real_openat(fd, path, flags, mode);
	if (opened >= 0 && flags & O_EXCL)
		disk_created(opened);
	return opened;
}

int __wrap_openat(int fd, const char *path, int flags, mode_t mode)
{
	return open_any(fd, path, flags, mode);
}

int __wrap_open(const char *path, int flags, mode_t mode)
{
	return open_any(AT_FDCWD, path, flags, mode);
}

/* The real calls would only cost time: the disk is the table above. */
static int sync_file(int fd, enum call kind)
{
	struct stat st;

	if (__real_fstat(fd, &st) != 0)
		return -1;
	if (slow_sync)
		usleep(50000);
	if (fails(kind))
		return -1;
	disk_synced(&st);
	note_order(S_ISDIR(st.st_mode) ? 'd' : 'f');
	return 0;
}

REAL(int, fsync, int fd)
{
	(void)__real_fsync;
	return sync_file(fd, CALL_FSYNC);
}

REAL(int, fdatasync, int fd)
{
	(void)__real_fdatasync;
	return sync_file(fd, CALL_FDATASYNC);
}

/* Only what was synced is left; `zeros`: with the old length, as file systems may leave it. */
static void lose_power(const struct dir *d, bool zeros)
{
	uint64_t numbers[FILES_MAX];
	size_t n = dir_segments(d, numbers, FILES_MAX);

	for (size_t i = 0; i < n; i++) {
		char path[512];
		struct stat st;
		size_t f;

		segment_path(d, numbers[i], path);
		assert_int_equal(stat(path, &st), 0);
		f = disk_find(st.st_ino);
		if (f == shared->file_count)
			continue; /* of before */
		if (!shared->files[f].named) {
			assert_int_equal(unlink(path), 0);
			continue;
		}
		if (shared->files[f].size < st.st_size) {
			assert_int_equal(truncate(path, shared->files[f].size), 0);
			if (zeros)
				assert_int_equal(truncate(path, st.st_size), 0);
		}
	}
}

/* --- The scenario --- */

#define BEFORE	  20 /* records of an earlier run */
#define AFTERWARD 80

static int open_faulty(struct journal **j, const struct dir *d, char err[512])
{
	struct journal_options o = {.dir = d->path,
				    .max_bytes = MIB,
				    .segment_bytes = 4096,
				    .sync_interval_ms = 10000,
				    .follower_max_bytes = MIB};

	err[0] = '\0';
	return journal_open(j, &o, err, 512);
}

/* An earlier run left records, and a torn tail in the newest segment. */
static void prepare(struct dir *d)
{
	struct journal *j;
	struct journal_position end = {0, 0};
	char err[512], path[512];
	int fd;

	memset(shared->acked, 0, sizeof(*shared) - offsetof(struct shared, acked));
	shared->file_count = 0;
	*d = dir_new();
	assert_int_equal(open_faulty(&j, d, err), 0);
	for (uint64_t n = 0; n < BEFORE; n++) {
		shared->ends[n] = end = append(j, n);
		shared->acked[n] = shared->synced[n] = true;
	}
	close_journal(j);
	segment_path(d, end.segment, path);
	fd = __real_openat(AT_FDCWD, path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(__real_pwrite(fd, "torn", 4, (off_t)end.offset), 4);
	close(fd);
	shared->highest = end;
	shared->file_count = 0;
}

/* One record in twelve is larger than a segment and goes by pwritev. */
static size_t size_of(uint64_t n)
{
	return n % 12 == 7 ? 6000 : 100 + (size_t)(n % 7) * 40;
}

static void append_one(struct journal *j, uint64_t n)
{
	struct journal_position end;

	shared->maybe[n] = true;
	if (append_sized(j, n, size_of(n), &end) == 0) {
		shared->acked[n] = true;
		shared->ends[n] = end;
		if (journal_position_compare(end, shared->highest) > 0)
			shared->highest = end;
		if (n % 5 == 0 && journal_sync(j, end) == 0)
			shared->synced[n] = true;
	}
	shared->maybe[n] = false;
}

/* Read some, and release them; an error of the disk ends it. */
static void read_some(struct journal *j, struct journal_reader *reader, int count)
{
	static int64_t last;
	struct journal_position next = {0, 0};
	struct journal_record r;

	last = -1;
	while (count-- > 0 && journal_read(reader, &r, &next) == 1) {
		int64_t n = ((const unsigned char *)r.payload)[0];

		assert_true(n > last && shared->acked[n]);
		last = n;
	}
	shared->released = next;
	journal_release(j, next);
}

/* What a follower keeps may or may not be there, and hides nothing. */
static void follow(struct journal_reader *follower, int count)
{
	struct journal_position next = {0, 0};
	struct journal_record r;

	while (count-- > 0 && journal_read(follower, &r, &next) == 1)
		assert_true(shared->acked[((const unsigned char *)r.payload)[0]]);
	journal_keep(follower, next);
}

/* Everything a process does in its life. 0, or what open returned. */
static int live(const struct dir *d)
{
	struct journal_reader *reader = NULL, *follower = NULL;
	struct journal *j;
	struct journal_stats stats;
	char err[512];
	int rc = open_faulty(&j, d, err);

	if (rc) {
		assert_true(rc < 0 && strlen(err) > 0);
		return rc;
	}
	if (journal_reader_open(&reader, j) != 0 || journal_reader_open(&follower, j) != 0)
		goto out;
	follow(follower, 1);
	for (uint64_t n = BEFORE; n < AFTERWARD; n++) {
		append_one(j, n);
		if (n == 50)
			read_some(j, reader, 40);
		if (n == 60)
			follow(follower, 30);
		journal_arm(reader);
	}
out:
	journal_reader_close(reader);
	journal_reader_close(follower);
	journal_stats(j, &stats);
	assert_true(stats.skipped_bytes <= 4); /* the torn tail, if it could not be cut */
	close_journal(j);
	return 0;
}

/* Open without faults, and compare. `need`: the records that must be there, if they were not
 * released. */
static void verify(const struct dir *d, const bool need[NUMBERS])
{
	bool seen[NUMBERS] = {false};
	int64_t n, last = -1;
	struct journal *j;
	char err[512];

	plan.armed = false;
	if (open_faulty(&j, d, err) != 0)
		fail_msg("open after fault %u: %s", plan.at, err);
	assert_true(journal_position_compare(journal_end(j), shared->highest) > 0);
	while ((n = read_number(j, NULL)) >= 0) {
		assert_true(n > last);
		last = n;
		assert_true(shared->acked[n] || shared->maybe[n]);
		seen[n] = true;
	}
	for (uint64_t i = 0; i < AFTERWARD; i++)
		if (need[i] && !seen[i] &&
		    journal_position_compare(shared->ends[i], shared->released) > 0)
			fail_msg("record %d is missing after fault %u", (int)i, plan.at);
	close_journal(j);
}

static struct dir scratch;

static void begin(void)
{
	plan.armed = false;
	prepare(&scratch);
}

/* --- Each call fails in turn --- */

static const unsigned all_kinds = (1U << CALL_KINDS) - 1;

static void fail_each_in_turn(unsigned kinds, enum how how, int error, unsigned least)
{
	unsigned at = 1;

	for (;; at++) {
		unsigned fired;

		begin();
		arm(kinds, how, error, at);
		live(&scratch);
		plan.armed = false;
		fired = plan.fired;
		verify(&scratch, shared->acked);
		dir_remove(&scratch);
		if (!fired)
			break;
	}
	/* So many calls there were at least: the test would else test nothing. */
	assert_true(at > least);
}

static void test_each_system_call_fails_once(void **state)
{
	(void)state;
	fail_each_in_turn(all_kinds & ~(1U << CALL_MEMORY), FAIL_ONCE, EIO, 100);
}

static void test_each_system_call_and_all_after_it_fail(void **state)
{
	(void)state;
	fail_each_in_turn(all_kinds & ~(1U << CALL_MEMORY), FAIL_FROM_THEN_ON, EIO, 30);
}

static void test_the_disk_is_full_for_one_write(void **state)
{
	(void)state;
	fail_each_in_turn(1U << CALL_PWRITE | 1U << CALL_OPEN, FAIL_ONCE, ENOSPC, 60);
}

static void test_the_disk_is_full_from_some_write_on(void **state)
{
	(void)state;
	fail_each_in_turn(1U << CALL_PWRITE, FAIL_FROM_THEN_ON, ENOSPC, 60);
}

static void test_each_write_is_short_once(void **state)
{
	(void)state;
	fail_each_in_turn(1U << CALL_PWRITE, WRITE_HALF, 0, 60);
	fail_each_in_turn(1U << CALL_PWRITE, WRITE_ALL_BUT_1, 0, 60);
}

static void test_each_sync_fails_once_and_for_ever(void **state)
{
	(void)state;
	fail_each_in_turn(1U << CALL_FSYNC | 1U << CALL_FDATASYNC, FAIL_ONCE, EIO, 12);
	fail_each_in_turn(1U << CALL_FSYNC | 1U << CALL_FDATASYNC, FAIL_FROM_THEN_ON, EIO, 3);
}

static void test_each_allocation_fails_once_and_for_ever(void **state)
{
	(void)state;
	fail_each_in_turn(1U << CALL_MEMORY, FAIL_ONCE, ENOMEM, 10);
	fail_each_in_turn(1U << CALL_MEMORY, FAIL_FROM_THEN_ON, ENOMEM, 5);
}

/* The very first open of a directory, with each call failing. */
static void test_making_the_directory_fails_at_each_call(void **state)
{
	unsigned fired = 1;

	(void)state;
	for (unsigned at = 1; fired; at++) {
		struct dir d = dir_new();
		struct journal *j;
		char err[512];
		int rc;

		rmdir(d.path);
		shared->file_count = 0;
		arm(all_kinds, FAIL_ONCE, EIO, at);
		rc = open_faulty(&j, &d, err);
		fired = plan.fired;
		plan.armed = false;
		if (rc == 0) {
			append(j, 0);
			expect_numbers(j, 0, 1);
			close_journal(j);
		} else {
			assert_true(strlen(err) > 0);
		}
		assert_int_equal(open_faulty(&j, &d, err), 0);
		expect_numbers(j, 0, rc == 0 ? 1 : 0);
		close_journal(j);
		dir_remove(&d);
		assert_true(fired || at > 20);
	}
}

static void test_the_id_gets_its_name_when_all_it_needs_is_on_the_disk(void **state)
{
	struct dir d = dir_new();
	struct journal *j;
	char err[512];

	(void)state;
	shared->file_count = 0;
	memset(order, 0, sizeof(order));
	assert_int_equal(open_faulty(&j, &d, err), 0);
	/* The file, the directory's own name, the rename, the directory; then the first segment. */
	assert_memory_equal(order, "fdrdfd", 6);
	close_journal(j);
	dir_remove(&d);
}

/* --- The process or the machine stops at each call --- */

/* True if the child was killed, false if it came to its end. */
static bool live_and_die(unsigned at)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		arm(all_kinds & ~(1U << CALL_MEMORY), KILL, 0, at);
		_exit(live(&scratch) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	pthread_mutex_init(&shared->lock, NULL); /* whoever held it is gone */
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGKILL);
		return true;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

static void test_killed_at_each_system_call(void **state)
{
	unsigned at = 0;
	bool killed = true;

	(void)state;
	while (killed) {
		begin();
		killed = live_and_die(++at);
		plan.at = at;
		verify(&scratch, shared->acked);
		dir_remove(&scratch);
	}
	assert_true(at > 100);
}

static void test_power_fails_at_each_system_call(void **state)
{
	unsigned at = 0;
	bool killed = true;

	(void)state;
	while (killed) {
		begin();
		killed = live_and_die(++at);
		plan.at = at;
		lose_power(&scratch, at % 2);
		verify(&scratch, shared->synced);
		dir_remove(&scratch);
	}
	assert_true(at > 100);
}

/* All is stored and released: one segment is left, without a record, and its number is all that the
 * journal knows of its past. */
static void prepare_empty(struct dir *d)
{
	struct journal_position end;
	struct journal *j;
	char err[512];

	*d = dir_new();
	assert_int_equal(open_faulty(&j, d, err), 0);
	end = append(j, 0);
	close_journal(j);
	assert_int_equal(open_faulty(&j, d, err), 0);
	journal_release(j, end);
	shared->highest = journal_end(j);
	close_journal(j);
	shared->file_count = 0;
}

static void test_no_number_comes_again_whatever_call_an_open_dies_at(void **state)
{
	bool killed = true;

	(void)state;
	for (unsigned at = 1; killed; at++) {
		struct journal *j;
		char err[512];
		pid_t child;
		int status;

		plan.armed = false;
		prepare_empty(&scratch);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			arm(all_kinds & ~(1U << CALL_MEMORY), KILL, 0, at);
			_exit(open_faulty(&j, &scratch, err) == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		pthread_mutex_init(&shared->lock, NULL);
		killed = WIFSIGNALED(status);
		lose_power(&scratch, false);
		assert_int_equal(open_faulty(&j, &scratch, err), 0);
		assert_true(journal_end(j).segment > shared->highest.segment);
		close_journal(j);
		dir_remove(&scratch);
		assert_true(killed || at > 15);
	}
}

/* --- Syncs that fail --- */

static void test_a_failed_sync_is_not_retried_and_nothing_is_claimed(void **state)
{
	struct journal_position a, b, next;
	struct journal *j;
	unsigned before;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	a = append(j, 0);
	arm(1U << CALL_FDATASYNC, FAIL_ONCE, EIO, 1);
	assert_int_equal(journal_sync(j, a), -EIO);
	assert_non_null(strstr(last_log, "event=journal_sync_failed"));
	assert_int_equal(stats_of(j).sync_errors, 1);

	before = calls[CALL_FDATASYNC];
	assert_int_equal(journal_sync(j, a), -EIO);
	assert_int_equal(calls[CALL_FDATASYNC], before);
	assert_true(journal_position_compare(journal_durable(j), a) < 0);

	b = append(j, 1);
	assert_true(b.segment > a.segment);
	assert_int_equal(journal_sync(j, b), 0);
	assert_int_equal(calls[CALL_FDATASYNC], before + 1);
	assert_int_equal(journal_sync(j, a), -EIO);
	assert_true(journal_position_compare(journal_durable(j), a) < 0);

	/* Once it is stored elsewhere, nobody depends on it any more. */
	assert_int_equal(read_number(j, &next), 0);
	journal_release(j, next);
	assert_int_equal(journal_position_compare(journal_durable(j), b), 0);
	assert_int_equal(journal_sync(j, a), 0);
	expect_numbers(j, 1, 2);
	close_journal(j);
	dir_remove(&scratch);
}

static void test_what_was_synced_before_the_failure_stays_proven(void **state)
{
	struct journal_position a, b;
	struct journal *j;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	a = append(j, 0);
	assert_int_equal(journal_sync(j, a), 0);
	b = append(j, 1);
	arm(1U << CALL_FDATASYNC, FAIL_ONCE, EIO, 1);
	assert_int_equal(journal_sync(j, b), -EIO);
	assert_int_equal(journal_sync(j, a), 0);
	assert_int_equal(journal_position_compare(journal_durable(j), a), 0);
	close_journal(j);
	dir_remove(&scratch);
}

static void test_an_earlier_segment_is_synced_first(void **state)
{
	struct journal_position first, end = {0, 0};
	struct journal *j;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	first = append(j, 0);
	for (uint64_t n = 1; end.segment < first.segment + 3; n++)
		end = append(j, n);
	assert_int_equal(journal_durable(j).segment, first.segment);
	assert_int_equal(journal_sync(j, end), 0);
	assert_int_equal(journal_position_compare(journal_durable(j), end), 0);
	close_journal(j);
	dir_remove(&scratch);
}

static struct {
	struct journal *j;
	struct journal_position pos;
	_Atomic int failures;
} waiters;

static void *wait_for_sync(void *arg)
{
	(void)arg;
	if (journal_sync(waiters.j, waiters.pos) != 0)
		waiters.failures++;
	return NULL;
}

static int sync_with_eight(void)
{
	pthread_t threads[8];

	waiters.failures = 0;
	slow_sync = true;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_for_sync, NULL), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	slow_sync = false;
	return waiters.failures;
}

static void test_waiting_callers_share_one_sync_and_its_failure(void **state)
{
	unsigned before;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&waiters.j, &scratch, err), 0);
	waiters.pos = append(waiters.j, 0);
	before = calls[CALL_FDATASYNC];
	assert_int_equal(sync_with_eight(), 0);
	assert_int_equal(calls[CALL_FDATASYNC], before + 1);

	waiters.pos = append(waiters.j, 1);
	arm(1U << CALL_FDATASYNC, FAIL_ONCE, EIO, 1);
	assert_int_equal(sync_with_eight(), 8);
	assert_int_equal(calls[CALL_FDATASYNC], before + 2);
	close_journal(waiters.j);
	dir_remove(&scratch);
}

/* --- Writes that fail --- */

static void test_a_failed_append_leaves_no_record_even_if_it_cannot_be_cut(void **state)
{
	struct journal *j;
	char err[512];

	(void)state;
	for (int how = WRITE_HALF; how <= WRITE_ALL_BUT_1; how++) {
		scratch = dir_new();
		assert_int_equal(open_faulty(&j, &scratch, err), 0);
		append(j, 0);
		arm(1U << CALL_PWRITE, (enum how)how, 0, 1);
		assert_int_equal(append_sized(j, 1, 300, NULL), -ENOSPC);
		plan.armed = false;
		expect_numbers(j, 0, 1);
		/* Shorter than what lies there, and at the same place. */
		assert_int_equal(append_sized(j, 2, 100, NULL), 0);
		assert_int_equal(read_number(j, NULL), 2);
		close_journal(j);
		assert_int_equal(open_faulty(&j, &scratch, err), 0);
		assert_int_equal(read_number(j, NULL), 0);
		expect_numbers(j, 2, 3);
		assert_int_equal(stats_of(j).skipped_bytes, 0);
		close_journal(j);
		dir_remove(&scratch);
	}
}

static void test_a_full_disk_is_logged_once_and_the_journal_recovers(void **state)
{
	struct journal *j;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	arm(1U << CALL_PWRITE, FAIL_FROM_THEN_ON, ENOSPC, 1);
	log_lines = 0;
	for (int i = 0; i < 50; i++)
		assert_int_equal(append_sized(j, 0, 100, NULL), -ENOSPC);
	assert_int_equal(log_lines, 1);
	assert_int_equal(stats_of(j).refused, 50);
	assert_false(stats_of(j).full);
	plan.armed = false;
	append(j, 0);
	assert_int_equal(log_lines, 2);
	expect_numbers(j, 0, 1);
	close_journal(j);
	dir_remove(&scratch);
}

static void test_a_full_disk_at_open_still_lets_the_store_empty_it(void **state)
{
	struct journal_position last, end;
	struct journal *j;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	last = append(j, 0);
	close_journal(j);
	arm(1U << CALL_PWRITE, FAIL_FROM_THEN_ON, ENOSPC, 1);
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	assert_int_equal(append_sized(j, 1, 100, NULL), -ENOSPC);
	expect_numbers(j, 0, 1);
	journal_release(j, last);
	assert_int_equal(journal_sync(j, last), 0);
	plan.armed = false;
	assert_int_equal(append_sized(j, 1, 100, &end), 0);
	assert_true(end.segment > last.segment);
	assert_true(journal_position_compare(journal_end(j), end) == 0);
	expect_numbers(j, 1, 2);
	close_journal(j);
	dir_remove(&scratch);
}

/* --- Reads and deletions that fail --- */

static void test_a_read_error_is_logged_once_and_reading_goes_on_where_it_was(void **state)
{
	struct journal_position next;
	struct journal_record r;
	struct journal *j;
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	for (uint64_t n = 0; n < 3; n++)
		append(j, n);
	arm(1U << CALL_PREAD, FAIL_FROM_THEN_ON, EIO, 1);
	log_lines = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(journal_read(reader_of(j), &r, &next), -EIO);
	assert_int_equal(log_lines, 1);
	plan.armed = false;
	expect_numbers(j, 0, 3);
	assert_int_equal(stats_of(j).skipped_bytes, 0);
	close_journal(j);
	dir_remove(&scratch);
}

static void test_a_segment_that_cannot_be_deleted_is_tried_again(void **state)
{
	struct journal_position end = {0, 0}, first;
	struct journal *j;
	uint64_t numbers[64] = {0};
	char err[512];

	(void)state;
	scratch = dir_new();
	assert_int_equal(open_faulty(&j, &scratch, err), 0);
	first = append(j, 0);
	for (uint64_t n = 1; end.segment < first.segment + 3; n++)
		end = append(j, n);
	arm(1U << CALL_DIRECTORY, FAIL_ONCE, EIO, 1);
	journal_release(j, end);
	dir_segments(&scratch, numbers, 64);
	assert_int_equal(numbers[0], first.segment);
	journal_release(j, end);
	dir_segments(&scratch, numbers, 64);
	assert_int_equal(numbers[0], end.segment);
	close_journal(j);
	dir_remove(&scratch);
}

/* --- What an append costs --- */

static void test_an_append_is_one_write_and_nothing_else(void **state)
{
	unsigned before[CALL_KINDS] = {0};
	struct journal *j;
	char err[512];
	struct journal_options o = {.dir = scratch.path,
				    .max_bytes = 64 * MIB,
				    .segment_bytes = 8 * MIB,
				    .sync_interval_ms = 10000};

	(void)state;
	scratch = dir_new();
	assert_int_equal(journal_open(&j, &o, err, sizeof(err)), 0);
	append(j, 0);
	reader_of(j);
	for (int i = 0; i < CALL_KINDS; i++)
		before[i] = calls[i];
	for (uint64_t n = 1; n <= 1000; n++)
		append(j, n);
	for (int i = 0; i < CALL_KINDS; i++)
		assert_int_equal(calls[i] - before[i], i == CALL_PWRITE ? 1000 : 0);
	journal_arm(reader_of(j));
	append(j, 1001);
	append(j, 1002);
	assert_int_equal(calls[CALL_OTHER] - before[CALL_OTHER], 1); /* one eventfd_write */
	close_journal(j);
	dir_remove(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_system_call_fails_once),
		cmocka_unit_test(test_each_system_call_and_all_after_it_fail),
		cmocka_unit_test(test_the_disk_is_full_for_one_write),
		cmocka_unit_test(test_the_disk_is_full_from_some_write_on),
		cmocka_unit_test(test_each_write_is_short_once),
		cmocka_unit_test(test_each_sync_fails_once_and_for_ever),
		cmocka_unit_test(test_each_allocation_fails_once_and_for_ever),
		cmocka_unit_test(test_making_the_directory_fails_at_each_call),
		cmocka_unit_test(test_the_id_gets_its_name_when_all_it_needs_is_on_the_disk),
		cmocka_unit_test(test_killed_at_each_system_call),
		cmocka_unit_test(test_power_fails_at_each_system_call),
		cmocka_unit_test(test_no_number_comes_again_whatever_call_an_open_dies_at),
		cmocka_unit_test(test_a_failed_sync_is_not_retried_and_nothing_is_claimed),
		cmocka_unit_test(test_what_was_synced_before_the_failure_stays_proven),
		cmocka_unit_test(test_an_earlier_segment_is_synced_first),
		cmocka_unit_test(test_waiting_callers_share_one_sync_and_its_failure),
		cmocka_unit_test(test_a_failed_append_leaves_no_record_even_if_it_cannot_be_cut),
		cmocka_unit_test(test_a_full_disk_is_logged_once_and_the_journal_recovers),
		cmocka_unit_test(test_a_full_disk_at_open_still_lets_the_store_empty_it),
		cmocka_unit_test(test_a_read_error_is_logged_once_and_reading_goes_on_where_it_was),
		cmocka_unit_test(test_a_segment_that_cannot_be_deleted_is_tried_again),
		cmocka_unit_test(test_an_append_is_one_write_and_nothing_else),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	pthread_mutex_init(&shared->lock, NULL);
	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("journal faults", tests, NULL, NULL);
}
