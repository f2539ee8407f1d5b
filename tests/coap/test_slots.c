/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls/slots: sessions that outlive the process. What is asked of them is that nothing
 * is ever worse than a handshake: no number used twice, no record accepted twice, no session in two
 * places, nothing of a damaged slot believed.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=strdup,--wrap=strndup
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/slots.h"
#include "coap-server/dtls/slots_internal.h"
#include "core/base/log.h"

#define EPOCH	 (UINT64_C(1) << 48)
#define BLOB_LEN 262

static char dir[64], path[96], err[512];
static char last_line[LOG_LINE_MAX + 1];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static int make_directory(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/dev/shm/fg-slots-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/worker-0.slots", dir);
	last_line[0] = err[0] = '\0';
	log_set_sink(keep_line, NULL);
	return 0;
}

static int remove_directory(void **state)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	(void)state;
	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	return chmod(dir, 0700) == 0 && rmdir(dir) == 0 ? 0 : -1;
}

/* --- Sessions --- */

static struct address address_of(unsigned n)
{
	struct address a = {.port = (uint16_t)n};

	memset(a.ip, (int)(n & 0xff), sizeof(a.ip));
	memset(a.local, (int)(n >> 8 & 0xff), sizeof(a.local));
	return a;
}

static struct dtls_identity identity_of(unsigned n)
{
	struct dtls_identity who = {.kind = (uint8_t)n};

	snprintf(who.id, sizeof(who.id), "device-%u", n);
	memset(who.fingerprint, (int)n, sizeof(who.fingerprint));
	return who;
}

static struct slot_content session(unsigned n)
{
	struct slot_content c = {.id = 1000 + n, .has_cid = true, .blob_len = BLOB_LEN};
	struct blob_counters counters = {.out = EPOCH | 1, .top = 5, .window = 0x1f};

	c.opened_us = 7000000 + n;
	c.last_us = 8000000 + n;
	memset(c.cid, (int)n, sizeof(c.cid));
	c.address = address_of(n);
	c.identity = identity_of(n);
	for (size_t i = 0; i < BLOB_LEN; i++)
		c.blob[i] = (uint8_t)(i * 7 + n);
	c.blob[BLOB_LEN - 1] = 0;
	blob_patch(c.blob, c.blob_len, &counters);
	c.note_len = 3;
	memcpy(c.note, "abc", 3);
	return c;
}

static struct blob_counters counters_of(const struct slot_content *c)
{
	struct blob_counters counters;

	assert_int_equal(blob_counters(c->blob, c->blob_len, &counters), 0);
	return counters;
}

static void patch(struct slot_content *c, uint64_t out, uint64_t top, uint64_t window)
{
	struct blob_counters counters = {.out = out, .top = top, .window = window};

	assert_int_equal(blob_patch(c->blob, c->blob_len, &counters), 0);
}

static void assert_same(const struct slot_content *a, const struct slot_content *b)
{
	assert_int_equal(a->id, b->id);
	assert_memory_equal(a->cid, b->cid, sizeof(a->cid));
	assert_int_equal(a->has_cid, b->has_cid);
	assert_int_equal(a->opened_us, b->opened_us);
	assert_int_equal(a->last_us, b->last_us);
	assert_true(address_equal(&a->address, &b->address));
	assert_memory_equal(&a->identity, &b->identity, sizeof(a->identity));
	assert_int_equal(a->note_len, b->note_len);
	assert_memory_equal(a->note, b->note, sizeof(a->note));
	assert_int_equal(a->blob_len, b->blob_len);
	assert_memory_equal(a->blob, b->blob, sizeof(a->blob));
}

static struct slots *open_slots(size_t count)
{
	struct slots *s = NULL;

