/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay with a bus of the test's own: what is published, in which order, and what becomes of it
 * when the bus has no room, refuses, or the process is killed. The rules come from a registry that
 * has nothing but its copy on disk.
 */
#include "tests/unit/test_journal.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "core/relay/position.h"
#include "core/relay/relay.h"
#include "tests/unit/rules_on_disk.h"

#define BUS_MAX	   4096
#define PATIENCE_S 20

/* --- The bus --- */

struct taken {
	char topic[128], payload[512];
	int qos;
	bool retain;
	uint64_t ticket;
};

static struct memory_bus {
	pthread_mutex_t lock;
	struct taken taken[BUS_MAX];
	size_t count;
	size_t room;  /* messages that may be taken and not settled */
	bool settles; /* at once */
	uint64_t settled;
	uint64_t asked;	     /* calls of publish */
	const char *refuses; /* this topic */
	int fd;
} bus;

static int bus_publish(void *arg, const struct bus_message *m, uint64_t ticket)
{
	struct taken *t;
	int rc = 0;

	(void)arg;
	pthread_mutex_lock(&bus.lock);
	bus.asked++;
	t = &bus.taken[bus.count];
	if (bus.refuses && strcmp(bus.refuses, m->topic) == 0) {
		rc = -EMSGSIZE;
	} else if (bus.count == BUS_MAX || ticket - bus.settled > bus.room) {
		rc = -EAGAIN;
	} else {
		snprintf(t->topic, sizeof(t->topic), "%s", m->topic);
		snprintf(t->payload, sizeof(t->payload), "%.*s", (int)m->payload_len,
			 (const char *)m->payload);
		t->qos = m->qos;
		t->retain = m->retain;
		t->ticket = ticket;
		bus.count++;
		if (bus.settles)
			bus.settled = ticket;
	}
	pthread_mutex_unlock(&bus.lock);
	return rc;
}

static uint64_t bus_settled(void *arg)
{
	uint64_t settled;

	(void)arg;
	pthread_mutex_lock(&bus.lock);
	settled = bus.settled;
	pthread_mutex_unlock(&bus.lock);
	return settled;
}

static int bus_wake_fd(void *arg)
{
	(void)arg;
	return bus.fd;
}

static struct bus the_bus = {
	.publish = bus_publish, .settled = bus_settled, .wake_fd = bus_wake_fd};

static void bus_settle(uint64_t up_to)
{
	pthread_mutex_lock(&bus.lock);
	bus.settled = up_to;
	pthread_mutex_unlock(&bus.lock);
	assert_int_equal(eventfd_write(bus.fd, 1), 0);
}

static size_t bus_count(void)
{
	size_t n;

	pthread_mutex_lock(&bus.lock);
	n = bus.count;
	pthread_mutex_unlock(&bus.lock);
	return n;
}

/* What was taken and not settled is lost with the process. */
static void bus_restart(void)
{
	bus.count = 0;
	bus.settled = 0;
}

static void await_bus(size_t count)
{
	for (int i = 0; i < PATIENCE_S * 200 && bus_count() < count; i++)
		usleep(5000);
	assert_int_equal(bus_count(), count);
}

static void expect(size_t i, const char *topic, const char *payload)
{
	assert_true(i < bus_count());
	assert_string_equal(bus.taken[i].topic, topic);
	assert_string_equal(bus.taken[i].payload, payload);
}

/* --- The world --- */

static struct world {
	struct dir dir;
	char position[512], registry_copy[512];
	struct dir journal_dir;
	struct registry *registry;
	struct rules *rules;
	struct journal *journal;
	struct relay *relay;
	struct relay_options options;
} w;

static void open_rules(void)
{
	w.registry = rules_on_disk_open(w.registry_copy);
	assert_int_equal(rules_open(&w.rules, w.registry), 0);
}

