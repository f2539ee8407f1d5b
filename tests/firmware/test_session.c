/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The specification of the session, as a table of all states and events, and what each outcome in
 * it means. It is written apart from the code; the test holds the two against each other for every
 * pair, with every combination of what the session remembers and how it is configured.
 */
#include "device-fw/core/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rule {
	NOTHING,
	BEGIN,	  /* as if nothing had ever happened, on the way to RUNNING */
	END,	  /* closed, radio off */
	REACH,	  /* the next thing on the way: network, then the kept connection, then a new one */
	GREETED,  /* a new connection: authenticate, where that is a step of its own */
	ENTER,	  /* RUNNING, and work */
	FAIL,	  /* a connection of before: a fresh one at once; else back off */
	STRANDED, /* no network: back off, keep what is kept */
	REFUSE,	  /* back off, longer */
	DOUBT,	  /* a connection of before: a fresh one at once; else back off, longer */
	WAIT,	  /* back off, at least as long as the server says */
	FORGET,	  /* the connection is not kept any more */
	GO_ON,	  /* work */
	COUNT,	  /* an answer: alive */
	REST,	  /* sleep, or stay awake and idle */
	HELD,	  /* sleep, and do not wake up for work */
	LOST,	  /* network lost: keep the connection and wait for the network; or back off */
	AGAIN,	  /* 4.01: authenticate once more; else as FAIL */
	DUE,	  /* busy: FAIL; idle: work */
	WAKE,	  /* not while held: REACH */
};

#define EV(name)    [FG_SESSION_##name]
#define IN(name)    [FG_SESSION_##name]
#define STOPS	    EV(STOP) = END
#define NEVER_ASKED EV(CONNECTED) = FORGET, EV(RESUMED) = FORGET, EV(CLOSED) = FORGET

/* ATTACHED and DETACHED are noted everywhere besides; but ATTACHED not where the radio is off. */
static const enum rule specification[FG_SESSION_STATES][FG_SESSION_EVENTS] = {
	IN(OFF) = {EV(START) = BEGIN},
	IN(ATTACHING) = {STOPS, NEVER_ASKED, EV(ATTACHED) = REACH, EV(FAILED) = STRANDED,
			 EV(TIMER) = STRANDED},
	IN(CONNECTING) = {STOPS, EV(CONNECTED) = GREETED, EV(RESUMED) = GREETED, EV(FAILED) = FAIL,
			  EV(CLOSED) = FAIL, EV(REFUSED) = REFUSE, EV(TIMER) = FAIL},
	IN(AUTHENTICATING) = {STOPS, EV(AUTHENTICATED) = ENTER, EV(FAILED) = FAIL,
			      EV(CLOSED) = FAIL, EV(NO_ANSWER) = FAIL, EV(TIMER) = FAIL,
			      EV(REFUSED) = DOUBT, EV(UNAUTHENTICATED) = DOUBT, EV(HOLD) = WAIT},
	IN(RUNNING) = {STOPS, EV(DETACHED) = LOST, EV(FAILED) = FAIL, EV(CLOSED) = FAIL,
		       EV(REFUSED) = REFUSE, EV(UNAUTHENTICATED) = AGAIN, EV(WORK) = GO_ON,
		       EV(IDLE) = REST, EV(NO_ANSWER) = FAIL, EV(ANSWERED) = COUNT, EV(HOLD) = HELD,
		       EV(TIMER) = DUE},
	IN(SLEEPING) = {STOPS, NEVER_ASKED, EV(FAILED) = FORGET, EV(WORK) = WAKE,
			EV(TIMER) = REACH},
	IN(RESUMING) = {STOPS, EV(CONNECTED) = GREETED, EV(RESUMED) = ENTER, EV(FAILED) = FAIL,
			EV(CLOSED) = FAIL, EV(REFUSED) = REFUSE, EV(TIMER) = FAIL},
	IN(BACKING_OFF) = {STOPS, NEVER_ASKED, EV(TIMER) = REACH},
};

