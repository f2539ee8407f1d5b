/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that holds the slots: where it may be, who may have it open, and what makes its content
 * worthless. Everything is checked before anything in it is changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <mbedtls/build_info.h>

#include "coap-server/dtls/slots_internal.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"

#define RESERVE_SLOTS 256 /* at a time */

int slots_fail(char *err, size_t err_len, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(err, err_len, fmt, args);
	va_end(args);
	return -1;
}

uint64_t slots_guarded(uint32_t n)
{
	return (uint64_t)~n << 32 | n;
}

uint32_t slots_unguarded(uint64_t word)
{
	uint32_t n = (uint32_t)word;

	return slots_guarded(n) == word ? n : UINT32_MAX;
}

static size_t file_len(uint32_t count)
{
	return SLOTS_HEADER_LEN + (size_t)count * sizeof(struct slot);
}

/* --- Where --- */

static int check_tmpfs(int fd, const char *path, char *err, size_t err_len)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return slots_fail(err, err_len, "%s: %s", path, strerror(errno));
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		return slots_fail(
			err, err_len,
			"%s is not on a tmpfs: an old copy of it on a disk would repeat "
			"nonces; set coap.sessions_dir to a directory below /dev/shm or /run",
			path);
	return 0;
}

int slots_directory(const char *dir, char *err, size_t err_len)
{
	struct stat st;
	int fd;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return slots_fail(err, err_len,
				  "cannot make the directory %s: %s; make the one above it", dir,
				  strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return slots_fail(err, err_len,
				  "cannot open %s: %s; it must be a directory, not a link to one",
				  dir, strerror(errno));
	if (fstat(fd, &st) != 0)
		slots_fail(err, err_len, "%s: %s", dir, strerror(errno));
	else if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		slots_fail(err, err_len,
			   "%s holds keys of sessions, and belongs to user %u with mode %03o: it "
			   "must be "
			   "ours (user %u) with mode 700",
			   dir, st.st_uid, st.st_mode & 0777, geteuid());
	else if (check_tmpfs(fd, dir, err, err_len) == 0)
		return fd;
	close(fd);
	return -1;
}

static int open_directory_of(const char *path, char *err, size_t err_len)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int fd;

	if (!slash)
		return slots_directory(".", err, err_len);
	dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!dir)
		return slots_fail(err, err_len, "%s: out of memory", path);
	fd = slots_directory(dir, err, err_len);
	free(dir);
	return fd;
}

static int lock(int fd, const char *path, char *err, size_t err_len)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return slots_fail(
			err, err_len,
			"%s is in use by another process; two would repeat nonces: end the "
			"other one, or set another coap.sessions_dir",
			path);
	return slots_fail(err, err_len, "cannot lock %s: %s", path, strerror(errno));
}

/* A regular file that is nobody else's, under the name by which it was opened. */
static int check_file(int fd, int dir, const char *name, const char *path, char *err,
		      size_t err_len)
{
	struct stat st, named;

	if (fstat(fd, &st) != 0 || fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return slots_fail(err, err_len, "%s: %s", path, strerror(errno));
	if (st.st_ino != named.st_ino || st.st_dev != named.st_dev)
		return slots_fail(err, err_len, "%s was replaced while it was opened; start again",
				  path);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0 ||
	    st.st_nlink != 1)
		return slots_fail(
			err, err_len,
			"%s holds keys of sessions: it must be a plain file of ours (user %u) "
			"with mode 600 and one name; remove it",
			path, geteuid());
	return check_tmpfs(fd, path, err, err_len);
}

static int open_locked(const char *path, bool create, char *err, size_t err_len)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	int dir = open_directory_of(path, err, err_len), fd;

	if (dir < 0)
		return -1;
	fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
	if (fd < 0)
		slots_fail(err, err_len, "cannot open %s: %s", path, strerror(errno));
	else if (lock(fd, path, err, err_len) || check_file(fd, dir, name, path, err, err_len)) {
		close(fd);
		fd = -1;
	}
	close(dir);
	return fd;
}

/* --- The header --- */

uint32_t slots_header_crc(const struct slots_header *h)
{
	return crc32c(0, h, offsetof(struct slots_header, crc));
}

static int read_boot_id(char id[SLOTS_BOOT_ID], char *err, size_t err_len)
{
	static const char path[] = "/proc/sys/kernel/random/boot_id";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, SLOTS_BOOT_ID - 1);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (n < 36)
		return slots_fail(
			err, err_len,
			"cannot read %s: %s; without it sessions of another boot could not be "
			"told from ours",
			path, n < 0 ? strerror(error) : "too short");
	memset(id + 36, 0, SLOTS_BOOT_ID - 36);
	return 0;
}

