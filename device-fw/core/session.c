/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three rules make up most of it. What fails on a connection of before (`kept`: resumed, or
 * authenticated a second time) is tried at once on a fresh one; what fails on a fresh one backs
 * off, so there is no way around the waiting. An answer counts when the work was done or the
 * connection has lasted: who is let in and thrown out again in a circle waits longer each time. And
 * each state but OFF is entered with a deadline.
 */
#include "device-fw/core/session.h"

const struct fg_session_config fg_session_defaults = {
	.attach_ms = 600000,
	.connect_ms = 130000,
	.authenticate_ms = 60000,
	.resume_ms = 10000,
	.run_ms = 300000,
	.sleep_ms = 86400000,
	.backoff_min_ms = 5000,
	.backoff_max_ms = 3600000,
	.refused_min_ms = 60000,
	.detach_after = 6,
	.keeps_connection = true,
	.sleeps = true,
	.authenticates = true,
};

/* What one step works on. */
struct step {
	const struct fg_session_config *config;
	const struct fg_session_input *input;
	struct fg_session *s;
};

static unsigned enter(const struct step *t, enum fg_session_state state, uint32_t longest_ms,
		      unsigned actions)
{
	t->s->state = state;
	t->s->answered = false;
	t->s->since_ms = t->input->now_ms;
	t->s->deadline_ms = t->input->now_ms + longest_ms;
	return actions;
}

/* A part of `ms`, anything from none to all of it. */
static uint32_t random_part(const struct step *t, uint32_t ms)
{
	return (uint32_t)(((uint64_t)t->input->random * ms) >> 32);
}

/* The next thing to do on the way to RUNNING. */
static unsigned reach(const struct step *t)
{
	if (!t->s->attached)
		return enter(t, FG_SESSION_ATTACHING, t->config->attach_ms, FG_SESSION_DO_ATTACH);
	if (t->s->kept)
		return enter(t, FG_SESSION_RESUMING, t->config->resume_ms, FG_SESSION_DO_RESUME);
	return enter(t, FG_SESSION_CONNECTING, t->config->connect_ms, FG_SESSION_DO_CONNECT);
}

static unsigned run(const struct step *t)
{
	t->s->work = true;
	return enter(t, FG_SESSION_RUNNING, t->config->run_ms, FG_SESSION_DO_WORK);
}

static unsigned authenticate(const struct step *t)
{
	return enter(t, FG_SESSION_AUTHENTICATING, t->config->authenticate_ms,
		     FG_SESSION_DO_AUTHENTICATE);
}

static unsigned connected(const struct step *t)
{
	t->s->kept = false;
	return t->config->authenticates ? authenticate(t) : run(t);
}

/* One more failure: how long to wait, if it is `wait_ms` after the first. */
static uint32_t count_failure(const struct step *t, uint32_t wait_ms)
{
	const uint32_t max_ms = t->config->backoff_max_ms;
	struct fg_session *s = t->s;

	if (s->failures < UINT8_MAX)
		s->failures++;
	for (int n = 1; n < s->failures && wait_ms < max_ms; n++)
		wait_ms = wait_ms > UINT32_MAX / 2 ? UINT32_MAX : wait_ms * 2;
	return wait_ms < max_ms ? wait_ms : max_ms;
}

static unsigned back_off(const struct step *t, uint32_t wait_ms)
{
	const struct fg_session_config *config = t->config;
	struct fg_session *s = t->s;
	unsigned actions = 0;

	wait_ms = count_failure(t, wait_ms);
	wait_ms = wait_ms / 2 + random_part(t, wait_ms);

	/* Without network there is nothing wrong with a connection that is kept. */
	if (s->state != FG_SESSION_ATTACHING) {
		actions |= FG_SESSION_DO_CLOSE;
		s->kept = false;
	}
	/* A modem that finds no network is not left searching; one that has a network which
	 * carries nothing is started again now and then. */
	if (!s->attached || s->failures == UINT8_MAX ||
	    (config->detach_after > 0 && s->failures % config->detach_after == 0)) {
		actions |= FG_SESSION_DO_DETACH;
		s->attached = false;
	}
	return enter(t, FG_SESSION_BACKING_OFF, wait_ms, actions);
}