	if (slots_open(&s, path, count, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return s;
}

static uint32_t put(struct slots *s, const struct slot_content *c)
{
	uint32_t slot = slots_take(s);

	assert_int_not_equal(slot, 0);
	slots_put(s, slot, c);
	return slot;
}

#define FOUND_MAX 512

struct found {
	size_t count, damaged;
	uint32_t slot[FOUND_MAX];
	struct slot_content c[FOUND_MAX];
};

static struct found found;

static void keep_found(void *arg, uint32_t slot, const struct slot_content *c)
{
	struct found *f = arg;

	assert_true(f->count < FOUND_MAX);
	f->slot[f->count] = slot;
	f->c[f->count++] = *c;
}

static void restore(struct slots *s)
{
	memset(&found, 0, sizeof(found));
	slots_restore(s, keep_found, &found, &found.damaged);
}

static void reopen(size_t count)
{
	struct slots *s = open_slots(count);

	restore(s);
	slots_close(s);
}

/* What a process finds that starts now is exactly this session. */
static void assert_restored(const struct slot_content *expected)
{
	reopen(16);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(found.count, 1);
	assert_same(&found.c[0], expected);
}

/* --- The counters in a blob --- */

static void test_counters_stand_at_fixed_places_of_the_tail(void **state)
{
	static const uint8_t tail[BLOB_TAIL_LEN + 1] = {0xaa, /* in front of it */
							0,    0, 1, 2, 3, 4, 5, 6, /* top */
							9,    8, 7, 6, 5, 4, 3, 2, /* window */
							1,			   /* packing */
							0,    1, 0, 0, 0, 0, 0, 9, /* out */
							5,    0,		   /* mtu */
							0};			   /* ALPN */
	uint8_t blob[sizeof(tail)];
	struct blob_counters c;

	(void)state;
	assert_int_equal(blob_counters(tail, sizeof(tail), &c), 0);
	assert_int_equal(c.out, EPOCH | 9);
	assert_int_equal(c.top, UINT64_C(0x010203040506));
	assert_int_equal(c.window, UINT64_C(0x0908070605040302));

	memcpy(blob, tail, sizeof(blob));
	assert_int_equal(blob_patch(blob, sizeof(blob), &c), 0);
	assert_memory_equal(blob, tail, sizeof(blob));
}

static void test_a_tail_with_alpn_is_refused(void **state)
{
	uint8_t blob[64] = {0};
	struct blob_counters c = {0};

	(void)state;
	blob[63] = 2;
	assert_int_equal(blob_counters(blob, sizeof(blob), &c), -EINVAL);
	assert_int_equal(blob_patch(blob, sizeof(blob), &c), -EINVAL);
	assert_int_equal(blob_counters(blob, BLOB_TAIL_LEN - 1, &c), -EINVAL);
}

static void test_the_window_follows_what_is_received(void **state)
{
	static const struct {
		uint64_t seq, top, window;
	} steps[] = {
		{1, 1, 1},
		{2, 2, 3},
		{5, 5, 0x19},
		{4, 5, 0x1b},
		{4, 5, 0x1b},
		{EPOCH | 6, 6, 0x37}, /* the epoch is no part of it */
		{69, 69, UINT64_C(0x8000000000000001)},
		{133, 133, 1}, /* 64 further: nothing of before is left */
		{69, 133, 1},  /* too old: Mbed TLS would have refused it */
		{70, 133, UINT64_C(0x8000000000000001)},
	};
	struct blob_counters c = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		blob_received(&c, steps[i].seq);
		assert_int_equal(c.top, steps[i].top);
		assert_int_equal(c.window, steps[i].window);
	}
}

/* --- What is put comes back --- */

static void test_a_session_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1), got;
	uint32_t slot = put(s, &c);

	(void)state;
	assert_true(slots_get(s, slot, &got));
	assert_same(&got, &c);
	slots_close(s);
	assert_restored(&c);
	assert_int_equal(found.slot[0], slot);
}

static void test_a_session_without_cid_identity_and_note_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	(void)state;
	c.has_cid = false;
	memset(&c.identity, 0, sizeof(c.identity));
	memset(c.note, 0, sizeof(c.note));
	c.note_len = 0;
	put(s, &c);
	slots_close(s);
	assert_restored(&c);
}

static void test_the_largest_content_comes_back_whole(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	(void)state;
	memset(c.blob, 0x5a, sizeof(c.blob));
	c.blob_len = SLOT_BLOB_MAX;
	c.blob[SLOT_BLOB_MAX - 1] = 0;
	patch(&c, EPOCH | RECORD_SEQUENCE_MASK, RECORD_SEQUENCE_MASK, UINT64_MAX);
	memset(c.note, 0xa5, sizeof(c.note));
	c.note_len = DTLS_NOTE_MAX;
	memset(c.identity.id, 'x', PRINCIPAL_ID_MAX);
	put(s, &c);
	slots_close(s);
	assert_restored(&c);
}

static void test_the_next_number_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_close(s);
	patch(&c, EPOCH | 77, 5, 0x1f);
	assert_restored(&c);
}

static void test_the_next_number_never_goes_back(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_set_out(s, slot, EPOCH | 76);
	slots_put(s, slot, &c); /* its blob says 1 */
	slots_close(s);
	patch(&c, EPOCH | 77, 5, 0x1f);
	assert_restored(&c);
}

static void test_another_session_in_the_same_slot_has_its_own_numbers(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content a = session(1), b = session(2);
	uint32_t slot = put(s, &a);

	(void)state;
	slots_set_out(s, slot, EPOCH | 77);
	slots_put(s, slot, &b);
	slots_close(s);
	assert_restored(&b);
}

