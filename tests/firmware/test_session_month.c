/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session for a simulated month, in a world of radio, network and server that fails in every
 * way, with events that come late, twice or for no reason: it always has a deadline, never spins,
 * and runs again whenever the world has been well for longer than it may wait. Then a well world,
 * to see how long the radio is on.
 */
#include "device-fw/core/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define SECOND	INT64_C(1000)
#define HOUR	(3600 * SECOND)
#define DAY	(24 * HOUR)
#define QUEUE	64
#define LONGEST HOUR /* that the server of this world says HOLD */

struct pending {
	int64_t at_ms;
	enum fg_session_event event;
};

static struct sim {
	struct fg_session_config config;
	struct fg_session s;
	int64_t now_ms, end_ms, next_work_ms, work_every_ms, phase_ends_ms, next_spurious_ms;
	struct pending queue[QUEUE];
	int queued;
	uint32_t random;
	bool well;	  /* nothing fails in this phase */
	uint32_t answers; /* in this phase */
	unsigned bad[6];  /* of 100: attach, connect, resume, authenticate, request, spurious */
	uint32_t steps, works; /* in this hour */
	int64_t hour_ends_ms;
	uint32_t worst; /* steps in an hour beyond what work and the world caused */
	uint32_t recoveries, handshakes, authentications, resumes, requests, attaches;
} w;

static uint32_t draw(uint32_t below)
{
	w.random ^= w.random << 13;
	w.random ^= w.random >> 17;
	w.random ^= w.random << 5;
	return w.random % below;
}

static void later(int64_t after_ms, enum fg_session_event event)
{
	if (w.queued < QUEUE)
		w.queue[w.queued++] =
			(struct pending){.at_ms = w.now_ms + after_ms, .event = event};
}

/* What is under way comes to nothing; sometimes its outcome is told nevertheless. */
static void drop(void)
{
	int kept = 0;

	for (int i = 0; i < w.queued; i++)
		if (!w.well && draw(10) == 0)
			w.queue[kept++] = w.queue[i];
	w.queued = kept;
}

static bool goes_wrong(int what)
{
	return !w.well && draw(100) < w.bad[what];
}

static void begin(enum fg_session_event good, int64_t after_ms, int what)
{
	static const enum fg_session_event bad[] = {
		FG_SESSION_FAILED, FG_SESSION_CLOSED,	       FG_SESSION_REFUSED,
		FG_SESSION_HOLD,   FG_SESSION_UNAUTHENTICATED, FG_SESSION_NO_ANSWER};

	if (!goes_wrong(what))
		later(after_ms, good);
	else if (draw(4) > 0) /* else nobody ever answers */
		later(draw(3) ? draw(200) : draw(200000), bad[draw(6)]);
}

static void request(void)
{
	w.requests++;
	if (goes_wrong(4)) {
		begin(FG_SESSION_NO_ANSWER, 93 * SECOND, 4);
		return;
	}
	w.answers++;
	later(SECOND, FG_SESSION_ANSWERED);
	if (!goes_wrong(4))
		later(SECOND + 1, FG_SESSION_IDLE);
	else
		begin(FG_SESSION_UNAUTHENTICATED, SECOND + 2, 4);
}

static void act(unsigned actions)
{
	if (actions & (FG_SESSION_DO_CLOSE | FG_SESSION_DO_KEEP | FG_SESSION_DO_DETACH))
		drop();
	if (actions & FG_SESSION_DO_ATTACH) {
		w.attaches++;
		begin(FG_SESSION_ATTACHED, 3 * SECOND, 0);
	}
	if (actions & FG_SESSION_DO_CONNECT) {
		w.handshakes++;
		begin(FG_SESSION_CONNECTED, 4 * SECOND, 1);
	}
	if (actions & FG_SESSION_DO_RESUME) {
		w.resumes++;
		begin(FG_SESSION_RESUMED, 0, 2);
	}
	if (actions & FG_SESSION_DO_AUTHENTICATE) {
		w.authentications++;
		begin(FG_SESSION_AUTHENTICATED, SECOND, 3);
	}
	if (actions & FG_SESSION_DO_WORK && w.queued < 4)
		request();
}

static void step(enum fg_session_event event)
{
	struct fg_session_input input = {.event = event,
					 .now_ms = w.now_ms,
					 .random = draw(UINT32_MAX),
					 .hold_ms = draw(LONGEST)};
	unsigned actions = fg_session_step(&w.config, &w.s, &input, &w.s);

	w.steps++;
	assert_true(w.s.deadline_ms < INT64_MAX);
	assert_true(w.s.deadline_ms > w.now_ms || event != FG_SESSION_TIMER);
	act(actions);
}

/* ---- time goes on */

static int64_t longest_wait_ms(void)
{
	int64_t back_off_ms = w.config.backoff_max_ms + w.config.backoff_max_ms / 2;
	int64_t hold_ms = LONGEST + LONGEST / 2;

	/* Then whatever hung before, one more back-off of a doubtful connection, and the work. */
	return 2 * (back_off_ms > hold_ms ? back_off_ms : hold_ms) + w.config.run_ms +
	       w.config.attach_ms + w.config.connect_ms + w.config.authenticate_ms +
	       w.work_every_ms + 60 * SECOND;
}

static void new_phase(void)
{
	if (w.well) {
		assert_true(w.answers > 0);
		w.recoveries++;
	}
	w.well = !w.well;
	w.answers = 0;
	for (int i = 0; i < 6; i++)
		w.bad[i] = draw(3) == 0 ? 100 : draw(3) * 40;
	w.phase_ends_ms = w.now_ms + (w.well ? longest_wait_ms() : 600 * SECOND + draw(43200000));
}