static void open_journal_of(uint64_t max, uint64_t segment, uint64_t keep)
{
	const struct journal_options o = {.dir = w.journal_dir.path,
					  .max_bytes = max,
					  .segment_bytes = segment,
					  .sync_interval_ms = 20,
					  .follower_max_bytes = keep};
	char err[512];

	if (journal_open(&w.journal, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void start(void)
{
	char err[512];

	if (relay_start(&w.relay, &w.options, w.journal, w.rules, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void stop(void)
{
	relay_stop(w.relay);
	w.relay = NULL;
}

static void set_up_with(const struct rule_row *rows, size_t count)
{
	memset(&w, 0, sizeof(w));
	memset(&bus, 0, sizeof(bus));
	pthread_mutex_init(&bus.lock, NULL);
	bus.room = BUS_MAX;
	bus.settles = true;
	bus.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	the_bus.is_broker = false;
	w.dir = dir_new();
	w.journal_dir = dir_new();
	dir_file(&w.dir, "position", w.position);
	dir_file(&w.dir, "registry", w.registry_copy);
	w.options = (struct relay_options){
		.bus = &the_bus,
		.position_path = w.position,
		.source = "coap",
		.telemetry = true,
		.status_interval_s = 60,
		.limits = {.max_bytes = 131072, .max_depth = 8, .max_readings = 256},
	};
	rules_on_disk_save(w.registry_copy, rows, count);
	open_rules();
	open_journal_of(64 * MIB, MIB, 32 * MIB);
	start();
}

static void tear_down(void)
{
	relay_stop(w.relay);
	rules_close(w.rules);
	registry_close(w.registry);
	journal_close(w.journal);
	close(bus.fd);
	dir_remove(&w.dir);
	dir_remove(&w.journal_dir);
}

static void put(enum journal_kind kind, const char *device, const char *topic, const char *payload)
{
	const struct journal_record r = {.kind = (uint8_t)kind,
					 .format = PAYLOAD_AUTO,
					 .received_at_us = INT64_C(1772368496789000),
					 .device = device,
					 .device_len = strlen(device),
					 .topic = topic,
					 .topic_len = strlen(topic),
					 .payload = payload,
					 .payload_len = strlen(payload)};

	assert_int_equal(journal_append(w.journal, &r, NULL), 0);
}

static void put_number(int n)
{
	char payload[32];

	snprintf(payload, sizeof(payload), "{\"n\":%d}", n);
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", payload);
}

static struct relay_stats relay_stats_now(void)
{
	struct relay_stats st;

	relay_stats(w.relay, &st);
	return st;
}

/* --- What is published --- */

static void test_devices_messages_are_published_as_they_came_and_in_order(void **state)
{
	(void)state;
	set_up_with(NULL, 0);
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c/bulk", "not even JSON");
	for (int i = 0; i < 1000; i++)
		put_number(i);
	await_bus(1001);
	expect(0, "m/d/dev-1/d2c/bulk", "not even JSON");
	for (int i = 0; i < 1000; i++) {
		char payload[32];

		snprintf(payload, sizeof(payload), "{\"n\":%d}", i);
		expect((size_t)i + 1, "m/d/dev-1/d2c", payload);
	}
	assert_int_equal(bus.taken[0].qos, 1);
	assert_false(bus.taken[0].retain);
	tear_down();
}

static void test_a_broker_gets_no_message_that_it_has_seen(void **state)
{
	(void)state;
	set_up_with(ROWS({"hot", "SELECT t FROM 'm/d/+/d2c' WHERE t > 30", REPUBLISH("hot")}), 1);
	stop();
	the_bus.is_broker = true;
	start();
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", "{\"t\":31}");
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", "{\"t\":30}");
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", "{\"t\":32}");
	await_bus(2);
	expect(0, "hot", "{\"t\":31}");
	expect(1, "hot", "{\"t\":32}");
	tear_down();
}

static void test_a_rule_republishes_behind_the_message_itself(void **state)
{
	(void)state;
	set_up_with(ROWS({"subset", "SELECT temp, device() AS who FROM 'm/d/+/d2c'",
			  "[{\"republish\": {\"topic\": \"out/${topic(3)}\", \"retain\": true}}]"}),
		    1);
	put(JOURNAL_TELEMETRY, "dev-7", "m/d/dev-7/d2c", "{\"temp\":21.5,\"battery\":3}");
	await_bus(2);
	expect(0, "m/d/dev-7/d2c", "{\"temp\":21.5,\"battery\":3}");
	expect(1, "out/dev-7", "{\"temp\":21.5,\"who\":\"dev-7\"}");
	assert_true(bus.taken[1].retain);
	tear_down();
}

static void test_rules_see_messages_on_other_topics_and_to_devices(void **state)
{
	(void)state;
	set_up_with(ROWS({"all", "SELECT topic() AS t FROM '#'", REPUBLISH("seen")}), 1);
	put(JOURNAL_MESSAGE, "", "weather/oslo", "{}");
	put(JOURNAL_DOWNLINK, "dev-1", "m/d/dev-1/c2d", "{}");
	/* What is republished on `seen` is a message for the same rule: the chain is cut at 4. */
	await_bus(8);
	expect(0, "seen", "{\"t\":\"weather/oslo\"}");
	expect(1, "seen", "{\"t\":\"seen\"}");
	expect(4, "seen", "{\"t\":\"m/d/dev-1/c2d\"}");
	tear_down();
}

static void test_a_chain_of_rules_is_published_in_its_order(void **state)
{
	(void)state;
	set_up_with(ROWS({"a", "SELECT n + 1 AS n FROM 'm/d/+/d2c'", REPUBLISH("a")},
			 {"b", "SELECT n + 1 AS n FROM 'a'", REPUBLISH("b")},
			 {"c", "SELECT n + 1 AS n FROM 'b'", REPUBLISH("c")},
			 {"d", "SELECT n + 1 AS n FROM 'c'", REPUBLISH("d")}),
		    4);
	put_number(0);
	await_bus(5);
	expect(1, "a", "{\"n\":1}");
	expect(2, "b", "{\"n\":2}");
	expect(3, "c", "{\"n\":3}");
	expect(4, "d", "{\"n\":4}");
	tear_down();
}

static void test_what_is_no_json_reaches_rules_undecoded(void **state)
{
	(void)state;
	set_up_with(
		ROWS({"raw", "SELECT encode(*, 'base64') AS b FROM 'm/d/+/d2c'", REPUBLISH("raw")}),
		1);
	put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", "\x01\x02\x03");
	await_bus(2);
	expect(1, "raw", "{\"b\":\"AQID\"}");
	tear_down();
}

/* --- Presence --- */

static void put_presence(const char *device, const char *json)
{
	put(JOURNAL_PRESENCE, device, "", json);
}

static void test_presence_is_published_and_run_through_rules(void **state)
{
	(void)state;
	set_up_with(ROWS({"gone", "SELECT device, reason FROM 'm/presence/+' WHERE NOT connected",
			  REPUBLISH("gone")}),
		    1);
	put_presence("", "{\"event\":\"started\",\"source\":\"coap\",\"client_id\":\"\"}");
	put_presence("dev-1", "{\"event\":\"connected\",\"source\":\"coap\",\"client_id\":\"c9\","
			      "\"address\":\"192.0.2.1\"}");
	put_presence("dev-1",
		     "{\"event\":\"disconnected\",\"source\":\"coap\",\"client_id\":\"c9\","
		     "\"reason\":\"idle\"}");
	await_bus(3);
	expect(0, "m/presence/dev-1",
	       "{\"device\":\"dev-1\",\"connected\":true,\"source\":\"coap\",\"client_id\":\"c9\","
	       "\"at\":\"2026-03-01T12:34:56.789Z\",\"address\":\"192.0.2.1\"}");
	expect(1, "m/presence/dev-1",
	       "{\"device\":\"dev-1\",\"connected\":false,\"source\":\"coap\",\"client_id\":\"c9\","
	       "\"at\":\"2026-03-01T12:34:56.789Z\",\"reason\":\"idle\"}");
	expect(2, "gone", "{\"device\":\"dev-1\",\"reason\":\"idle\"}");
	assert_int_equal(bus.taken[0].qos, 1);
	assert_false(bus.taken[0].retain);
	tear_down();
}

/* --- A bus without room --- */

static void test_a_full_bus_is_waited_for_without_losing_or_reordering(void **state)
{
	uint64_t asked;

	(void)state;
	set_up_with(ROWS({"copy", "SELECT n FROM 'm/d/+/d2c'", REPUBLISH("copy")}), 1);
	bus.settles = false;
	bus.room = 3; /* the second message of a record finds it full, too */
	for (int i = 0; i < 200; i++)
		put_number(i);
	await_bus(3);
	asked = bus.asked;
	usleep(300000);
	assert_int_equal(bus_count(), 3);
	assert_true(bus.asked - asked <= 2); /* it sleeps */
	for (uint64_t settled = 0; settled < 400; settled++) {
		await_bus(settled + 3 < 400 ? settled + 3 : 400);
		bus_settle(settled + 1);
	}
	for (size_t i = 0; i < 400; i++) {
		char payload[32];

		snprintf(payload, sizeof(payload), "{\"n\":%zu}", i / 2);
		expect(i, i % 2 ? "copy" : "m/d/dev-1/d2c", payload);
	}
	tear_down();
}

static void test_what_was_not_settled_is_published_again_by_the_next_start(void **state)
{
	(void)state;
	set_up_with(NULL, 0);
	bus.settles = false;
	for (int i = 0; i < 10; i++)
		put_number(i);
	await_bus(10);
	bus_settle(4);
	stop();
	bus_restart();
	start();
	await_bus(6);
	expect(0, "m/d/dev-1/d2c", "{\"n\":4}");
	expect(5, "m/d/dev-1/d2c", "{\"n\":9}");
	bus_settle(6);
	stop();
	bus_restart();
	start();
	put_number(10);
	await_bus(1);
	expect(0, "m/d/dev-1/d2c", "{\"n\":10}");
	tear_down();
}

static void test_stopping_does_not_wait_for_a_full_bus_and_loses_nothing(void **state)
{
	int64_t before;

	(void)state;
	set_up_with(ROWS({"copy", "SELECT n FROM 'm/d/+/d2c'", REPUBLISH("copy")}), 1);
	bus.settles = false;
	bus.room = 1;
	put_number(0);
	put_number(1);
	await_bus(1);
	before = clock_monotonic_us();
	stop();
	assert_true(clock_monotonic_us() - before < 5 * US_PER_S);
	bus_restart();
	bus.room = BUS_MAX;
	start();
	await_bus(4);
	expect(0, "m/d/dev-1/d2c", "{\"n\":0}");
	expect(1, "copy", "{\"n\":0}");
	expect(3, "copy", "{\"n\":1}");
	tear_down();
}

static void test_a_message_that_is_refused_stops_nothing(void **state)
{
	const struct rule_set *set;

	(void)state;
	set_up_with(ROWS({"bad", "SELECT n FROM 'm/d/+/d2c'", REPUBLISH("refused")},
			 {"good", "SELECT n FROM 'm/d/+/d2c'", REPUBLISH("good")}),
		    2);
	bus.refuses = "refused";
	put_number(0);
	put_number(1);
	await_bus(4);
	expect(1, "good", "{\"n\":0}");
	expect(3, "good", "{\"n\":1}");
	assert_int_equal(relay_stats_now().refused, 2);
	set = rules_acquire(w.rules);
	assert_int_equal(rule_set_at(set, 0)->counters->errors, 2);
	assert_int_equal(rule_set_at(set, 1)->counters->errors, 0);
	assert_int_equal(rule_set_at(set, 1)->counters->matched, 2);
	rule_set_release(set);
	tear_down();
}

static void test_without_a_bus_republishing_fails_and_is_counted(void **state)
{
	const struct bus_message m = {.topic = "x", .payload = "", .payload_len = 0};
	const struct rule_set *set;

	(void)state;
	set_up_with(ROWS({"copy", "SELECT n FROM 'm/d/+/d2c'", REPUBLISH("copy")}), 1);
	stop();
	w.options.bus = NULL;
	start();
	put_number(0);
	set = rules_acquire(w.rules);
	for (int i = 0; i < PATIENCE_S * 200 && rule_set_at(set, 0)->counters->errors == 0; i++)
		usleep(5000);
	assert_int_equal(rule_set_at(set, 0)->counters->errors, 1);
	rule_set_release(set);
	assert_int_equal(relay_publish(w.relay, &m), -ENOTCONN);
	for (int i = 0; i < PATIENCE_S * 200 && relay_stats_now().lag_bytes > 0; i++)
		usleep(5000);
	assert_int_equal(relay_stats_now().lag_bytes, 0);
	tear_down();
}

/* --- The journal's bound --- */

static void test_what_the_journal_could_not_keep_is_counted_and_the_rest_goes_on(void **state)
{
	struct journal_position end;
	int first;

	(void)state;
	set_up_with(NULL, 0);
	stop();
	journal_close(w.journal);
	open_journal_of(MIB, 4096, 16384);
	start();
	bus.settles = false;
	bus.room = 1;
	put_number(0);
	await_bus(1);
	for (int i = 1; i < 1000; i++) {
		put_number(i);
		end = journal_end(w.journal);
		journal_release(w.journal, end);
	}
	bus.room = BUS_MAX;
	bus_settle(1);
	for (int i = 0; i < PATIENCE_S * 200 && relay_stats_now().lag_bytes > 0; i++)
		usleep(5000);
	assert_int_equal(relay_stats_now().missed, 1);
	assert_in_range(bus_count(), 50, 500);
	/* From some record on all of them, to the last. */
	assert_int_equal(sscanf(bus.taken[bus_count() - 1].payload, "{\"n\":%d}", &first), 1);
	assert_int_equal(first, 999);
	for (size_t i = bus_count() - 50; i < bus_count(); i++) {
		char payload[32];

		snprintf(payload, sizeof(payload), "{\"n\":%zu}", 1000 - bus_count() + i);
		expect(i, "m/d/dev-1/d2c", payload);
	}
	tear_down();
}

static void test_what_is_behind_is_kept_by_the_journal(void **state)
{
	(void)state;
	set_up_with(NULL, 0);
	stop();
	journal_close(w.journal);
	open_journal_of(4 * MIB, 4096, MIB);
	start();
	bus.settles = false;
	bus.room = 1;
	for (int i = 0; i < 1000; i++)
		put_number(i);
	journal_release(w.journal, journal_end(w.journal));
	bus.room = BUS_MAX;
	bus_settle(1);
	await_bus(1000);
	expect(999, "m/d/dev-1/d2c", "{\"n\":999}");
	assert_int_equal(relay_stats_now().missed, 0);
	bus_settle(1000);
	for (int i = 0; i < PATIENCE_S * 200 && stats_of(w.journal).bytes > 3 * 4096; i++)
		usleep(5000);
	assert_true(stats_of(w.journal).bytes <= 3 * 4096);
	tear_down();
}

/* --- The position --- */

static void test_a_first_start_begins_at_the_end(void **state)
{
	(void)state;
	set_up_with(NULL, 0);
	stop();
	assert_int_equal(unlink(w.position), 0);
	put_number(0);
	start();
	put_number(1);
	await_bus(1);
	expect(0, "m/d/dev-1/d2c", "{\"n\":1}");
	tear_down();
}

static void test_a_position_of_another_journal_is_not_believed(void **state)
{
	struct dir other;

	(void)state;
	set_up_with(NULL, 0);
	for (int i = 0; i < 100; i++)
		put_number(i);
	await_bus(100);
	stop();
	journal_close(w.journal);
	other = w.journal_dir;
	w.journal_dir = dir_new();
	open_journal_of(64 * MIB, MIB, MIB);
	put_number(7);
	bus_restart();
	start();
	await_bus(1);
	expect(0, "m/d/dev-1/d2c", "{\"n\":7}");
	dir_remove(&other);
	tear_down();
}

static void test_a_damaged_position_publishes_again_and_loses_nothing(void **state)
{
	unsigned char bytes[2048];
	size_t len;

	(void)state;
	set_up_with(NULL, 0);
	put_number(0);
	await_bus(1);
	stop();
	len = file_load(w.position, bytes, sizeof(bytes));
	for (size_t i = 0; i < len; i++)
		bytes[i] ^= 0x55;
	file_store(w.position, bytes, len);
	put_number(1);
	bus_restart();
	start();
	await_bus(2);
	expect(1, "m/d/dev-1/d2c", "{\"n\":1}");
	tear_down();
}

/* Whichever byte of whichever slot is wrong: the other slot counts. */
/* Of a journal that was brought back from an old copy. Once the journal has grown past it, it would
 * be believed, and what lies before it passed over. */
static void test_a_position_ahead_of_the_journal_is_not_kept(void **state)
{
	struct journal_position pos = {1000, 64}, end;
	enum position_found found;
	struct position_file f;

	(void)state;
	set_up_with(NULL, 0);
	stop();
	put_number(0);
	assert_int_equal(position_open(&f, w.position, journal_id(w.journal), &found, &pos), 0);
	assert_int_equal(position_write(&f, (struct journal_position){1000, 64}), 0);
	position_close(&f);
	bus.settles = false;
	start();
	await_bus(1);
	expect(0, "m/d/dev-1/d2c", "{\"n\":0}");
	stop();
	assert_int_equal(position_open(&f, w.position, journal_id(w.journal), &found, &pos), 0);
	position_close(&f);
	assert_int_equal(found, POSITION_FOUND);
	end = journal_end(w.journal);
	assert_true(journal_position_compare(pos, end) < 0);
	tear_down();
}

static void test_one_damaged_slot_leaves_the_position_before_or_the_new_one(void **state)
{
	static const uint8_t id[16] = "a journal's id..";
	const struct journal_position old = {3, 100}, new = {3, 200};
	unsigned char bytes[2048], wrong[2048];
	struct dir d = dir_new();
	enum position_found found;
	struct journal_position pos;
	struct position_file f;
	char path[512];
	size_t len;

	(void)state;
	dir_file(&d, "position", path);
	assert_int_equal(position_open(&f, path, id, &found, &pos), 0);
	assert_int_equal(found, POSITION_NONE);
	assert_int_equal(position_write(&f, (struct journal_position){3, 64}), 0);
	assert_int_equal(position_write(&f, old), 0);
	assert_int_equal(position_write(&f, new), 0);
	position_close(&f);
	len = file_load(path, bytes, sizeof(bytes));
	for (size_t i = 0; i < 1024; i = i == 63 ? 512 : i == 575 ? 1024 : i + 1) {
		bool newest = i >= 512; /* the third write went where the first had */

		memcpy(wrong, bytes, len);
		wrong[i] ^= 0x10;
		file_store(path, wrong, len);
		assert_int_equal(position_open(&f, path, id, &found, &pos), 0);
		assert_int_equal(found, POSITION_FOUND);
		assert_int_equal(journal_position_compare(pos, newest ? old : new), 0);
		position_close(&f);
	}
	dir_remove(&d);
}

/* How often the relay's thread was put to sleep. */
static unsigned long sleeps(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned long count = 0;
	struct dirent *e;

	assert_non_null(tasks);
	while ((e = readdir(tasks))) {
		char path[64], line[256];
		bool ours = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (strcmp(line, "Name:\tfg-relay\n") == 0)
				ours = true;
			if (ours)
				(void)sscanf(line, "voluntary_ctxt_switches: %lu", &count);
		}
		if (f)
			fclose(f);
	}
	closedir(tasks);
	assert_true(count > 0);
	return count;
}

static void test_an_idle_relay_sleeps(void **state)
{
	unsigned long before;

	(void)state;
	set_up_with(NULL, 0);
	put_number(0);
	await_bus(1);
	usleep(300000);
	before = sleeps();
	usleep(500000);
	assert_in_range(sleeps() - before, 0, 1);
	tear_down();
}

static void test_a_steady_stream_does_not_wake_it_for_each_record(void **state)
{
	unsigned long before, slept;
	int64_t begun_us, ms;

	(void)state;
	set_up_with(NULL, 0);
	put_number(0);
	await_bus(1);
	before = sleeps();
	begun_us = clock_monotonic_us();
	for (int i = 1; i < 3000; i++) {
		put_number(i);
		usleep(50);
	}
	await_bus(3000);
	ms = (clock_monotonic_us() - begun_us) / US_PER_MS;
	slept = sleeps() - before;
	assert_true(slept <= (unsigned long)ms + 20);
	tear_down();
}

/* --- Handed in by others --- */

static void test_what_is_handed_in_is_published_and_bounded(void **state)
{
	const struct bus_message m = {
		.topic = "errors", .payload = "{}", .payload_len = 2, .qos = 1};
	int taken = 0;

	(void)state;
	set_up_with(NULL, 0);
	assert_int_equal(relay_publish(w.relay, &m), 0);
	await_bus(1);
	expect(0, "errors", "{}");
	bus.settles = false;
	bus.room = 0;
	while (relay_publish(w.relay, &m) == 0)
		assert_true(++taken < 10000);
	assert_int_equal(relay_publish(w.relay, &m), -EAGAIN);
	put_number(5);
	bus.room = BUS_MAX;
	bus_settle(1);
	await_bus((size_t)taken + 2);
	expect((size_t)taken, "errors", "{}");
	tear_down();
}

/* --- kill -9 --- */

#define NUMBERS 4000

static int log_fd, lives;

/* A bus that is a file: what is in it has arrived. It settles late, and kills the process in the
 * end: before it has taken a message, or behind it. */
static int file_publish(void *arg, const struct bus_message *m, uint64_t ticket)
{
	(void)arg;
	if (ticket - bus.settled > 64) {
		bus.settled = ticket - 20;
		(void)eventfd_write(bus.fd, 1);
		return -EAGAIN;
	}
	if (--lives == 0)
		kill(getpid(), SIGKILL);
	if (write(log_fd, m->payload, m->payload_len) != (ssize_t)m->payload_len)
		_exit(3);
	if (lives == 1 && ticket % 2)
		kill(getpid(), SIGKILL);
	return 0;
}

/* Never returns but when all is published. */
static void publish_until_killed(void)
{
	static const struct bus file_bus = {
		.publish = file_publish, .settled = bus_settled, .wake_fd = bus_wake_fd};

	open_rules();
	open_journal_of(64 * MIB, MIB, 32 * MIB);
	bus.settled = 0;
	w.options.bus = &file_bus;
	start();
	for (;;) {
		if (relay_stats_now().lag_bytes == 0) {
			bus_settle(UINT64_MAX);
			stop();
			_exit(0);
		}
		usleep(1000);
	}
}

static void test_killed_at_any_moment_each_message_is_published_at_least_once(void **state)
{
	static bool seen[NUMBERS];
	char path[512], line[64];
	int kills = 0, last = -1, n, descents = 0, lines = 0, status = 1;
	FILE *f;

	(void)state;
	set_up_with(NULL, 0);
	stop();
	for (n = 0; n < NUMBERS; n++) {
		snprintf(line, sizeof(line), "%d\n", n);
		put(JOURNAL_TELEMETRY, "dev-1", "m/d/dev-1/d2c", line);
	}
	journal_close(w.journal);
	rules_close(w.rules);
	registry_close(w.registry);
	dir_file(&w.dir, "log", path);
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_true(log_fd >= 0);
	srand(7);
	for (int round = 0; round < 200 && status != 0; round++) {
		pid_t child;

		lives = 2 + rand() % 300;
		child = fork();
		assert_true(child >= 0);
		if (child == 0)
			publish_until_killed();
		assert_int_equal(waitpid(child, &status, 0), child);
		kills += WIFSIGNALED(status);
	}
	assert_int_equal(status, 0);
	assert_true(kills > 10);
	f = fopen(path, "r");
	while (fgets(line, sizeof(line), f)) {
		n = atoi(line);
		descents += n <= last;
		assert_true(n <= last + 1);
		last = n;
		seen[n] = true;
		lines++;
	}
	fclose(f);
	for (n = 0; n < NUMBERS; n++)
		assert_true(seen[n]);
	/* Again is at most what was not settled, or not yet written down, each time. */
	assert_true(descents <= kills);
	assert_true(lines <= NUMBERS + kills * 70);
	open_rules();
	open_journal_of(64 * MIB, MIB, 32 * MIB);
	close(log_fd);
	tear_down();
}

/* Several threads log at once here. */
static void ignore_log(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices_messages_are_published_as_they_came_and_in_order),
		cmocka_unit_test(test_a_broker_gets_no_message_that_it_has_seen),
		cmocka_unit_test(test_a_rule_republishes_behind_the_message_itself),
		cmocka_unit_test(test_rules_see_messages_on_other_topics_and_to_devices),
		cmocka_unit_test(test_a_chain_of_rules_is_published_in_its_order),
		cmocka_unit_test(test_what_is_no_json_reaches_rules_undecoded),
		cmocka_unit_test(test_presence_is_published_and_run_through_rules),
		cmocka_unit_test(test_a_full_bus_is_waited_for_without_losing_or_reordering),
		cmocka_unit_test(test_what_was_not_settled_is_published_again_by_the_next_start),
		cmocka_unit_test(test_stopping_does_not_wait_for_a_full_bus_and_loses_nothing),
		cmocka_unit_test(test_a_message_that_is_refused_stops_nothing),
		cmocka_unit_test(test_without_a_bus_republishing_fails_and_is_counted),
		cmocka_unit_test(
			test_what_the_journal_could_not_keep_is_counted_and_the_rest_goes_on),
		cmocka_unit_test(test_what_is_behind_is_kept_by_the_journal),
		cmocka_unit_test(test_a_first_start_begins_at_the_end),
		cmocka_unit_test(test_a_position_of_another_journal_is_not_believed),
		cmocka_unit_test(test_a_damaged_position_publishes_again_and_loses_nothing),
		cmocka_unit_test(test_a_position_ahead_of_the_journal_is_not_kept),
		cmocka_unit_test(test_one_damaged_slot_leaves_the_position_before_or_the_new_one),
		cmocka_unit_test(test_an_idle_relay_sleeps),
		cmocka_unit_test(test_a_steady_stream_does_not_wake_it_for_each_record),
		cmocka_unit_test(test_what_is_handed_in_is_published_and_bounded),
		cmocka_unit_test(test_killed_at_any_moment_each_message_is_published_at_least_once),
	};

	log_set_sink(ignore_log, NULL);
	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