static const char *const names[] = {"OFF",     "ATTACHING", "CONNECTING", "AUTHENTICATING",
				    "RUNNING", "SLEEPING",  "RESUMING",	  "BACKING_OFF"};

struct world {
	struct fg_session_config config;
	struct fg_session_input input;
	struct fg_session s; /* what is expected after the event */
	unsigned actions;
	int64_t slack_ms; /* the deadline may be so much off: rounding */
};

static void go(struct world *w, enum fg_session_state state, double longest_ms, unsigned actions)
{
	w->s.state = state;
	w->s.since_ms = w->input.now_ms;
	w->s.deadline_ms = w->input.now_ms + (int64_t)longest_ms;
	w->s.answered = false;
	w->actions |= actions;
}

static double jitter(const struct world *w)
{
	return w->input.random / 4294967296.0;
}

static void expect_reach(struct world *w)
{
	if (!w->s.attached)
		go(w, FG_SESSION_ATTACHING, w->config.attach_ms, FG_SESSION_DO_ATTACH);
	else if (w->s.kept)
		go(w, FG_SESSION_RESUMING, w->config.resume_ms, FG_SESSION_DO_RESUME);
	else
		go(w, FG_SESSION_CONNECTING, w->config.connect_ms, FG_SESSION_DO_CONNECT);
}

static double expect_failure(struct world *w, uint32_t first_ms)
{
	w->s.failures = w->s.failures == 255 ? 255 : (uint8_t)(w->s.failures + 1);
	return fmin(first_ms * pow(2, w->s.failures - 1), w->config.backoff_max_ms);
}

static void expect_back_off(struct world *w, uint32_t first_ms, bool close)
{
	double wait_ms = expect_failure(w, first_ms);

	if (close) {
		w->actions |= FG_SESSION_DO_CLOSE;
		w->s.kept = false;
	}
	if (!w->s.attached || w->s.failures == 255 ||
	    (w->config.detach_after != 0 && w->s.failures % w->config.detach_after == 0)) {
		w->actions |= FG_SESSION_DO_DETACH;
		w->s.attached = false;
	}
	w->slack_ms = 1;
	go(w, FG_SESSION_BACKING_OFF, wait_ms * (0.5 + jitter(w)), 0);
}

static double held_ms(const struct world *w, double least_ms)
{
	double ms = fmin(fmax(w->input.hold_ms, least_ms), w->config.sleep_ms);

	return ms + ms / 2 * jitter(w);
}

static void expect_fail(struct world *w, uint32_t first_ms)
{
	if (!w->s.kept) {
		expect_back_off(w, first_ms, true);
		return;
	}
	w->s.kept = false;
	w->actions |= FG_SESSION_DO_CLOSE;
	expect_reach(w);
}

static void expect_sleep(struct world *w, double longest_ms, bool held)
{
	if (w->s.answered)
		w->s.failures = 0;
	w->s.work = held;
	w->s.kept = w->config.keeps_connection;
	go(w, FG_SESSION_SLEEPING, longest_ms,
	   w->s.kept ? FG_SESSION_DO_KEEP : FG_SESSION_DO_CLOSE);
}

static void expect_hold(struct world *w)
{
	uint8_t failures;
	double least_ms;

	if (w->s.answered)
		w->s.failures = 0;
	least_ms = expect_failure(w, w->config.backoff_min_ms);
	failures = w->s.failures;
	expect_sleep(w, held_ms(w, least_ms), true);
	w->s.failures = failures;
}

static void expect_enter(struct world *w)
{
	w->s.work = true;
	go(w, FG_SESSION_RUNNING, w->config.run_ms, FG_SESSION_DO_WORK);
}

static void expect_authenticate(struct world *w)
{
	go(w, FG_SESSION_AUTHENTICATING, w->config.authenticate_ms, FG_SESSION_DO_AUTHENTICATE);
}

static void expect_work(struct world *w)
{
	w->actions = FG_SESSION_DO_WORK;
	/* Asking again and again does not make an answer due later. */
	if (!w->s.work)
		w->s.deadline_ms = w->input.now_ms + w->config.run_ms;
	w->s.work = true;
}

