/* SPDX-License-Identifier: Apache-2.0 */
/* The copy on disk: what was saved is loaded again, and nothing else is. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/registry/snapshot.h"
#include "tests/unit/x509_fixture.h"

static char dir[] = "/tmp/fieldgate-snapshot-XXXXXX";
static char path[64], temporary[72];
static char err[512];
static struct certificate_der ca;
static uint8_t ca_fingerprint[FINGERPRINT_LEN];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/registry", dir);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	OPENSSL_free((void *)ca.der);
	unlink(path);
	unlink(temporary);
	return rmdir(dir);
}

static void add_credential(struct snapshot_builder *b, enum credential_kind kind, int n,
			   bool revoked, const void *material, size_t len)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	memset(fingerprint, n, sizeof(fingerprint));
	assert_int_equal(snapshot_add_credential(b, kind, fingerprint, "dev-1", revoked, material,
						 len, err, sizeof(err)),
			 0);
}

static void add_authority(struct snapshot_builder *b)
{
	if (!ca.der) {
		struct x509_ca made = x509_make_ca(
			&(struct x509_profile){.cn = "device CA", .constraints = "CA:TRUE"});

		ca = x509_der(made.x);
		x509_free_ca(&made);
		assert_true(EVP_Digest(ca.der, ca.len, ca_fingerprint, NULL, EVP_sha256(), NULL));
	}
	assert_int_equal(snapshot_add_authority(b, "device-ca-1", ca_fingerprint, ca.der, ca.len,
						ENROLMENT_PENDING, "none", err, sizeof(err)),
			 0);
}

static const struct snapshot *small_fleet(void)
{
	const uint8_t psk[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 2};
	struct snapshot_builder *b = snapshot_builder_new();

	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	assert_int_equal(snapshot_add_policy(b, "none", err, sizeof(err)), 0);
	assert_int_equal(snapshot_add_policy_rule(b, "device", false, POLICY_RECEIVE,
						  "m/d/${device}/#", err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_policy_rule(b, "device", true, POLICY_SUBSCRIBE, "a/+", err,
						  sizeof(err)),
			 0);
	assert_int_equal(
		snapshot_add_policy_rule(b, "device", false, POLICY_RELAY, "#", err, sizeof(err)),
		0);
	assert_int_equal(snapshot_add_principal(b, "dev-1", PRINCIPAL_DEVICE, PRINCIPAL_SUSPENDED,
						"device", err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_principal(b, "backend", PRINCIPAL_SERVICE, PRINCIPAL_ACTIVE,
						"none", err, sizeof(err)),
			 0);
	add_credential(b, CREDENTIAL_X509, 1, true, NULL, 0);
	add_credential(b, CREDENTIAL_PSK, 2, false, "a\0b", 3);
	assert_int_equal(snapshot_limit_credential(b, CREDENTIAL_PSK, psk, -5,
						   INT64_C(253402300799), err, sizeof(err)),
			 0);
	assert_int_equal(
		snapshot_mark_credential(b, CREDENTIAL_PSK, psk, 0xfedcba98, err, sizeof(err)), 0);
	assert_int_equal(snapshot_add_rule(b,
					   &(struct snapshot_rule){.name = "hot",
								   .revision = 1795279005066444,
								   .sql = "SELECT * FROM 'a'",
								   .actions = "[]",
								   .error_action = "{}"},
					   err, sizeof(err)),
			 0);
	assert_int_equal(
		snapshot_add_rule(b, &(struct snapshot_rule){"cold", 2, "SELECT", "[{}]", NULL},
				  err, sizeof(err)),
		0);
	add_authority(b);
	assert_int_equal(
		snapshot_add_revoked(b, CREDENTIAL_X509_KEY, psk, NULL, NULL, err, sizeof(err)), 0);
	return snapshot_build(b, -7);
}

/* The file as bytes; *len is set. */
static uint8_t *read_back(size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(4096);

	assert_non_null(f);
	assert_non_null(data);
	*len = fread(data, 1, 4096, f);
	assert_true(*len > 0 && *len < 4096);
	fclose(f);
	return data;
}