static void test_another_epoch_tears_the_slot(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, 2 * EPOCH | 1);
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count, 0);
	assert_int_equal(found.damaged, 1);
}

static void test_what_was_received_and_from_where_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	struct address from = address_of(4711);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_in(s, slot, EPOCH | 6, &c.address, 8100000);
	slots_set_in(s, slot, EPOCH | 8, &from, 8200000);
	slots_close(s);
	patch(&c, EPOCH | 1, 8, 0xfd);
	c.address = from;
	c.last_us = 8200000;
	assert_restored(&c);
}

static void test_an_older_blob_does_not_reopen_the_window(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	patch(&c, EPOCH | 1, 5, 0x0d); /* 4 and 1 are not in it */
	slots_put(s, slot, &c);
	slots_close(s);
	patch(&c, EPOCH | 1, 5, 0x1f);
	assert_restored(&c);

	s = open_slots(16);
	slots_set_in(s, slot, EPOCH | 9, &c.address, c.last_us);
	slots_put(s, slot, &c);
	slots_close(s);
	patch(&c, EPOCH | 1, 9, 0x1f1);
	assert_restored(&c);
}

static void test_an_identity_that_was_proven_later_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	struct dtls_identity who = c.identity;
	uint32_t slot;

	(void)state;
	memset(&c.identity, 0, sizeof(c.identity));
	slot = put(s, &c);
	slots_set_identity(s, slot, &who);
	slots_close(s);
	c.identity = who;
	assert_restored(&c);
}

static void test_the_last_note_is_restored(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_note(s, slot, "first", 5);
	slots_set_note(s, slot, "de", 2);
	slots_close(s);
	memset(c.note, 0, sizeof(c.note));
	memcpy(c.note, "de", 2);
	c.note_len = 2;
	assert_restored(&c);

	s = open_slots(16);
	slots_set_note(s, slot, NULL, 0);
	slots_close(s);
	c.note_len = 0;
	memset(c.note, 0, sizeof(c.note));
	assert_restored(&c);
}

static void test_a_blob_that_is_none_is_not_kept(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	c.blob_len = SLOT_BLOB_MAX + 1;
	slots_put(s, slot, &c);
	assert_false(slots_get(s, slot, &c));
	c = session(1);
	c.blob[BLOB_LEN - 1] = 1;
	slots_put(s, slot, &c);
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
}

static void test_slot_zero_does_nothing(void **state)
{
	struct slots *s = open_slots(1);
	struct slot_content c = session(1), got;

	(void)state;
	slots_put(s, 0, &c);
	slots_put(s, 2, &c);
	slots_put(NULL, 1, &c);
	slots_set_out(s, 0, EPOCH | 9);
	slots_set_in(s, 0, EPOCH | 9, &c.address, 1);
	slots_set_identity(s, 0, &c.identity);
	slots_set_note(s, 0, "x", 1);
	slots_drop(s, 0);
	assert_false(slots_get(s, 0, &got));
	assert_int_equal(slots_take(NULL), 0);
	slots_close(s);
	slots_close(NULL);
	reopen(1);
	assert_int_equal(found.count + found.damaged, 0);
}

/* --- Taking and dropping --- */

static void test_every_slot_is_taken_once(void **state)
{
	struct slots *s = open_slots(600);
	bool taken[601] = {false};

	(void)state;
	for (int i = 0; i < 600; i++) {
		uint32_t slot = slots_take(s);

		assert_in_range(slot, 1, 600);
		assert_false(taken[slot]);
		taken[slot] = true;
	}
	assert_int_equal(slots_take(s), 0);
	slots_drop(s, 17);
	assert_int_equal(slots_take(s), 17);
	assert_int_equal(slots_take(s), 0);
	slots_close(s);
}

static void test_slots_in_use_are_not_taken_after_a_restart(void **state)
{
	struct slots *s = open_slots(4);
	struct slot_content c[2] = {session(1), session(2)};

	(void)state;
	put(s, &c[0]);
	slots_take(s); /* and nothing is put there */
	put(s, &c[1]);
	slots_close(s);

	s = open_slots(4);
	restore(s);
	assert_int_equal(found.count, 2);
	assert_int_equal(slots_take(s) + slots_take(s), 2 + 4);
	assert_int_equal(slots_take(s), 0);
	slots_close(s);
}

static bool file_holds(const void *bytes, size_t len)
{
	static uint8_t content[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, content, sizeof(content));

	close(fd);
	return memmem(content, n > 0 ? (size_t)n : 0, bytes, len) != NULL;
}