static void expect_count(struct world *w)
{
	w->s.kept = false;
	w->s.answered = true;
	if (w->s.work)
		w->s.deadline_ms = w->input.now_ms + w->config.run_ms;
	if (w->input.now_ms - w->s.since_ms >= w->config.run_ms)
		w->s.failures = 0;
}

static void expect_wait(struct world *w)
{
	int64_t until_ms = w->input.now_ms + (int64_t)held_ms(w, w->config.backoff_min_ms);

	expect_back_off(w, w->config.backoff_min_ms, true);
	if (w->s.deadline_ms < until_ms)
		w->s.deadline_ms = until_ms;
}

static void expect_rest(struct world *w)
{
	if (w->config.sleeps) {
		expect_sleep(w, w->config.sleep_ms, false);
		return;
	}
	if (w->s.work)
		w->s.deadline_ms = w->input.now_ms + w->config.sleep_ms;
	w->s.work = false;
}

static void expect_again(struct world *w)
{
	if (!w->config.authenticates || w->s.failures != 0) {
		expect_fail(w, w->config.backoff_min_ms);
		return;
	}
	w->s.failures = 1;
	w->s.kept = true;
	expect_authenticate(w);
}

static void expect(struct world *w, enum rule rule)
{
	const struct fg_session_config *c = &w->config;

	switch (rule) {
	case NOTHING:
		break;
	case BEGIN:
		w->s = (struct fg_session){0};
		expect_reach(w);
		break;
	case END:
		w->s = (struct fg_session){0};
		go(w, FG_SESSION_OFF, 0, FG_SESSION_DO_CLOSE | FG_SESSION_DO_DETACH);
		w->s.deadline_ms = INT64_MAX;
		break;
	case WAKE:
		if (!w->s.work)
			expect_reach(w);
		break;
	case REACH:
		expect_reach(w);
		break;
	case GREETED:
		w->s.kept = false;
		if (c->authenticates)
			expect_authenticate(w);
		else
			expect_enter(w);
		break;
	case ENTER:
		expect_enter(w);
		break;
	case FAIL:
		expect_fail(w, c->backoff_min_ms);
		break;
	case STRANDED:
		expect_back_off(w, c->backoff_min_ms, false);
		break;
	case REFUSE:
		expect_back_off(w, c->refused_min_ms, true);
		break;
	case DOUBT:
		expect_fail(w, c->refused_min_ms);
		break;
	case WAIT:
		expect_wait(w);
		break;
	case FORGET:
		w->s.kept = false;
		w->actions = FG_SESSION_DO_CLOSE;
		break;
	case GO_ON:
		expect_work(w);
		break;
	case COUNT:
		expect_count(w);
		break;
	case REST:
		expect_rest(w);
		break;
	case HELD:
		w->slack_ms = 1;
		expect_hold(w);
		break;
	case LOST:
		if (!c->keeps_connection) {
			expect_back_off(w, c->backoff_min_ms, true);
			break;
		}
		w->s.kept = true;
		w->actions = FG_SESSION_DO_KEEP;
		expect_reach(w);
		break;
	case AGAIN:
		expect_again(w);
		break;
	case DUE:
		if (w->s.work)
			expect_fail(w, c->backoff_min_ms);
		else
			expect_work(w);
		break;
	}
}

static bool same(const struct fg_session *a, const struct fg_session *b, int64_t slack_ms)
{
	return a->state == b->state && a->since_ms == b->since_ms && a->failures == b->failures &&
	       a->attached == b->attached && a->kept == b->kept && a->work == b->work &&
	       a->answered == b->answered && llabs(a->deadline_ms - b->deadline_ms) <= slack_ms;
}