static void write_file(const void *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static uint8_t *saved_fleet(size_t *len)
{
	const struct snapshot *s = small_fleet();

	assert_int_equal(snapshot_save(s, path), 0);
	snapshot_release(s);
	return read_back(len);
}

static int load(const struct snapshot **s)
{
	err[0] = '\0';
	return snapshot_load(s, path, err, sizeof(err));
}

/* Make the checksum right again, so that the parser sees what was changed. */
static void mend_checksum(uint8_t *data, size_t len)
{
	uint32_t crc = crc32c(0, data, len - 4);

	for (size_t i = 0; i < 4; i++)
		data[len - 4 + i] = (uint8_t)(crc >> 8 * i);
}

static void test_what_was_saved_is_loaded(void **state)
{
	const uint8_t psk[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 2};
	const uint8_t x509[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 1};
	const struct snapshot *s;
	const struct principal *p;
	const struct credential *c;
	size_t len;

	(void)state;
	free(saved_fleet(&len));
	assert_int_equal(load(&s), 0);
	assert_int_equal(snapshot_version(s), -7);
	assert_int_equal(snapshot_principal_count(s), 2);
	p = snapshot_principal(s, "dev-1");
	assert_int_equal(p->kind, PRINCIPAL_DEVICE);
	assert_int_equal(p->state, PRINCIPAL_SUSPENDED);
	assert_string_equal(p->policy->name, "device");
	assert_int_equal(p->policy->rule_count, 3);
	assert_false(p->policy->rules[0].deny);
	assert_int_equal(p->policy->rules[0].action, POLICY_RECEIVE);
	assert_string_equal(p->policy->rules[0].filter, "m/d/${device}/#");
	assert_true(p->policy->rules[1].deny);
	assert_int_equal(p->policy->rules[1].action, POLICY_SUBSCRIBE);
	assert_int_equal(p->policy->rules[2].action, POLICY_RELAY);
	assert_int_equal(snapshot_credential_count(s, p), 1);
	c = snapshot_credential(s, CREDENTIAL_PSK, psk);
	assert_ptr_equal(c->principal, p);
	assert_int_equal(c->material_len, 3);
	assert_memory_equal(c->material, "a\0b", 3);
	assert_int_equal(c->not_before, -5);
	assert_int_equal(c->not_after, INT64_C(253402300799));
	assert_int_equal(c->edition, 0xfedcba98);
	c = snapshot_credential(s, CREDENTIAL_X509, x509);
	assert_true(c->revoked);
	assert_null(c->material);
	assert_true(c->not_before == INT64_MIN && c->not_after == INT64_MAX);
	p = snapshot_principal(s, "backend");
	assert_int_equal(p->kind, PRINCIPAL_SERVICE);
	assert_int_equal(p->policy->rule_count, 0);
	snapshot_release(s);
}

static void test_rules_are_loaded_as_they_were(void **state)
{
	const struct snapshot *s;
	const struct snapshot_rule *hot, *cold;
	size_t len;

	(void)state;
	free(saved_fleet(&len));
	assert_int_equal(load(&s), 0);
	assert_int_equal(snapshot_rule_count(s), 2);
	hot = snapshot_rule_at(s, 0);
	assert_string_equal(hot->name, "hot");
	assert_int_equal(hot->revision, 1795279005066444);
	assert_string_equal(hot->sql, "SELECT * FROM 'a'");
	assert_string_equal(hot->actions, "[]");
	assert_string_equal(hot->error_action, "{}");
	cold = snapshot_rule_at(s, 1);
	assert_string_equal(cold->actions, "[{}]");
	assert_null(cold->error_action);
	snapshot_release(s);
}

static void test_authorities_and_revocations_are_loaded_as_they_were(void **state)
{
	const uint8_t twos[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 2};
	const struct snapshot *s;
	const struct authority *a;
	size_t len;

	(void)state;
	free(saved_fleet(&len));
	assert_int_equal(load(&s), 0);
	assert_int_equal(snapshot_authority_count(s), 1);
	a = snapshot_authority_at(s, 0);
	assert_ptr_equal(snapshot_authority(s, ca_fingerprint), a);
	assert_null(snapshot_authority(s, twos));
	assert_string_equal(a->name, "device-ca-1");
	assert_int_equal(a->enrolment, ENROLMENT_PENDING);
	assert_string_equal(a->policy->name, "none");
	assert_int_equal(a->certificate_len, ca.len);
	assert_memory_equal(a->certificate, ca.der, ca.len);
	assert_true(snapshot_was_revoked(s, CREDENTIAL_X509_KEY, twos));
	assert_false(snapshot_was_revoked(s, CREDENTIAL_X509, twos));
	snapshot_release(s);
}

/* Who was enrolled and is not in the database yet is enrolled again after a restart. */
static void test_the_enrolled_are_not_saved(void **state)
{
	const uint8_t nine[FINGERPRINT_LEN] = {9};
	const struct snapshot *s = small_fleet();

	(void)state;
	assert_int_equal(snapshot_enrol(s, "new", nine, 0, 1, snapshot_authority_at(s, 0)->policy),
			 0);
	assert_int_equal(snapshot_save(s, path), 0);
	snapshot_release(s);
	assert_int_equal(load(&s), 0);
	assert_null(snapshot_principal(s, "new"));
	snapshot_release(s);
}

static void test_empty_snapshot_is_loaded(void **state)
{
	const struct snapshot *s = snapshot_build(snapshot_builder_new(), 0);

	(void)state;
	assert_int_equal(snapshot_save(s, path), 0);
	snapshot_release(s);
	assert_int_equal(load(&s), 0);
	assert_int_equal(snapshot_principal_count(s), 0);
	snapshot_release(s);
}

static void test_only_the_owner_may_read_it(void **state)
{
	struct stat st;
	size_t len;

	(void)state;
	free(saved_fleet(&len));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_missing_file_is_told_apart(void **state)
{
	const struct snapshot *s;

	(void)state;
	unlink(path);
	assert_int_equal(load(&s), -ENOENT);
	assert_null(s);
	assert_non_null(strstr(err, path));
}

static void test_every_flipped_byte_is_found(void **state)
{
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		data[i] ^= 0xff;
		write_file(data, len);
		if (load(&s) != -EBADMSG)
			fail_msg("byte %zu", i);
		assert_null(s);
		data[i] ^= 0xff;
	}
	free(data);
}

static void test_every_cut_is_found(void **state)
{
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		write_file(data, i);
		if (load(&s) != -EBADMSG)
			fail_msg("cut at %zu", i);
	}
	free(data);
}