static void test_nothing_of_a_dropped_session_is_left(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	assert_true(file_holds(c.blob, 16));
	assert_true(file_holds(c.identity.id, 8));
	slots_drop(s, slot);
	assert_false(file_holds(c.blob, 16));
	assert_false(file_holds(c.identity.id, 8));
	slots_close(s);
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
}

static void test_a_full_tmpfs_is_an_answer(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		struct slots *s;
		struct slot_content c = session(1);
		unsigned n = 0;

		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", dir, "tmpfs", 0, "size=300k,mode=0700") != 0)
			_exit(77);
		if (slots_open(&s, path, 100000, err, sizeof(err)) != 0)
			_exit(1);
		for (uint32_t slot; n < 1000 && (slot = slots_take(s)) != 0; n++)
			slots_put(s, slot, &c);
		_exit(n == 256 && strstr(last_line, "event=slots_no_memory") ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- Whose file it is, and where --- */

static void assert_refused(const char *where, const char *why)
{
	struct slots *s = NULL;

	assert_int_equal(slots_open(&s, where, 16, err, sizeof(err)), -1);
	assert_null(s);
	if (!strstr(err, why))
		fail_msg("expected \"%s\" in: %s", why, err);
}

static void test_a_disk_is_refused(void **state)
{
	char on_disk[] = "build/fg-slots-XXXXXX", file[64];

	(void)state;
	assert_non_null(mkdtemp(on_disk));
	snprintf(file, sizeof(file), "%s/worker-0.slots", on_disk);
	assert_refused(file, "is not on a tmpfs");
	assert_int_equal(rmdir(on_disk), 0); /* nothing was made there */
}

static void test_a_second_process_is_locked_out(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);
	pid_t child;
	int status;

	(void)state;
	put(s, &c);
	child = fork();
	if (child == 0) {
		struct slots *other;

		_exit(slots_open(&other, path, 16, err, sizeof(err)) == -1 &&
				      strstr(err, "in use by another process")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_refused(path, "in use by another process");
	slots_close(s);
	assert_restored(&c);
}

static void test_the_file_is_for_its_owner_only(void **state)
{
	struct stat st;

	(void)state;
	reopen(16);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(chmod(path, 0640), 0);
	assert_refused(path, "mode 600");
}

static void test_a_directory_that_others_may_enter_is_refused(void **state)
{
	(void)state;
	assert_int_equal(chmod(dir, 0750), 0);
	assert_refused(path, "with mode 700");
	assert_refused("/dev/shm/worker-0.slots", "with mode 700");
}

static void test_links_are_refused(void **state)
{
	char link[128], there[192];

	(void)state;
	snprintf(there, sizeof(there), "%s/elsewhere", dir);
	assert_int_equal(symlink(there, path), 0);
	assert_refused(path, "cannot open");
	assert_int_equal(unlink(path), 0);

	snprintf(link, sizeof(link), "%s-link", dir);
	assert_int_equal(symlink(dir, link), 0);
	snprintf(there, sizeof(there), "%s/worker-0.slots", link);
	assert_refused(there, "not a link");
	assert_int_equal(unlink(link), 0);
}

static void test_a_missing_directory_is_made(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(rmdir(dir), 0);
	reopen(16);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_somebody_elses_file_is_left_alone(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_int_equal(write(fd, "my thesis", 9), 9);
	close(fd);
	assert_refused(path, "not a file of sessions");
	assert_true(file_holds("my thesis", 9));
}

static void test_zero_slots_are_refused(void **state)
{
	struct slots *s;

	(void)state;
	assert_int_equal(slots_open(&s, path, 0, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "expected 1 to"));
}

/* --- What makes the content worthless --- */

static void change_header(void (*change)(struct slots_header *h))
{
	int fd = open(path, O_RDWR);
	struct slots_header h;

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	change(&h);
	h.crc = slots_header_crc(&h);
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
}

static void other_boot(struct slots_header *h)
{
	h->boot_id[3] ^= 1;
}

static void other_layout(struct slots_header *h)
{
	h->layout++;
}

static void other_slot_size(struct slots_header *h)
{
	h->slot_size += 8;
}

static void other_mbedtls(struct slots_header *h)
{
	h->mbedtls++;
}

static void nothing_changed(struct slots_header *h)
{
	(void)h;
}

static void assert_emptied_after(void (*change)(struct slots_header *h), const char *why)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	put(s, &c);
	slots_close(s);
	change_header(nothing_changed);
	assert_restored(&c);
	change_header(change);
	last_line[0] = '\0';
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
	assert_false(file_holds(c.blob, 16));
	assert_non_null(strstr(last_line, "event=slots_emptied"));
	assert_non_null(strstr(last_line, why));
}

static void test_sessions_of_another_boot_are_not_used(void **state)
{
	(void)state;
	assert_emptied_after(other_boot, "another boot");
}

static void test_sessions_of_another_version_are_not_used(void **state)
{
	(void)state;
	assert_emptied_after(other_layout, "another version of Fieldgate");
	assert_emptied_after(other_slot_size, "another version of Fieldgate");
	assert_emptied_after(other_mbedtls, "another version of Mbed TLS");
}

static void test_a_file_that_was_cut_is_emptied(void **state)
{
	struct slots *s = open_slots(16);
	struct slot_content c = session(1);

	(void)state;
	put(s, &c);
	slots_close(s);
	assert_int_equal(truncate(path, SLOTS_HEADER_LEN + 15 * sizeof(struct slot)), 0);
	reopen(16);
	assert_int_equal(found.count + found.damaged, 0);
	assert_non_null(strstr(last_line, "is damaged"));
}

static void test_a_file_whose_maker_was_killed_is_new(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, 100000), 0);
	close(fd);
	reopen(16);
	assert_string_equal(last_line, "");
}

/* Every bit of the header and of a slot that has all parts and in which all halves were used.
 * Either it is found, or the bit did not count. */
static void test_every_flipped_bit_is_found(void **state)
{
	static uint8_t good[SLOTS_HEADER_LEN + 4 * sizeof(struct slot)];
	struct slots *s = open_slots(4);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);
	size_t in_slot = 0, harmless = 0;
	int fd;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		slots_set_in(s, slot, EPOCH | (20 + i), &c.address, 9000000 + i);
		slots_set_note(s, slot, "0123456789", 4 + i);
	}
	slots_set_out(s, slot, EPOCH | 123456789);
	assert_true(slots_get(s, slot, &c));
	slots_close(s);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, good, sizeof(good), 0), sizeof(good));

	for (size_t bit = 0; bit < 8 * sizeof(good); bit++) {
		size_t byte = bit / 8;
		uint8_t flipped = good[byte] ^ (uint8_t)(1U << bit % 8);

		if (byte == sizeof(struct slots_header))
			bit = (size_t)8 * (byte = SLOTS_HEADER_LEN); /* nothing between */
		if (byte >= SLOTS_HEADER_LEN + slot * sizeof(struct slot))
			break;
		flipped = good[byte] ^ (uint8_t)(1U << bit % 8);
		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)byte), 1);
		if (slots_open(&s, path, 4, err, sizeof(err)) == 0) {
			restore(s);
			slots_close(s);
			assert_true(found.count <= 1);
			if (found.count == 1) {
				assert_same(&found.c[0], &c);
				assert_int_equal(found.damaged, 0);
			}
			if (byte >= SLOTS_HEADER_LEN) {
				in_slot++;
				harmless += found.count;
				assert_int_equal(found.count + found.damaged, 1);
			}
		}
		assert_int_equal(ftruncate(fd, sizeof(good)), 0);
		assert_int_equal(pwrite(fd, good, sizeof(good), 0), sizeof(good));
	}
	close(fd);
	assert_int_equal(in_slot, 8 * sizeof(struct slot));
	/* The halves that do not count, nothing else. */
	assert_int_equal(harmless, 8 * (sizeof(struct slot_in) + sizeof(struct slot_note)));
}