static void check(const struct fg_session_config *config, const struct fg_session *before,
		  const struct fg_session_input *input)
{
	struct world w = {.config = *config, .input = *input, .s = *before};
	bool early = input->event == FG_SESSION_TIMER && input->now_ms < before->deadline_ms;
	struct fg_session after, in_place = *before;
	unsigned actions;

	if (input->event == FG_SESSION_DETACHED)
		w.s.attached = false;
	if (input->event == FG_SESSION_ATTACHED && before->state != FG_SESSION_OFF &&
	    before->state != FG_SESSION_BACKING_OFF)
		w.s.attached = true;
	if (!early)
		expect(&w, specification[before->state][input->event]);
	actions = fg_session_step(config, before, input, &after);
	if (actions != w.actions || !same(&after, &w.s, w.slack_ms))
		fail_msg("%s, event %d, failures %d%s%s%s%s: expected %s, actions %x, failures %d, "
			 "%lld ms; got %s, actions %x, failures %d, %lld ms",
			 names[before->state], (int)input->event, before->failures,
			 before->attached ? ", attached" : "", before->kept ? ", kept" : "",
			 before->work ? ", work" : "", before->answered ? ", answered" : "",
			 names[w.s.state], w.actions, w.s.failures,
			 (long long)(w.s.deadline_ms - input->now_ms), names[after.state], actions,
			 after.failures, (long long)(after.deadline_ms - input->now_ms));
	assert_int_equal(fg_session_step(config, &in_place, input, &in_place), actions);
	assert_true(same(&in_place, &after, 0));
	assert_true(after.state == FG_SESSION_OFF || after.deadline_ms < INT64_MAX);
}

/* One configuration, one thing remembered: all states, all events, on time and early. */
static void check_pairs(const struct fg_session_config *config, struct fg_session s)
{
	static const uint32_t randoms[] = {0, 0x80000000u, 0xffffffffu};
	static const uint32_t holds[] = {0, 40000, UINT32_MAX};
	const int64_t now_ms = INT64_C(40) * 86400000;

	for (int state = 0; state < FG_SESSION_STATES; state++)
		for (int event = 0; event < FG_SESSION_EVENTS; event++)
			for (int i = 0; i < 3; i++) {
				struct fg_session_input input = {.event = event,
								 .now_ms = now_ms,
								 .random = randoms[i],
								 .hold_ms = holds[i]};

				s.state = state;
				s.since_ms = now_ms - (i == 0 ? 1000 : 2 * config->run_ms);
				s.deadline_ms = state == FG_SESSION_OFF ? INT64_MAX : now_ms - i;
				check(config, &s, &input);
				s.deadline_ms = state == FG_SESSION_OFF ? INT64_MAX : now_ms + 1;
				check(config, &s, &input);
			}
}

static void test_every_event_in_every_state_does_what_the_table_says(void **state)
{
	static const uint8_t failures[] = {0, 1, 4, 5, 10, 11, 12, 30, 200, 254, 255};

	(void)state;
	for (unsigned bits = 0; bits < 1u << 8; bits++) {
		struct fg_session_config config = fg_session_defaults;
		struct fg_session s = {.attached = bits & 1,
				       .kept = bits & 2,
				       .work = bits & 4,
				       .answered = bits & 8};

		config.sleeps = bits & 16;
		config.keeps_connection = bits & 32;
		config.authenticates = bits & 64;
		config.detach_after = bits & 128 ? 6 : 0;
		for (size_t i = 0; i < sizeof(failures); i++) {
			s.failures = failures[i];
			check_pairs(&config, s);
		}
	}
}

/* ---- stories, told with a few events */

struct story {
	struct fg_session_config config;
	struct fg_session s;
	int64_t now_ms;
	unsigned actions;
};

static void tell(struct story *t, enum fg_session_event event)
{
	struct fg_session_input input = {
		.event = event, .now_ms = t->now_ms, .random = 0x80000000u, .hold_ms = 30000};

	if (event == FG_SESSION_TIMER)
		input.now_ms = t->now_ms = t->s.deadline_ms;
	t->actions = fg_session_step(&t->config, &t->s, &input, &t->s);
}