/* Run with MODE=asan: nothing is read beyond the file, whatever its lengths say. */
static void test_parser_survives_what_the_checksum_cannot_see(void **state)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	for (size_t i = 0; i < len - 4; i++) {
		uint8_t was = data[i];

		for (size_t v = 0; v < sizeof(values); v++) {
			int rc;

			data[i] = values[v];
			mend_checksum(data, len);
			write_file(data, len);
			rc = load(&s);
			assert_true(rc == 0 || rc == -EBADMSG);
			snapshot_release(s);
		}
		data[i] = was;
	}
	for (size_t cut = 4; cut < len; cut++) {
		uint8_t *shorter = malloc(cut);

		assert_non_null(shorter);
		memcpy(shorter, data, cut);
		mend_checksum(shorter, cut);
		write_file(shorter, cut);
		assert_int_equal(load(&s), -EBADMSG);
		free(shorter);
	}
	free(data);
}

static void test_huge_counts_are_refused(void **state)
{
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	for (size_t count = 20; count < 44; count += 4) {
		uint8_t was[4];

		memcpy(was, data + count, 4);
		memset(data + count, 0xff, 4);
		mend_checksum(data, len);
		write_file(data, len);
		assert_int_equal(load(&s), -EBADMSG);
		memcpy(data + count, was, 4);
	}
	free(data);
}

static void test_bytes_behind_the_end_are_refused(void **state)
{
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	memset(data + len - 4, 0, 5);
	mend_checksum(data, len + 1);
	write_file(data, len + 1);
	assert_int_equal(load(&s), -EBADMSG);
	free(data);
}

static void test_the_format_before_rules_is_named(void **state)
{
	const struct snapshot *s;
	size_t len;
	uint8_t *data = saved_fleet(&len);

	(void)state;
	data[8] = 1;
	mend_checksum(data, len);
	write_file(data, len);
	assert_int_equal(load(&s), -EBADMSG);
	assert_non_null(strstr(err, "has format 1, this release reads 2 to 3"));
	free(data);
}

/* Built by hand, as the release before has written it. */
static void test_the_format_before_dates_is_read(void **state)
{
	static const char before[] = "FGREGSNP"
				     "\2\0\0\0"
				     "\7\0\0\0\0\0\0\0"
				     "\1\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0"
				     "\6\0device\0\0\0\0\0"
				     "\5\0dev-1\0\0\1\6\0device\0"
				     "\0\0"
				     "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
				     "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
				     "\5\0dev-1\0\0\0\0\0\0"
				     "crc.";
	const uint8_t x509[FINGERPRINT_LEN] = {[0 ... FINGERPRINT_LEN - 1] = 1};
	uint8_t data[sizeof(before) - 1];
	const struct snapshot *s;
	const struct credential *c;

	(void)state;
	memcpy(data, before, sizeof(data));
	mend_checksum(data, sizeof(data));
	write_file(data, sizeof(data));
	if (load(&s) != 0)
		fail_msg("%s", err);
	c = snapshot_credential(s, CREDENTIAL_X509, x509);
	assert_string_equal(c->principal->id, "dev-1");
	assert_true(c->not_before == INT64_MIN && c->not_after == INT64_MAX);
	snapshot_release(s);
}