/* --- Another number of slots --- */

static void fill(size_t slots, unsigned sessions)
{
	struct slots *s = open_slots(slots);

	for (unsigned i = 0; i < sessions; i++) {
		struct slot_content c = session(i);

		put(s, &c);
	}
	slots_close(s);
}

static bool found_id(uint64_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < found.count; i++)
		n += found.c[i].id == id;
	assert_true(n <= 1);
	return n == 1;
}

static void test_more_slots_keep_all_sessions(void **state)
{
	(void)state;
	fill(300, 300);
	reopen(1000);
	assert_int_equal(found.count, 300);
	assert_int_equal(found.damaged, 0);
}

static void test_fewer_slots_keep_all_sessions_that_fit(void **state)
{
	struct slots *s;
	struct stat st;

	(void)state;
	fill(400, 400);
	s = open_slots(400);
	for (uint32_t slot = 1; slot <= 200; slot++)
		slots_drop(s, slot);
	slots_close(s);
	reopen(210);
	assert_int_equal(found.count, 200);
	assert_int_equal(found.damaged, 0);
	for (unsigned i = 200; i < 400; i++) {
		struct slot_content c = session(i);

		assert_true(found_id(c.id));
		for (size_t k = 0; k < found.count; k++)
			if (found.c[k].id == c.id)
				assert_same(&found.c[k], &c);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SLOTS_HEADER_LEN + 210 * sizeof(struct slot));
	assert_string_equal(last_line, "");

	reopen(150);
	assert_int_equal(found.count, 150);
	assert_non_null(strstr(last_line, "event=slots_too_few"));
	assert_non_null(strstr(last_line, "50 sessions"));
}