static struct story asleep(void)
{
	struct story t = {.config = fg_session_defaults, .s = {.deadline_ms = INT64_MAX}};
	static const enum fg_session_event way[] = {FG_SESSION_START,	  FG_SESSION_ATTACHED,
						    FG_SESSION_CONNECTED, FG_SESSION_AUTHENTICATED,
						    FG_SESSION_ANSWERED,  FG_SESSION_IDLE};

	for (size_t i = 0; i < sizeof(way) / sizeof(*way); i++)
		tell(&t, way[i]);
	assert_int_equal(t.s.state, FG_SESSION_SLEEPING);
	return t;
}

static void test_what_the_server_has_forgotten_is_connected_anew_once(void **state)
{
	struct story t = asleep();

	(void)state;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_RESUMED);
	tell(&t, FG_SESSION_NO_ANSWER);
	assert_int_equal(t.s.state, FG_SESSION_CONNECTING);
	assert_int_equal(t.actions, FG_SESSION_DO_CLOSE | FG_SESSION_DO_CONNECT);
	tell(&t, FG_SESSION_CONNECTED);
	tell(&t, FG_SESSION_AUTHENTICATED);
	tell(&t, FG_SESSION_NO_ANSWER);
	assert_int_equal(t.s.state, FG_SESSION_BACKING_OFF);
}

static void test_a_server_that_answers_everything_with_401_is_not_hammered(void **state)
{
	struct story t = asleep();
	int64_t waited_ms = 0;
	int handshakes = 0;

	(void)state;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_RESUMED);
	/* It even takes something in between. */
	for (int i = 0; i < 40; i++) {
		handshakes += (t.actions & FG_SESSION_DO_CONNECT) != 0;
		if (t.s.state == FG_SESSION_RUNNING) {
			tell(&t, FG_SESSION_ANSWERED);
			tell(&t, FG_SESSION_UNAUTHENTICATED);
		} else if (t.s.state == FG_SESSION_AUTHENTICATING) {
			tell(&t, FG_SESSION_AUTHENTICATED);
		} else if (t.s.state == FG_SESSION_CONNECTING) {
			tell(&t, FG_SESSION_CONNECTED);
		} else if (t.s.state == FG_SESSION_ATTACHING) {
			tell(&t, FG_SESSION_ATTACHED);
		} else {
			waited_ms += t.s.deadline_ms - t.now_ms;
			tell(&t, FG_SESSION_TIMER);
		}
	}
	assert_in_range(handshakes, 5, 11);
	assert_true(waited_ms > 600000);
}

static void test_twins_that_throw_each_other_out_wait_longer_each_time(void **state)
{
	struct story t = asleep();
	int64_t last_ms = 0;

	(void)state;
	t.config.sleeps = false;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_RESUMED);
	for (int i = 0; i < 5; i++) {
		tell(&t, FG_SESSION_ANSWERED);
		tell(&t, FG_SESSION_IDLE);
		t.now_ms += 5000;
		tell(&t, FG_SESSION_CLOSED);
		assert_int_equal(t.s.state, FG_SESSION_BACKING_OFF);
		assert_true(t.s.deadline_ms - t.now_ms > last_ms);
		last_ms = t.s.deadline_ms - t.now_ms;
		tell(&t, FG_SESSION_TIMER);
		tell(&t, FG_SESSION_CONNECTED);
		tell(&t, FG_SESSION_AUTHENTICATED);
	}
}

static void test_a_hold_is_kept_whatever_there_is_to_send(void **state)
{
	struct story t = asleep();

	(void)state;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_RESUMED);
	tell(&t, FG_SESSION_HOLD);
	assert_int_equal(t.s.state, FG_SESSION_SLEEPING);
	assert_int_equal(t.actions, FG_SESSION_DO_KEEP);
	t.now_ms += 29000;
	tell(&t, FG_SESSION_WORK);
	assert_int_equal(t.s.state, FG_SESSION_SLEEPING);
	assert_true(t.s.deadline_ms >= 30000);
	tell(&t, FG_SESSION_TIMER);
	assert_int_equal(t.s.state, FG_SESSION_RESUMING);
}