static void make_header(struct slots_header *h, const char boot_id[SLOTS_BOOT_ID])
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, SLOTS_MAGIC, sizeof(h->magic));
	h->layout = SLOTS_LAYOUT;
	h->slot_size = sizeof(struct slot);
	h->mbedtls = MBEDTLS_VERSION_NUMBER;
	memcpy(h->boot_id, boot_id, SLOTS_BOOT_ID);
	h->crc = slots_header_crc(h);
}

/* Why nothing in the file can be used, or NULL. */
static const char *worthless(const struct slots_header *h, const struct slots_header *wanted,
			     off_t len)
{
	uint32_t count = slots_unguarded(h->count), reserved = slots_unguarded(h->reserved);

	if (h->crc != slots_header_crc(h) || count == 0 || count > SLOTS_MAX || reserved > count ||
	    len < (off_t)file_len(count))
		return "is damaged";
	if (memcmp(h->boot_id, wanted->boot_id, SLOTS_BOOT_ID) != 0)
		return "is of another boot of this machine";
	if (h->layout != wanted->layout || h->slot_size != wanted->slot_size)
		return "is of another version of Fieldgate";
	if (h->mbedtls != wanted->mbedtls)
		return "is of another version of Mbed TLS";
	return NULL;
}

static bool is_blank(const struct slots_header *h)
{
	const uint8_t *bytes = (const uint8_t *)h;
	uint8_t all = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		all |= bytes[i];
	return all == 0;
}

/* What is in the file: 1 slots that can be used, 0 nothing (any more), -1 something else. */
static int inspect(int fd, const char *path, struct slots_header *h,
		   const struct slots_header *wanted, char *err, size_t err_len)
{
	struct stat st;
	const char *why;
	ssize_t n;

	memset(h, 0, sizeof(*h));
	n = pread(fd, h, sizeof(*h), 0);
	if (n < 0 || fstat(fd, &st) != 0)
		return slots_fail(err, err_len, "cannot read %s: %s", path, strerror(errno));
	if (is_blank(h)) /* new, or its maker was killed before it wrote the header */
		return 0;
	if (memcmp(h->magic, SLOTS_MAGIC, sizeof(h->magic)) != 0)
		return slots_fail(err, err_len,
				  "%s is not a file of sessions; remove it, or set another "
				  "coap.sessions_dir",
				  path);
	why = worthless(h, wanted, st.st_size);
	if (!why)
		return 1;
	log_warn("slots_emptied", NULL,
		 "%s %s: it is emptied, and the devices whose sessions were in it shake hands "
		 "again",
		 path, why);
	return 0;
}

static int fill_new(int fd, const char *path, struct slots_header *h, uint32_t count, char *err,
		    size_t err_len)
{
	h->count = slots_guarded(count);
	h->reserved = slots_guarded(0);
	if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)file_len(count)) != 0 ||
	    pwrite(fd, h, sizeof(*h), 0) != (ssize_t)sizeof(*h))
		return slots_fail(err, err_len, "cannot write %s: %s; has its tmpfs any room?",
				  path, strerror(errno));
	return 0;
}

/* --- Memory --- */

/* For the slots from..to, and the header. */
static int allocate(int fd, uint32_t from, uint32_t to)
{
	off_t begin = from > 0 ? (off_t)file_len(from) : 0;

	for (int tries = 0; tries < 100; tries++) {
		if (fallocate(fd, 0, begin, (off_t)file_len(to) - begin) == 0)
			return 0;
		if (errno == EOPNOTSUPP) /* ramfs, which has no limit */
			return 0;
		if (errno != EINTR)
			return -errno;
	}
	return -EINTR;
}

int slots_reserve(struct slots *s)
{
	uint32_t wanted =
		s->count - s->reserved > RESERVE_SLOTS ? s->reserved + RESERVE_SLOTS : s->count;
	int rc = allocate(s->fd, s->reserved, wanted);

	if (rc)
		return rc;
	s->reserved = wanted;
	slots_publish(&s->header->reserved, slots_guarded(wanted));
	return 0;
}

static int map(struct slots *s, uint32_t count)
{
	void *p;

	s->map_len = file_len(count);
	p = mmap(NULL, s->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, s->map_len, MADV_DONTDUMP); /* keys do not belong into core files */
	s->header = p;
	s->slot = (struct slot *)((uint8_t *)p + SLOTS_HEADER_LEN);
	s->count = count;
	s->reserved = slots_unguarded(s->header->reserved);
	return 0;
}

static void unmap(struct slots *s)
{
	if (s->header)
		munmap(s->header, s->map_len);
	s->header = NULL;
}

/* --- Another number of slots --- */

static bool is_free(const struct slot *slot)
{
	return atomic_load_explicit(&slot->state, memory_order_relaxed) == STATE_FREE;
}