/* --- Another number of workers --- */

static void redistribute(unsigned workers, long moved)
{
	long n = slots_redistribute(dir, workers, 64, err, sizeof(err));

	if (n < 0)
		fail_msg("%s", err);
	assert_int_equal(n, moved);
}

static void open_worker(unsigned worker)
{
	snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, worker);
	reopen(64);
	assert_int_equal(found.damaged, 0);
}

/* Byte 0 of these CIDs is 0..39. */
static void assert_distributed(unsigned workers, unsigned sessions)
{
	size_t all = 0;

	for (unsigned w = 0; w < workers; w++) {
		open_worker(w);
		all += found.count;
		for (unsigned i = 0; i < sessions; i++) {
			struct slot_content c = session(i);

			assert_int_equal(found_id(c.id), i % workers == w);
		}
	}
	assert_int_equal(all, sessions);
	snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, workers);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_other_numbers_of_workers_lose_no_cid_session(void **state)
{
	(void)state;
	fill(64, 40);
	redistribute(1, 0);
	assert_distributed(1, 40);
	redistribute(4, 30);
	assert_distributed(4, 40);
	redistribute(4, 0);
	redistribute(2, 20);
	assert_distributed(2, 40);
	redistribute(3, 26);
	assert_distributed(3, 40);
	assert_string_equal(last_line, "");
}

static void test_a_moved_session_is_the_same(void **state)
{
	struct slots *s = open_slots(64);
	struct slot_content c = session(7);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 99);
	slots_close(s);
	redistribute(4, 1);
	open_worker(3);
	patch(&c, EPOCH | 99, 5, 0x1f);
	assert_int_equal(found.count, 1);
	assert_same(&found.c[0], &c);
}

static void test_sessions_without_cid_stay_or_go_with_their_worker(void **state)
{
	struct slot_content c = session(9);

	(void)state;
	c.has_cid = false;
	for (unsigned w = 0; w < 3; w++) {
		struct slots *s;

		snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, w);
		s = open_slots(64);
		put(s, &c);
		slots_close(s);
	}
	redistribute(2, 0);
	assert_non_null(strstr(last_line, "event=slots_lost"));
	assert_non_null(strstr(last_line, "1 sessions"));
	open_worker(0);
	assert_int_equal(found.count, 1);
	open_worker(1);
	assert_int_equal(found.count, 1);
}

static void test_workers_with_too_few_slots_lose_the_rest(void **state)
{
	(void)state;
	fill(64, 40);
	assert_int_equal(slots_redistribute(dir, 2, 4, err, sizeof(err)), 4);
	assert_non_null(strstr(last_line, "event=slots_lost"));
	assert_non_null(strstr(last_line, "16 sessions"));
	reopen(64);
	assert_int_equal(found.count, 20); /* these had not to move */
}

static void test_nothing_moves_while_a_worker_runs(void **state)
{
	struct slots *s;

	(void)state;
	fill(64, 4);
	s = open_slots(64);
	assert_int_equal(slots_redistribute(dir, 2, 64, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "in use by another process"));
	slots_close(s);
	reopen(64);
	assert_int_equal(found.count, 4);
}