static void test_a_short_loss_of_coverage_costs_no_handshake(void **state)
{
	struct story t = asleep();

	(void)state;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_RESUMED);
	tell(&t, FG_SESSION_ANSWERED);
	tell(&t, FG_SESSION_DETACHED);
	assert_int_equal(t.actions, FG_SESSION_DO_KEEP | FG_SESSION_DO_ATTACH);
	/* Nor does a longer one. */
	tell(&t, FG_SESSION_TIMER);
	assert_int_equal(t.s.state, FG_SESSION_BACKING_OFF);
	tell(&t, FG_SESSION_TIMER);
	tell(&t, FG_SESSION_ATTACHED);
	assert_int_equal(t.actions, FG_SESSION_DO_RESUME);
}

static void test_a_handshake_alone_makes_no_failure_undone(void **state)
{
	struct story t = asleep();

	(void)state;
	t.config.keeps_connection = false;
	tell(&t, FG_SESSION_WORK);
	tell(&t, FG_SESSION_FAILED);
	tell(&t, FG_SESSION_FAILED);
	for (int failures = 1; failures < 5; failures++) {
		assert_int_equal(t.s.failures, failures);
		tell(&t, FG_SESSION_TIMER);
		tell(&t, FG_SESSION_CONNECTED);
		tell(&t, FG_SESSION_AUTHENTICATED);
		tell(&t, FG_SESSION_NO_ANSWER);
	}
	tell(&t, FG_SESSION_TIMER);
	tell(&t, FG_SESSION_CONNECTED);
	tell(&t, FG_SESSION_AUTHENTICATED);
	tell(&t, FG_SESSION_ANSWERED);
	tell(&t, FG_SESSION_IDLE);
	assert_int_equal(t.s.failures, 0);
}

/* What the busiest second sees when all connections of a fleet break at the same moment. */
static void test_ten_thousand_devices_do_not_come_back_in_the_same_second(void **state)
{
	static unsigned seconds[4][200];
	uint32_t random = 1;

	(void)state;
	for (int device = 0; device < 10000; device++) {
		struct fg_session s = {.state = FG_SESSION_RUNNING, .attached = true};
		int64_t now_ms = 0;

		for (int attempt = 0; attempt < 4; attempt++) {
			struct fg_session_input input = {.event = FG_SESSION_CLOSED,
							 .now_ms = now_ms};

			random = random * 1664525u + 1013904223u;
			input.random = random ^ random >> 15;
			fg_session_step(&fg_session_defaults, &s, &input, &s);
			now_ms = s.deadline_ms;
			seconds[attempt][now_ms / 1000]++;
			input = (struct fg_session_input){.event = FG_SESSION_TIMER,
							  .now_ms = now_ms};
			fg_session_step(&fg_session_defaults, &s, &input, &s);
			assert_int_equal(s.state, FG_SESSION_CONNECTING);
		}
	}
	for (int attempt = 0; attempt < 4; attempt++) {
		unsigned most = 0;

		for (int i = 0; i < 200; i++)
			most = seconds[attempt][i] > most ? seconds[attempt][i] : most;
		print_message("attempt %d: at most %u of 10000 devices in a second\n", attempt + 1,
			      most);
		assert_true(most < 2500);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_event_in_every_state_does_what_the_table_says),
		cmocka_unit_test(test_what_the_server_has_forgotten_is_connected_anew_once),
		cmocka_unit_test(test_a_server_that_answers_everything_with_401_is_not_hammered),
		cmocka_unit_test(test_twins_that_throw_each_other_out_wait_longer_each_time),
		cmocka_unit_test(test_a_hold_is_kept_whatever_there_is_to_send),
		cmocka_unit_test(test_a_short_loss_of_coverage_costs_no_handshake),
		cmocka_unit_test(test_a_handshake_alone_makes_no_failure_undone),
		cmocka_unit_test(test_ten_thousand_devices_do_not_come_back_in_the_same_second),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
