/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls/slots: where the file may be and who may have it, and what makes what is in it
 * worthless. Nothing of a damaged slot is believed.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=strdup,--wrap=strndup
 */
#include "tests/coap/slots_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		TEST(test_a_failed_allocation_is_an_error_and_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