static unsigned fail(const struct step *t)
{
	if (t->s->state == FG_SESSION_ATTACHING || !t->s->kept)
		return back_off(t, t->config->backoff_min_ms);
	t->s->kept = false;
	return FG_SESSION_DO_CLOSE | reach(t);
}

/* The connection is gone, or was never wanted. */
static unsigned forget(const struct step *t)
{
	t->s->kept = false;
	return FG_SESSION_DO_CLOSE;
}

static unsigned fall_asleep(const struct step *t, bool held, uint32_t longest_ms)
{
	struct fg_session *s = t->s;

	if (s->answered)
		s->failures = 0;
	s->work = held;
	s->kept = t->config->keeps_connection;
	return enter(t, FG_SESSION_SLEEPING, longest_ms,
		     s->kept ? FG_SESSION_DO_KEEP : FG_SESSION_DO_CLOSE);
}

/* Not shorter than the server asks, but no server makes a device sleep for ever, or not at all. */
static uint32_t hold_ms(const struct step *t, uint32_t least_ms)
{
	uint32_t ms = t->input->hold_ms;

	if (ms < least_ms)
		ms = least_ms;
	if (ms > t->config->sleep_ms)
		ms = t->config->sleep_ms;
	return ms + random_part(t, ms / 2);
}

/* There is something to do: an answer must come in time. */
static unsigned work(const struct step *t)
{
	if (!t->s->work)
		t->s->deadline_ms = t->input->now_ms + t->config->run_ms;
	t->s->work = true;
	return FG_SESSION_DO_WORK;
}

static unsigned answered(const struct step *t)
{
	struct fg_session *s = t->s;

	s->answered = true;
	s->kept = false;
	if (s->work)
		s->deadline_ms = t->input->now_ms + t->config->run_ms;
	if (t->input->now_ms - s->since_ms >= t->config->run_ms)
		s->failures = 0;
	return 0;
}

static unsigned idle(const struct step *t)
{
	if (t->config->sleeps)
		return fall_asleep(t, false, t->config->sleep_ms);
	if (t->s->work)
		t->s->deadline_ms = t->input->now_ms + t->config->sleep_ms;
	t->s->work = false;
	return 0;
}

static unsigned stop(const struct step *t)
{
	*t->s = (struct fg_session){
		.state = FG_SESSION_OFF, .since_ms = t->input->now_ms, .deadline_ms = INT64_MAX};
	return FG_SESSION_DO_CLOSE | FG_SESSION_DO_DETACH;
}

static unsigned wait(const struct step *t)
{
	int64_t until_ms = t->input->now_ms + hold_ms(t, t->config->backoff_min_ms);
	unsigned actions = back_off(t, t->config->backoff_min_ms);

	if (t->s->deadline_ms < until_ms)
		t->s->deadline_ms = until_ms;
	return actions;
}

/* Who is put off each time, and told nothing else, asks less and less often. */
static unsigned hold(const struct step *t)
{
	if (t->s->answered)
		t->s->failures = 0;
	t->s->answered = false;
	return fall_asleep(t, true, hold_ms(t, count_failure(t, t->config->backoff_min_ms)));
}

static unsigned lost(const struct step *t)
{
	if (!t->config->keeps_connection)
		return back_off(t, t->config->backoff_min_ms);
	t->s->kept = true;
	return FG_SESSION_DO_KEEP | reach(t);
}

static unsigned doubted(const struct step *t)
{
	if (!t->config->authenticates || t->s->failures > 0)
		return fail(t);
	t->s->failures = 1;
	t->s->kept = true;
	return authenticate(t);
}

/* What an event means in a state; README.md has the table with its reasons. */
enum rule {
	NOTHING,
	BEGIN,
	REACH,
	WAKE,
	CONNECTED,
	RUN,
	FAIL,
	REFUSE,
	DOUBT,
	FORGET,
	WAIT,
	LOST,
	AGAIN,
	WORK,
	ANSWER,
	REST,
	HOLD,
	DUE,
};

