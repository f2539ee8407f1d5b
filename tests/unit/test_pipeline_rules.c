/* SPDX-License-Identifier: Apache-2.0 */
/* What a message becomes in the journal, by its topic, by where it came from, and by the rules. */
#include "tests/unit/test_journal.h"

#include "core/pipeline/pipeline.h"
#include "tests/unit/rules_on_disk.h"

#define NOTHING	 0
#define NAME_10	 "abcdefghij"
#define NAME_100 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10 NAME_10

static struct pipeline *open_pipeline(const struct dir *d)
{
	const struct config c = {
		.database_url = (char *)(uintptr_t) "host=/nonexistent",
		.database_connect_timeout_s = 1,
		.database_timeout_s = 1,
		.state_dir = (char *)(uintptr_t)d->path,
		.registry_poll_ms = 1000,
		.journal_durability = DURABILITY_DEFAULT,
		.journal_max_bytes = 4 * (int64_t)MIB,
		.journal_segment_bytes = (int64_t)MIB,
		.journal_follower_max_bytes = (int64_t)MIB,
		.journal_sync_interval_ms = 10000,
		.payload_max_bytes = 1000,
		.payload_max_depth = 8,
		.payload_max_readings = 8,
		.store_batch_rows = 10,
		.store_status_interval_s = 60,
	};
	struct pipeline *p;
	char err[512];

	if (pipeline_open(&p, &c, "mqtt", DURABILITY_WRITE, NULL, err, sizeof(err)) != 0)
		fail_msg("pipeline_open: %s", err);
	return p;
}

struct example {
	const char *topic;
	bool relayed, delivered;
	int kind;
	const char *device;
};

/* Publishes them all, and compares with what is in the journal then. */
static void expect_journal(const struct rule_row *rows, size_t row_count,
			   const struct example *examples, size_t count)
{
	struct dir d = dir_new(), journal_dir;
	struct journal_position next;
	struct journal_record r;
	char path[600], command[128];
	struct pipeline *p;
	struct journal *j;

	dir_file(&d, "mqtt", path);
	assert_int_equal(mkdir(path, 0700), 0);
	dir_file(&d, "mqtt/registry.snapshot", path);
	rules_on_disk_save(path, rows, row_count);
	p = open_pipeline(&d);
	for (size_t i = 0; i < count; i++) {
		const struct message m = {.topic = examples[i].topic,
					  .payload = "{}",
					  .payload_len = 2,
					  .relayed = examples[i].relayed,
					  .delivered = examples[i].delivered};

		assert_int_equal(pipeline_publish(p, &m), 0);
	}
	pipeline_close(p);
	assert_true(snprintf(journal_dir.path, sizeof(journal_dir.path), "%.40s/mqtt/journal",
			     d.path) < 64);
	j = open_journal(&journal_dir);
	for (size_t i = 0; i < count; i++) {
		if (examples[i].kind == NOTHING)
			continue;
		assert_int_equal(journal_read(reader_of(j), &r, &next), 1);
		assert_int_equal(r.topic_len, strlen(examples[i].topic));
		assert_memory_equal(r.topic, examples[i].topic, r.topic_len);
		assert_int_equal(r.kind, examples[i].kind);
		assert_int_equal(r.device_len, strlen(examples[i].device));
		assert_memory_equal(r.device, examples[i].device, r.device_len);
	}
	assert_int_equal(journal_read(reader_of(j), &r, &next), 0);
	close_journal(j);
	snprintf(command, sizeof(command), "rm -r %s", d.path);
	assert_int_equal(system(command), 0);
}

static void test_without_rules_only_what_devices_say_and_are_told_is_taken(void **state)
{
	static const struct example examples[] = {
		{"m/d/dev-1/d2c", false, false, JOURNAL_TELEMETRY, "dev-1"},
		{"m/d/dev-1/d2c/a/b", false, false, JOURNAL_TELEMETRY, "dev-1"},
		{"m/d/dev-1/c2d", false, false, JOURNAL_DOWNLINK, "dev-1"},
		{"m/d/dev-1/c2d/x", false, false, JOURNAL_DOWNLINK, "dev-1"},
		{"m/d/dev-1/c2d", false, true, NOTHING, ""},
		{"m/d/dev-1/other", false, false, NOTHING, ""},
		{"m/d/dev-1/c2dx", false, false, NOTHING, ""},
		{"weather/oslo", false, false, NOTHING, ""},
	};

	(void)state;
	expect_journal(NULL, 0, examples, sizeof(examples) / sizeof(*examples));
}

static void test_what_a_rule_wants_is_taken_for_it(void **state)
{
	static const struct example examples[] = {
		{"weather/oslo", false, false, JOURNAL_MESSAGE, ""},
		{"weather/oslo/x", false, false, NOTHING, ""},
		{"m/d/dev-1/c2d", false, true, JOURNAL_MESSAGE, "dev-1"},
		{"m/d/dev-1/c2d", false, false, JOURNAL_DOWNLINK, "dev-1"},
		{"m/d/dev-2/c2d", false, true, NOTHING, ""},
		{"m/d/no device/d2c", false, false, JOURNAL_MESSAGE, ""},
		{"m/d/no device/c2d", false, false, JOURNAL_MESSAGE, ""},
		{"m/d/" NAME_100 NAME_100 NAME_100 "/d2c", false, false, JOURNAL_MESSAGE, ""},
	};

	(void)state;
	expect_journal(ROWS({"w", "SELECT * FROM 'weather/+'", REPUBLISH("a")},
			    {"c", "SELECT * FROM 'm/d/dev-1/c2d'", REPUBLISH("b")},
			    {"no", "SELECT * FROM 'm/d/no device/+'", REPUBLISH("b")},
			    {"long", "SELECT * FROM 'm/d/" NAME_100 NAME_100 NAME_100 "/+'",
			     REPUBLISH("b")}),
		       4, examples, sizeof(examples) / sizeof(*examples));
}

static void test_what_was_taken_before_is_not_taken_again_but_waits_for_its_device(void **state)
{
	static const struct example examples[] = {
		{"m/d/dev-1/d2c", true, false, NOTHING, ""},
		{"weather/oslo", true, false, NOTHING, ""},
		{"m/d/dev-1/c2d", true, false, JOURNAL_DOWNLINK_RELAYED, "dev-1"},
		{"m/d/dev-1/c2d", true, true, NOTHING, ""},
	};

	(void)state;
	expect_journal(ROWS({"all", "SELECT * FROM '#'", REPUBLISH("a")}), 1, examples,
		       sizeof(examples) / sizeof(*examples));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_rules_only_what_devices_say_and_are_told_is_taken),
		cmocka_unit_test(test_what_a_rule_wants_is_taken_for_it),
		cmocka_unit_test(
			test_what_was_taken_before_is_not_taken_again_but_waits_for_its_device),
	};

	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("pipeline rules", tests, NULL, NULL);
}
