/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sessions, with client pointers that are only compared, as in the plugin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "plugin/sessions.h"

#define MANY 5000

static const uint8_t fingerprint[FINGERPRINT_LEN] = {1, 2, 3};
static char memory[MANY];

static const struct mosquitto *client(size_t n)
{
	return (const struct mosquitto *)(const void *)&memory[n];
}

static struct session *add(struct sessions *t, size_t n, const char *client_id)
{
	struct session *s =
		sessions_add(t, client(n), client_id, "dev-1", CREDENTIAL_X509, fingerprint);

	assert_non_null(s);
	return s;
}

static void test_session_is_found_by_client_and_by_id(void **state)
{
	struct sessions t;
	struct session *s;

	(void)state;
	assert_int_equal(sessions_init(&t), 0);
	s = add(&t, 0, "dev-1/a");
	assert_ptr_equal(sessions_by_client(&t, client(0)), s);
	assert_ptr_equal(sessions_live_by_id(&t, "dev-1/a"), s);
	assert_null(sessions_by_client(&t, client(1)));
	assert_null(sessions_live_by_id(&t, "dev-1"));
	assert_string_equal(s->principal_id, "dev-1");
	assert_memory_equal(s->fingerprint, fingerprint, FINGERPRINT_LEN);
	sessions_free(&t);
}

static void test_gone_session_is_found_by_client_until_it_is_buried(void **state)
{
	struct sessions t;
	struct session *s;

	(void)state;
	sessions_init(&t);
	s = add(&t, 0, "dev-1");
	sessions_gone(&t, s);
	assert_ptr_equal(sessions_by_client(&t, client(0)), s);
	assert_null(sessions_live_by_id(&t, "dev-1"));
	sessions_bury(&t);
	assert_null(sessions_by_client(&t, client(0)));
	assert_int_equal(t.count, 0);
	sessions_free(&t);
}

static void test_superseded_session_leaves_its_id_to_the_newer(void **state)
{
	struct sessions t;
	struct session *old, *new;

	(void)state;
	sessions_init(&t);
	old = add(&t, 0, "dev-1");
	new = add(&t, 1, "dev-1");
	sessions_supersede(&t, old);
	assert_ptr_equal(sessions_live_by_id(&t, "dev-1"), new);
	assert_ptr_equal(sessions_by_client(&t, client(0)), old);
	sessions_gone(&t, old);
	sessions_bury(&t);
	assert_ptr_equal(sessions_live_by_id(&t, "dev-1"), new);
	sessions_gone(&t, new);
	assert_null(sessions_live_by_id(&t, "dev-1"));
	sessions_free(&t);
}

static void test_reused_client_pointer_replaces_what_is_left(void **state)
{
	struct sessions t;

	(void)state;
	sessions_init(&t);
	sessions_gone(&t, add(&t, 0, "dev-1"));
	add(&t, 0, "dev-2");
	assert_string_equal(sessions_by_client(&t, client(0))->client_id, "dev-2");
	sessions_bury(&t);
	assert_non_null(sessions_live_by_id(&t, "dev-2"));
	assert_int_equal(t.count, 1);
	/* Even when the broker never said that the former one went. */
	add(&t, 0, "dev-3");
	assert_null(sessions_live_by_id(&t, "dev-2"));
	assert_int_equal(t.count, 1);
	sessions_free(&t);
}

static size_t live_of(const struct sessions *t, const char *principal_id)
{
	size_t n = 0;

	for (const struct session *s = sessions_live_of(t, principal_id); s;
	     s = sessions_next_of(s)) {
		assert_string_equal(s->principal_id, principal_id);
		assert_int_equal(s->state, SESSION_LIVE);
		n++;
	}
	return n;
}

static void test_live_sessions_of_a_principal_are_found(void **state)
{
	struct session *s;
	struct sessions t;

	(void)state;
	sessions_init(&t);
	for (size_t n = 0; n < 1000; n++) {
		char id[32], principal[32];

		snprintf(id, sizeof(id), "dev-%zu/%zu", n % 400, n);
		snprintf(principal, sizeof(principal), "dev-%zu", n % 400);
		assert_non_null(
			sessions_add(&t, client(n), id, principal, CREDENTIAL_X509, fingerprint));
	}
	assert_int_equal(live_of(&t, "dev-7"), 3);
	assert_int_equal(live_of(&t, "dev-300"), 2);
	assert_int_equal(live_of(&t, "dev-400"), 0);
	sessions_gone(&t, sessions_by_client(&t, client(407)));
	assert_int_equal(live_of(&t, "dev-7"), 2);
	s = sessions_by_client(&t, client(7));
	sessions_supersede(&t, s);
	assert_int_equal(live_of(&t, "dev-7"), 1);
	sessions_gone(&t, s);
	sessions_bury(&t);
	assert_int_equal(live_of(&t, "dev-7"), 1);
	sessions_remove(&t, sessions_by_client(&t, client(807)));
	assert_int_equal(live_of(&t, "dev-7"), 0);
	assert_int_equal(live_of(&t, "dev-8"), 3);
	sessions_free(&t);
}

static void test_many_sessions_come_and_go(void **state)
{
	struct sessions t;
	char id[32];

	(void)state;
	sessions_init(&t);
	for (size_t n = 0; n < MANY; n++) {
		snprintf(id, sizeof(id), "dev-%zu", n);
		add(&t, n, id);
		if (n % 3 == 0)
			sessions_gone(&t, sessions_by_client(&t, client(n)));
	}
	for (size_t n = 0; n < MANY; n++) {
		snprintf(id, sizeof(id), "dev-%zu", n);
		assert_string_equal(sessions_by_client(&t, client(n))->client_id, id);
		assert_int_equal(sessions_live_by_id(&t, id) != NULL, n % 3 != 0);
	}
	sessions_bury(&t);
	assert_int_equal(t.count, MANY - (MANY + 2) / 3);
	sessions_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session_is_found_by_client_and_by_id),
		cmocka_unit_test(test_gone_session_is_found_by_client_until_it_is_buried),
		cmocka_unit_test(test_superseded_session_leaves_its_id_to_the_newer),
		cmocka_unit_test(test_reused_client_pointer_replaces_what_is_left),
		cmocka_unit_test(test_live_sessions_of_a_principal_are_found),
		cmocka_unit_test(test_many_sessions_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