static void test_what_is_no_such_file_is_refused(void **state)
{
	const struct snapshot *s;
	char big[128] = "";

	(void)state;
	assert_int_equal(snapshot_load(&s, dir, err, sizeof(err)), -EBADMSG);
	write_file(big, sizeof(big));
	assert_int_equal(load(&s), -EBADMSG);
	/* A hole of 1 TiB costs nothing on disk; it must cost nothing in memory either. */
	assert_int_equal(truncate(path, INT64_C(1) << 40), 0);
	assert_int_equal(load(&s), -EBADMSG);
	write_file("", 0);
	assert_int_equal(load(&s), -EBADMSG);
}

static void test_failed_save_leaves_the_old_copy(void **state)
{
	const struct snapshot *s = snapshot_build(snapshot_builder_new(), 9);
	size_t len;

	(void)state;
	free(saved_fleet(&len));
	/* A directory in the place of the temporary file: it cannot be removed or written. */
	assert_int_equal(mkdir(temporary, 0700), 0);
	assert_int_not_equal(snapshot_save(s, path), 0);
	assert_int_equal(rmdir(temporary), 0);
	snapshot_release(s);
	assert_int_equal(load(&s), 0);
	assert_int_equal(snapshot_version(s), -7);
	snapshot_release(s);
	s = snapshot_build(snapshot_builder_new(), 9);
	assert_int_equal(snapshot_save(s, "/nonexistent/registry"), -ENOENT);
	snapshot_release(s);
}

static void test_left_over_of_a_killed_process_is_replaced(void **state)
{
	const struct snapshot *s = small_fleet();
	int fd = open(temporary, O_CREAT | O_WRONLY, 0644);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "half", 4), 4);
	close(fd);
	assert_int_equal(snapshot_save(s, path), 0);
	snapshot_release(s);
	assert_int_equal(access(temporary, F_OK), -1);
	assert_int_equal(load(&s), 0);
	snapshot_release(s);
}

/* Prints how long it took: a figure, not a condition. */
static void test_a_hundred_thousand_devices(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	uint8_t fingerprint[FINGERPRINT_LEN] = {0};
	int64_t start, saved;
	const struct snapshot *s;
	char id[32];

	(void)state;
	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	for (int i = 0; i < 100000; i++) {
		snprintf(id, sizeof(id), "nrf-%015d", i);
		memcpy(fingerprint, &i, sizeof(i));
		assert_int_equal(snapshot_add_principal(b, id, PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE,
							"device", err, sizeof(err)),
				 0);
		assert_int_equal(snapshot_add_credential(b, CREDENTIAL_X509, fingerprint, id, false,
							 NULL, 0, err, sizeof(err)),
				 0);
	}
	s = snapshot_build(b, 1);
	start = clock_monotonic_us();
	assert_int_equal(snapshot_save(s, path), 0);
	saved = clock_monotonic_us();
	snapshot_release(s);
	assert_int_equal(load(&s), 0);
	print_message("100000 principals with credentials: saved in %d ms, loaded in %d ms\n",
		      (int)((saved - start) / US_PER_MS),
		      (int)((clock_monotonic_us() - saved) / US_PER_MS));
	assert_int_equal(snapshot_principal_count(s), 100000);
	snapshot_release(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_saved_is_loaded),
		cmocka_unit_test(test_rules_are_loaded_as_they_were),
		cmocka_unit_test(test_authorities_and_revocations_are_loaded_as_they_were),
		cmocka_unit_test(test_the_enrolled_are_not_saved),
		cmocka_unit_test(test_empty_snapshot_is_loaded),
		cmocka_unit_test(test_only_the_owner_may_read_it),
		cmocka_unit_test(test_missing_file_is_told_apart),
		cmocka_unit_test(test_every_flipped_byte_is_found),
		cmocka_unit_test(test_every_cut_is_found),
		cmocka_unit_test(test_parser_survives_what_the_checksum_cannot_see),
		cmocka_unit_test(test_huge_counts_are_refused),
		cmocka_unit_test(test_bytes_behind_the_end_are_refused),
		cmocka_unit_test(test_the_format_before_rules_is_named),
		cmocka_unit_test(test_the_format_before_dates_is_read),
		cmocka_unit_test(test_what_is_no_such_file_is_refused),
		cmocka_unit_test(test_failed_save_leaves_the_old_copy),
		cmocka_unit_test(test_left_over_of_a_killed_process_is_replaced),
		cmocka_unit_test(test_a_hundred_thousand_devices),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