static void test_other_files_are_left_alone(void **state)
{
	char other[128];
	int fd;

	(void)state;
	snprintf(other, sizeof(other), "%s/worker-07.slots", dir);
	fd = open(other, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	redistribute(2, 0);
	assert_int_equal(access(other, F_OK), 0);
	redistribute(1, 0);
	assert_int_equal(access(other, F_OK), 0);
}

/* --- SIGKILL at any moment --- */

#define KILLED_SLOTS 4
#define SEQ_MAX	     65536
#define KILLS	     200

struct told { /* in memory that the killed process shares with its parent */
	_Atomic uint64_t sent[KILLED_SLOTS]; /* numbers below were used */
	_Atomic uint8_t used[KILLED_SLOTS][SEQ_MAX];
	_Atomic uint64_t tried[KILLED_SLOTS]; /* the number that set_in is called for */
	_Atomic unsigned noted[KILLED_SLOTS], noting[KILLED_SLOTS];
	_Atomic bool putting[KILLED_SLOTS];
	_Atomic bool ready;
};

static void set_note(struct slots *s, struct told *t, unsigned i, uint32_t slot, unsigned n)
{
	uint8_t note[DTLS_NOTE_MAX];

	memset(note, (int)(n & 0xff), sizeof(note));
	t->noting[i] = n;
	slots_set_note(s, slot, note, 1 + n % DTLS_NOTE_MAX);
	t->noted[i] = n;
}

/* Never returns: it is killed, or the number of steps is over. */
static void change_until_killed(struct told *t, unsigned seed)
{
	struct slots *s = open_slots(16);
	uint32_t slot[KILLED_SLOTS];
	uint64_t top = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < KILLED_SLOTS; i++) {
		struct slot_content c = session(i);

		patch(&c, EPOCH | 1, 0, 0);
		t->sent[i] = 1;
		slot[i] = put(s, &c);
		set_note(s, t, i, slot[i], 1);
	}
	t->ready = true;
	srand(seed);
	for (uint64_t step = 2; step < 50000000; step++) {
		unsigned i = (unsigned)step % KILLED_SLOTS;
		uint64_t seq;
		struct address from;

		slots_set_out(s, slot[i], EPOCH | step);
		t->sent[i] = step;

		seq = top > 20 && rand() % 4 == 0 ? top - (uint64_t)(rand() % 20) : ++top;
		if (seq < SEQ_MAX) {
			from = address_of((unsigned)seq);
			t->tried[i] = seq;
			slots_set_in(s, slot[i], EPOCH | seq, &from, (int64_t)seq);
			t->used[i][seq] = 1;
		}
		set_note(s, t, i, slot[i], (unsigned)step);
		if (rand() % 64 == 0) {
			struct slot_content c;

			if (!slots_get(s, slot[i], &c))
				_exit(1);
			patch(&c, EPOCH | 1, 0, 0); /* as it was saved long ago */
			t->putting[i] = true;
			slots_put(s, slot[i], &c);
			t->putting[i] = false;
		}
	}
	_exit(2);
}

static bool is_accepted(const struct blob_counters *c, uint64_t seq)
{
	if (seq > c->top)
		return true;
	return c->top - seq < 64 && !(c->window >> (c->top - seq) & 1);
}

static void check_survivor(const struct told *t, const struct slot_content *c)
{
	unsigned i = (unsigned)(c->id - 1000), n = 0;
	struct blob_counters counters = counters_of(c);
	struct address from;

	assert_in_range(i, 0, KILLED_SLOTS - 1);
	assert_true(counters.out >= (EPOCH | t->sent[i]));
	for (uint64_t seq = 0; seq < SEQ_MAX; seq++)
		if (t->used[i][seq])
			assert_false(is_accepted(&counters, seq));
	from = address_of(c->last_us < SEQ_MAX ? (unsigned)c->last_us : i);
	assert_true(address_equal(&c->address, &from));
	if (c->last_us < SEQ_MAX && (uint64_t)c->last_us != t->tried[i])
		assert_true(t->used[i][c->last_us]);

	n = c->note[0] == (t->noted[i] & 0xff) ? t->noted[i] : t->noting[i];
	assert_int_equal(c->note_len, 1 + n % DTLS_NOTE_MAX);
	for (size_t k = 0; k < c->note_len; k++)
		assert_int_equal(c->note[k], n & 0xff);
}