static void count_hour(void)
{
	uint32_t caused = 8 * w.works;
	uint32_t own = w.steps > caused ? w.steps - caused : 0;

	if (own > w.worst)
		w.worst = own;
	w.steps = w.works = 0;
	w.hour_ends_ms += HOUR;
}

static int earliest(void)
{
	int first = -1;

	for (int i = 0; i < w.queued; i++)
		if (first < 0 || w.queue[i].at_ms < w.queue[first].at_ms)
			first = i;
	return first;
}

static void work(void)
{
	w.next_work_ms = w.now_ms + w.work_every_ms;
	w.works++;
	step(FG_SESSION_WORK);
}

static void spurious(void)
{
	enum fg_session_event event = (enum fg_session_event)draw(FG_SESSION_EVENTS);

	w.next_spurious_ms = w.now_ms + 1 + draw(600000);
	if (event == FG_SESSION_STOP || w.well || draw(100) >= w.bad[5])
		return;
	step(event);
	w.works++; /* the world's doing, too */
	if (draw(50) == 0)
		w.now_ms += draw(3 * 86400000); /* time jumps */
}

/* What comes next of what there is. */
static void pass(void)
{
	int first = earliest();
	int64_t at_ms = first >= 0 ? w.queue[first].at_ms : INT64_MAX;
	int64_t next_ms = w.s.deadline_ms;
	struct pending p;

	next_ms = at_ms < next_ms ? at_ms : next_ms;
	next_ms = w.next_work_ms < next_ms ? w.next_work_ms : next_ms;
	next_ms = w.next_spurious_ms < next_ms ? w.next_spurious_ms : next_ms;
	if (next_ms > w.now_ms)
		w.now_ms = next_ms;
	while (w.now_ms >= w.hour_ends_ms)
		count_hour();
	if (w.now_ms >= w.phase_ends_ms)
		new_phase();
	if (w.now_ms >= w.s.deadline_ms) {
		step(FG_SESSION_TIMER);
	} else if (first >= 0 && at_ms <= w.now_ms) {
		p = w.queue[first];
		w.queue[first] = w.queue[--w.queued];
		step(p.event);
	} else if (w.now_ms >= w.next_work_ms) {
		work();
	} else if (w.now_ms >= w.next_spurious_ms) {
		spurious();
	}
}

static void live(uint32_t seed, int64_t work_every_ms, int64_t end_ms)
{
	uint32_t steps = 0;

	w.random = seed * 2654435761u | 1;
	w.work_every_ms = work_every_ms;
	w.next_work_ms = work_every_ms;
	w.next_spurious_ms = 1;
	w.hour_ends_ms = HOUR;
	w.end_ms = end_ms;
	step(FG_SESSION_START);
	while (w.now_ms < end_ms) {
		pass();
		assert_true(++steps < 4000000);
	}
}

static void test_a_month_of_a_world_that_fails_neither_wedges_it_nor_makes_it_spin(void **state)
{
	static const int64_t work[] = {10 * SECOND, 60 * SECOND, HOUR, 6 * HOUR};
	uint32_t worst = 0, recoveries = 0, months = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 480; seed++, months++) {
		memset(&w, 0, sizeof(w));
		w.config = fg_session_defaults;
		w.config.sleeps = seed & 1;
		w.config.keeps_connection = seed & 2;
		w.config.authenticates = seed & 4;
		w.config.detach_after = seed & 8 ? 6 : 0;
		live(seed, work[seed / 16 % 4], 30 * DAY);
		assert_true(w.recoveries > 10);
		recoveries += w.recoveries;
		worst = w.worst > worst ? w.worst : worst;
	}
	print_message("%u months, well again %u times, at most %u steps in an hour beyond 8 for "
		      "each event of the world\n",
		      months, recoveries, worst);
	assert_true(worst < 100);
}

/* ---- how long the radio is on */

/*
 * Assumed: attach 3 s, handshake 4 s, a round trip (request, JWT, ping) 1 s, then the tail until
 * the network releases the connection: 0.1 s with release assistance, which needs to know that
 * nothing more comes back; 10 s without. Not counted: paging, tracking area updates, and the
 * establishment of the radio connection.
 */
static void print_radio(const char *name, double tail_s, double pings_per_day)
{
	const double days = 30, bursts = w.requests / days + pings_per_day;
	double on_s = (3.0 * w.attaches + 4.0 * w.handshakes + 1.0 * w.authentications) / days +
		      bursts * (1 + tail_s);

	print_message("metric fw.radio_s_per_day_%s %.1f\n", name, on_s);
	assert_in_range(w.requests, 30 * 24 - 2, 30 * 24 + 40);
	assert_in_range(w.attaches, 1, 2);
}

static void well_month(struct fg_session_config config)
{
	memset(&w, 0, sizeof(w));
	w.config = config;
	w.well = true;
	w.phase_ends_ms = INT64_MAX;
	live(7, HOUR, 30 * DAY);
}

static void test_radio_time_per_day_for_hourly_telemetry(void **state)
{
	struct fg_session_config config = fg_session_defaults;

	(void)state;
	well_month(config);
	assert_int_equal(w.handshakes, 1);
	print_radio("coap_cid", 0.1, 0);

	config.keeps_connection = false;
	well_month(config);
	assert_in_range(w.handshakes, 30 * 24 - 2, 30 * 24 + 40);
	print_radio("coap_handshake", 0.1, 0);

	config = fg_session_defaults;
	config.sleeps = false;
	well_month(config);
	assert_int_equal(w.handshakes, 1);
	/* A ping after 1200 s without a packet: two between two readings. */
	print_radio("mqtt", 10, 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_a_month_of_a_world_that_fails_neither_wedges_it_nor_makes_it_spin),
		cmocka_unit_test(test_radio_time_per_day_for_hourly_telemetry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