/* Never is a session in two slots: killed in between, it is in none. */
static void move(struct slot *to, struct slot *from)
{
	uint64_t state = from->state;
	struct slot copy;

	memcpy(&copy, from, sizeof(copy));
	slots_wipe(from);
	slots_publish(&to->state, STATE_TORN);
	memcpy((uint8_t *)to + sizeof(to->state), (uint8_t *)&copy + sizeof(copy.state),
	       sizeof(copy) - sizeof(copy.state));
	slots_publish(&to->state, state);
	explicit_bzero(&copy, sizeof(copy));
}

static void shrink(struct slots *s, uint32_t count)
{
	uint32_t to = 0;
	size_t lost = 0;

	for (uint32_t from = count; from < s->reserved; from++) {
		if (is_free(&s->slot[from]))
			continue;
		while (to < count && !is_free(&s->slot[to]))
			to++;
		if (to < count) {
			move(&s->slot[to], &s->slot[from]);
		} else {
			slots_wipe(&s->slot[from]);
			lost++;
		}
	}
	if (s->reserved > count)
		slots_publish(&s->header->reserved, slots_guarded(count));
	if (lost > 0)
		log_warn("slots_too_few", NULL,
			 "%s: %zu sessions do not fit into %u slots and shake hands again; "
			 "raise coap.max_sessions",
			 s->path, lost, count);
}

static int convert(struct slots *s, uint32_t from, uint32_t count)
{
	int rc;

	if (count > from && ftruncate(s->fd, (off_t)file_len(count)) != 0)
		return -errno;
	rc = map(s, from);
	if (rc)
		return rc;
	if (count < from)
		shrink(s, count);
	slots_publish(&s->header->count, slots_guarded(count));
	unmap(s);
	/* Also when it was killed here the last time. */
	return ftruncate(s->fd, (off_t)file_len(count)) != 0 ? -errno : 0;
}

/* --- Opening --- */

static int list_free(struct slots *s)
{
	if (s->count == 0)
		return -EINVAL;
	s->free = calloc(s->count, sizeof(*s->free));
	if (!s->free)
		return -ENOMEM;
	s->fresh = s->reserved;
	for (uint32_t n = s->reserved; n > 0; n--)
		if (is_free(&s->slot[n - 1]))
			s->free[s->free_count++] = n;
	return 0;
}

static int load(struct slots *s, const char *path, size_t count, enum slots_size size, char *err,
		size_t err_len)
{
	struct slots_header h, wanted;
	char boot_id[SLOTS_BOOT_ID];
	uint32_t n = (uint32_t)count;
	int rc;

	if (read_boot_id(boot_id, err, err_len))
		return -1;
	make_header(&wanted, boot_id);
	rc = inspect(s->fd, path, &h, &wanted, err, err_len);
	if (rc < 0)
		return rc;
	if (rc > 0 &&
	    (size == SLOTS_AS_FOUND || (size == SLOTS_AT_LEAST && slots_unguarded(h.count) > n)))
		n = slots_unguarded(h.count);
	if (rc == 0) {
		if (fill_new(s->fd, path, &wanted, n, err, err_len))
			return -1;
		h = wanted;
	}
	rc = allocate(s->fd, 0, slots_unguarded(h.reserved));
	if (!rc)
		rc = convert(s, slots_unguarded(h.count), n);
	if (!rc)
		rc = map(s, n);
	if (!rc)
		rc = list_free(s);
	if (rc)
		return slots_fail(err, err_len, "cannot use %s for %u slots: %s", path, n,
				  strerror(-rc));
	return 0;
}

int slots_open_file(struct slots **out, const char *path, size_t count, enum slots_size size,
		    char *err, size_t err_len)
{
	struct slots *s = calloc(1, sizeof(*s));

	if (s)
		s->path = strdup(path);
	if (!s || !s->path) {
		free(s);
		return slots_fail(err, err_len, "%s: out of memory", path);
	}
	s->fd = open_locked(path, size != SLOTS_AS_FOUND, err, err_len);
	if (s->fd < 0 || load(s, path, count, size, err, err_len)) {
		slots_close(s);
		return -1;
	}
	*out = s;
	return 0;
}

int slots_open(struct slots **out, const char *path, size_t count, char *err, size_t err_len)
{
	if (count == 0 || count > SLOTS_MAX)
		return slots_fail(err, err_len, "%s: %zu slots: expected 1 to %u", path, count,
				  SLOTS_MAX);
	return slots_open_file(out, path, count, SLOTS_EXACTLY, err, err_len);
}

void slots_close(struct slots *s)
{
	if (!s)
		return;
	unmap(s);
	if (s->fd >= 0)
		close(s->fd);
	free(s->free);
	free(s->path);
	free(s);
}
