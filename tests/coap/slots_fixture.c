/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap/slots_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char dir[64], path[96], err[512];
char last_line[LOG_LINE_MAX + 1];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

int make_directory(void **state)
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

int remove_directory(void **state)
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

struct address address_of(unsigned n)
{
	struct address a = {.port = (uint16_t)n};

	memset(a.ip, (int)(n & 0xff), sizeof(a.ip));
	memset(a.local, (int)(n >> 8 & 0xff), sizeof(a.local));
	return a;
}

struct dtls_identity identity_of(unsigned n)
{
	struct dtls_identity who = {.kind = (uint8_t)n};

	snprintf(who.id, sizeof(who.id), "device-%u", n);
	memset(who.fingerprint, (int)n, sizeof(who.fingerprint));
	return who;
}

struct slot_content session(unsigned n)
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

struct blob_counters counters_of(const struct slot_content *c)
{
	struct blob_counters counters;

	assert_int_equal(blob_counters(c->blob, c->blob_len, &counters), 0);
	return counters;
}

void patch(struct slot_content *c, uint64_t out, uint64_t top, uint64_t window)
{
	struct blob_counters counters = {.out = out, .top = top, .window = window};

	assert_int_equal(blob_patch(c->blob, c->blob_len, &counters), 0);
}

void assert_same(const struct slot_content *a, const struct slot_content *b)
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

struct slots *open_slots(size_t count)
{
	struct slots *s = NULL;

	if (slots_open(&s, path, count, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return s;
}

uint32_t put(struct slots *s, const struct slot_content *c)
{
	uint32_t slot = slots_take(s);

	assert_int_not_equal(slot, 0);
	slots_put(s, slot, c);
	return slot;
}

struct found found;

static void keep_found(void *arg, uint32_t slot, const struct slot_content *c)
{
	struct found *f = arg;

	assert_true(f->count < FOUND_MAX);
	f->slot[f->count] = slot;
	f->c[f->count++] = *c;
}

void restore(struct slots *s)
{
	memset(&found, 0, sizeof(found));
	slots_restore(s, keep_found, &found, &found.damaged);
}

void reopen(size_t count)
{
	struct slots *s = open_slots(count);

	restore(s);
	slots_close(s);
}

/* What a process finds that starts now is exactly this session. */
void assert_restored(const struct slot_content *expected)
{
	reopen(16);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(found.count, 1);
	assert_same(&found.c[0], expected);
}

bool file_holds(const void *bytes, size_t len)
{
	static uint8_t content[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, content, sizeof(content));

	close(fd);
	return memmem(content, n > 0 ? (size_t)n : 0, bytes, len) != NULL;
}

void fill(size_t slots, unsigned sessions)
{
	struct slots *s = open_slots(slots);

	for (unsigned i = 0; i < sessions; i++) {
		struct slot_content c = session(i);

		put(s, &c);
	}
	slots_close(s);
}

bool found_id(uint64_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < found.count; i++)
		n += found.c[i].id == id;
	assert_true(n <= 1);
	return n == 1;
}