#define ON(event) [FG_SESSION_##event]
#define LATE	  ON(CONNECTED) = FORGET, ON(RESUMED) = FORGET, ON(CLOSED) = FORGET
#define BROKEN	  ON(FAILED) = FAIL, ON(CLOSED) = FAIL

static const uint8_t rules[FG_SESSION_STATES][FG_SESSION_EVENTS] = {
	ON(OFF) = {ON(START) = BEGIN},
	ON(ATTACHING) = {LATE, ON(ATTACHED) = REACH, ON(FAILED) = FAIL, ON(TIMER) = FAIL},
	ON(CONNECTING) =
		{BROKEN, ON(CONNECTED) = CONNECTED,
		 /* Who was asked for a fresh connection and resumes one proves who it is. */
		 ON(RESUMED) = CONNECTED, ON(REFUSED) = REFUSE, ON(TIMER) = FAIL},
	ON(AUTHENTICATING) = {BROKEN, ON(AUTHENTICATED) = RUN, ON(REFUSED) = DOUBT,
			      ON(UNAUTHENTICATED) = DOUBT, ON(NO_ANSWER) = FAIL, ON(HOLD) = WAIT,
			      ON(TIMER) = FAIL},
	ON(RUNNING) = {BROKEN, ON(DETACHED) = LOST, ON(REFUSED) = REFUSE,
		       ON(UNAUTHENTICATED) = AGAIN, ON(WORK) = WORK, ON(IDLE) = REST,
		       ON(NO_ANSWER) = FAIL, ON(ANSWERED) = ANSWER, ON(HOLD) = HOLD,
		       ON(TIMER) = DUE},
	ON(SLEEPING) = {LATE, ON(FAILED) = FORGET, ON(WORK) = WAKE, ON(TIMER) = REACH},
	ON(RESUMING) = {BROKEN, ON(CONNECTED) = CONNECTED, ON(RESUMED) = RUN, ON(REFUSED) = REFUSE,
			ON(TIMER) = FAIL},
	ON(BACKING_OFF) = {LATE, ON(TIMER) = REACH},
};

static unsigned apply(const struct step *t, enum rule rule)
{
	switch (rule) {
	case NOTHING:
		break;
	case BEGIN:
		*t->s = (struct fg_session){.state = FG_SESSION_OFF};
		return reach(t);
	case WAKE:
		return t->s->work ? 0 : reach(t);
	case REACH:
		return reach(t);
	case CONNECTED:
		return connected(t);
	case RUN:
		return run(t);
	case DUE:
		return t->s->work ? fail(t) : work(t);
	case FAIL:
		return fail(t);
	case DOUBT:
		if (t->s->kept)
			return fail(t);
		/* fall through */
	case REFUSE:
		return back_off(t, t->config->refused_min_ms);
	case FORGET:
		return forget(t);
	case WAIT:
		return wait(t);
	case LOST:
		return lost(t);
	case AGAIN:
		return doubted(t);
	case WORK:
		return work(t);
	case ANSWER:
		return answered(t);
	case REST:
		return idle(t);
	case HOLD:
		return hold(t);
	}
	return 0;
}

/* Whether the network is there is noted in every state in which the radio is meant to be on: what
 * it says after it was switched off is late. */
static void note_network(struct fg_session *s, enum fg_session_event event)
{
	if (event == FG_SESSION_DETACHED)
		s->attached = false;
	if (event == FG_SESSION_ATTACHED && s->state != FG_SESSION_OFF &&
	    s->state != FG_SESSION_BACKING_OFF)
		s->attached = true;
}

unsigned fg_session_step(const struct fg_session_config *config, const struct fg_session *now,
			 const struct fg_session_input *input, struct fg_session *next)
{
	const struct step t = {.config = config, .input = input, .s = next};

	if (next != now)
		*next = *now;
	if (input->event == FG_SESSION_TIMER && input->now_ms < next->deadline_ms)
		return 0;
	if (input->event == FG_SESSION_STOP)
		return next->state == FG_SESSION_OFF ? 0 : stop(&t);
	note_network(next, input->event);
	return apply(&t, rules[next->state][input->event]);
}
