/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls/slots: a process that changes slots is killed at any moment. No number is used
 * twice, no record is accepted twice.
 */
#include "tests/coap/slots_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sigkill_at_any_moment_repeats_no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