static void test_sigkill_at_any_moment_repeats_no_number(void **state)
{
	struct told *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t whole = 0, torn = 0;

	(void)state;
	assert_true(t != MAP_FAILED);
	for (unsigned kill_nr = 0; kill_nr < KILLS; kill_nr++) {
		size_t putting = 0;
		pid_t child;
		int status;

		memset(t, 0, sizeof(*t));
		unlink(path);
		child = fork();
		if (child == 0)
			change_until_killed(t, kill_nr);
		for (unsigned ms = 0; ms < 20000 && !t->ready; ms++)
			usleep(1000);
		assert_true(t->ready);
		usleep((useconds_t)(rand() % 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

		reopen(16);
		for (unsigned i = 0; i < KILLED_SLOTS; i++)
			putting += t->putting[i];
		assert_true(found.damaged <= putting);
		assert_int_equal(found.count + found.damaged, KILLED_SLOTS);
		for (size_t k = 0; k < found.count; k++)
			check_survivor(t, &found.c[k]);
		whole += found.count;
		torn += found.damaged;
	}
	assert_int_equal(whole + torn, KILLS * KILLED_SLOTS);
	assert_true(whole > torn);
	munmap(t, sizeof(*t));
}

/* What a SIGKILL in slots_put leaves. */
static void test_a_torn_slot_is_free_again(void **state)
{
	struct slots *s = open_slots(1);
	struct slot_content c = session(1);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_publish(&s->slot[slot - 1].state, STATE_TORN);
	slots_close(s);
	s = open_slots(1);
	assert_int_equal(slots_take(s), 0);
	restore(s);
	assert_int_equal(found.damaged, 1);
	assert_int_equal(slots_take(s), 1);
	assert_false(file_holds(c.blob, 16));
	slots_close(s);
}

/* --- Memory that is not there --- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);

static int fail_at; /* the how-manieth allocation from now; 0: none */

static bool fails_now(void)
{
	return fail_at > 0 && --fail_at == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

char *__wrap_strdup(const char *text)
{
	return fails_now() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
	return fails_now() ? NULL : __real_strndup(text, len);
}

static void test_a_failed_allocation_is_an_error_and_loses_nothing(void **state)
{
	int failures = 0, rc = -1;

	(void)state;
	fill(16, 4);
	while (rc != 0 && failures < 100) {
		struct slots *s = NULL;

		err[0] = '\0';
		fail_at = failures + 1;
		rc = slots_open(&s, path, 16, err, sizeof(err));
		fail_at = 0;
		if (rc) {
			failures++;
			assert_non_null(strstr(err, path));
		}
		slots_close(s);
	}
	assert_int_equal(failures, 4);
	reopen(16);
	assert_int_equal(found.count, 4);
}

static void test_a_failed_allocation_moves_no_session_into_nowhere(void **state)
{
	int failures = 0;
	long rc = -1;

	(void)state;
	fill(64, 40);
	while (rc < 0 && failures < 1000) {
		fail_at = failures + 1;
		rc = slots_redistribute(dir, 4, 64, err, sizeof(err));
		fail_at = 0;
		failures += rc < 0;
	}
	assert_true(failures > 10);
	assert_distributed(4, 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_stand_at_fixed_places_of_the_tail),
		cmocka_unit_test(test_a_tail_with_alpn_is_refused),
		cmocka_unit_test(test_the_window_follows_what_is_received),
		TEST(test_a_session_comes_back_whole),
		TEST(test_a_session_without_cid_identity_and_note_comes_back_whole),
		TEST(test_the_largest_content_comes_back_whole),
		TEST(test_the_next_number_is_restored),
		TEST(test_the_next_number_never_goes_back),
		TEST(test_another_session_in_the_same_slot_has_its_own_numbers),
		TEST(test_another_epoch_tears_the_slot),
		TEST(test_what_was_received_and_from_where_is_restored),
		TEST(test_an_older_blob_does_not_reopen_the_window),
		TEST(test_an_identity_that_was_proven_later_is_restored),
		TEST(test_the_last_note_is_restored),
		TEST(test_a_blob_that_is_none_is_not_kept),
		TEST(test_slot_zero_does_nothing),
		TEST(test_every_slot_is_taken_once),
		TEST(test_slots_in_use_are_not_taken_after_a_restart),
		TEST(test_nothing_of_a_dropped_session_is_left),
		TEST(test_a_full_tmpfs_is_an_answer),
		TEST(test_a_disk_is_refused),
		TEST(test_a_second_process_is_locked_out),
		TEST(test_the_file_is_for_its_owner_only),
		TEST(test_a_directory_that_others_may_enter_is_refused),
		TEST(test_links_are_refused),
		TEST(test_a_missing_directory_is_made),
		TEST(test_somebody_elses_file_is_left_alone),
		TEST(test_zero_slots_are_refused),
		TEST(test_sessions_of_another_boot_are_not_used),
		TEST(test_sessions_of_another_version_are_not_used),
		TEST(test_a_file_that_was_cut_is_emptied),
		TEST(test_a_file_whose_maker_was_killed_is_new),
		TEST(test_every_flipped_bit_is_found),
		TEST(test_more_slots_keep_all_sessions),
		TEST(test_fewer_slots_keep_all_sessions_that_fit),
		TEST(test_other_numbers_of_workers_lose_no_cid_session),
		TEST(test_a_moved_session_is_the_same),
		TEST(test_sessions_without_cid_stay_or_go_with_their_worker),
		TEST(test_workers_with_too_few_slots_lose_the_rest),
		TEST(test_nothing_moves_while_a_worker_runs),
		TEST(test_other_files_are_left_alone),
		TEST(test_sigkill_at_any_moment_repeats_no_number),
		TEST(test_a_torn_slot_is_free_again),
		TEST(test_a_failed_allocation_is_an_error_and_loses_nothing),
		TEST(test_a_failed_allocation_moves_no_session_into_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
