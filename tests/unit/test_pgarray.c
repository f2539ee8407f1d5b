/* SPDX-License-Identifier: Apache-2.0 */
/* Binary arrays, as bytes and as a real server reads them. */
#include <errno.h>
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "core/store/pgarray.h"
#include "core/store/sqlstate.h"
#include "tests/unit/pg_cluster.h"

static struct pg_cluster cluster;
static PGconn *conn;
static struct pgarray a;

static int start(void **state)
{
	(void)state;
	pg_cluster_init(&cluster);
	conn = PQconnectdb(cluster.url);
	assert_int_equal(PQstatus(conn), CONNECTION_OK);
	PQclear(PQexec(conn, "set timezone = 'UTC'"));
	return 0;
}

static int stop(void **state)
{
	(void)state;
	PQfinish(conn);
	pgarray_free(&a);
	pg_cluster_free(&cluster);
	return 0;
}

/* What the server makes of the array: its elements, as text. */
static void assert_server_reads(const char *type, const char *expected)
{
	const char *values[1];
	int lengths[1], formats[1] = {1};
	char sql[128];
	PGresult *r;

	assert_int_equal(pgarray_end(&a), 0);
	values[0] = (const char *)a.b.data;
	lengths[0] = (int)a.b.len;
	snprintf(sql, sizeof(sql), "select $1::%s[]::text", type);
	r = PQexecParams(conn, sql, 1, NULL, values, lengths, formats, 0);
	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fail_msg("%s", PQresultErrorMessage(r));
	assert_string_equal(PQgetvalue(r, 0, 0), expected);
	PQclear(r);
}

static void test_layout_is_that_of_array_recv(void **state)
{
	static const unsigned char expected[] = {
		0,   0,	  0,   1,		/* dimensions */
		0,   0,	  0,   1,		/* has nulls */
		0,   0,	  0,   23,		/* int4 */
		0,   0,	  0,   2,		/* elements */
		0,   0,	  0,   1,		/* lower bound */
		0,   0,	  0,   4,   0, 0, 1, 2, /* 258 */
		255, 255, 255, 255,		/* null */
	};

	(void)state;
	pgarray_begin(&a, PG_INT4);
	pgarray_int4(&a, 258);
	pgarray_null(&a);
	assert_int_equal(pgarray_end(&a), 0);
	assert_int_equal(a.b.len, sizeof(expected));
	assert_memory_equal(a.b.data, expected, sizeof(expected));
}

static void test_integers(void **state)
{
	(void)state;
	pgarray_begin(&a, PG_INT2);
	pgarray_int2(&a, INT16_MIN);
	pgarray_null(&a);
	pgarray_int2(&a, INT16_MAX);
	assert_server_reads("int2", "{-32768,NULL,32767}");
	pgarray_begin(&a, PG_INT4);
	pgarray_int4(&a, INT32_MIN);
	pgarray_int4(&a, INT32_MAX);
	assert_server_reads("int4", "{-2147483648,2147483647}");
	pgarray_begin(&a, PG_INT8);
	pgarray_int8(&a, INT64_MIN);
	pgarray_int8(&a, INT64_MAX);
	assert_server_reads("int8", "{-9223372036854775808,9223372036854775807}");
}

static void test_floats_keep_every_bit(void **state)
{
	(void)state;
	pgarray_begin(&a, PG_FLOAT4);
	pgarray_float4(&a, 0.1F);
	pgarray_float4(&a, FLT_MAX);
	pgarray_float4(&a, -0.0F);
	assert_server_reads("float4", "{0.1,3.4028235e+38,-0}");
	pgarray_begin(&a, PG_FLOAT8);
	pgarray_float8(&a, 0.1 + 0.2);
	pgarray_float8(&a, DBL_MIN);
	pgarray_null(&a);
	assert_server_reads("float8", "{0.30000000000000004,2.2250738585072014e-308,NULL}");
}

static void test_text_bytes_and_json(void **state)
{
	(void)state;
	pgarray_begin(&a, PG_TEXT);
	pgarray_data(&a, "", 0);
	pgarray_data(&a, "a \"b\"", 5);
	pgarray_data(&a, "\xe2\x82\xac", 3);
	assert_server_reads("text", "{\"\",\"a \\\"b\\\"\",\xe2\x82\xac}");
	pgarray_begin(&a, PG_BYTEA);
	pgarray_data(&a, "\0\xff", 2);
	assert_server_reads("bytea", "{\"\\\\x00ff\"}");
	pgarray_begin(&a, PG_JSONB);
	pgarray_jsonb(&a, "[1,2]", 5);
	pgarray_null(&a);
	assert_server_reads("jsonb", "{\"[1, 2]\",NULL}");
}

static void test_booleans_and_times(void **state)
{
	(void)state;
	pgarray_begin(&a, PG_BOOL);
	pgarray_bool(&a, true);
	pgarray_bool(&a, false);
	assert_server_reads("bool", "{t,f}");
	pgarray_begin(&a, PG_TIMESTAMPTZ);
	pgarray_timestamptz(&a, 0);
	pgarray_timestamptz(&a, INT64_C(1763692800123456));
	assert_server_reads("timestamptz", "{\"1970-01-01 00:00:00+00\",\"2025-11-21 "
					   "02:40:00.123456+00\"}");
}

static void test_array_is_made_anew_each_time(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		pgarray_begin(&a, PG_INT4);
		pgarray_int4(&a, i);
	}
	assert_server_reads("int4", "{2}");
}

static void test_ten_thousand_elements(void **state)
{
	PGresult *r;
	const char *values[1];
	int lengths[1], formats[1] = {1};

	(void)state;
	pgarray_begin(&a, PG_INT8);
	for (int i = 1; i <= 10000; i++)
		pgarray_int8(&a, i);
	assert_int_equal(pgarray_end(&a), 0);
	values[0] = (const char *)a.b.data;
	lengths[0] = (int)a.b.len;
	r = PQexecParams(conn, "select sum(x) from unnest($1::int8[]) x", 1, NULL, values, lengths,
			 formats, 0);
	assert_string_equal(PQgetvalue(r, 0, 0), "50005000");
	PQclear(r);
}

static void test_out_of_memory_is_told_at_the_end(void **state)
{
	(void)state;
	pgarray_begin(&a, PG_TEXT);
	pgarray_data(&a, "x", (size_t)INT32_MAX + 1);
	assert_int_equal(pgarray_end(&a), -ENOMEM);
}

static void test_times_out_of_range_are_saturated(void **state)
{
	(void)state;
	assert_true(pg_timestamp_from_unix(INT64_MIN) == INT64_MIN);
	assert_true(pg_timestamp_to_unix(INT64_MAX) == INT64_MAX);
	assert_true(pg_timestamp_to_unix(pg_timestamp_from_unix(12345)) == 12345);
}

static void test_errors_that_a_message_causes_are_told_from_the_systems(void **state)
{
	static const struct {
		const char *sqlstate;
		enum sqlstate_class class;
	} cases[] = {
		{"22P02", SQLSTATE_ROW},      {"23514", SQLSTATE_ROW},
		{"P0001", SQLSTATE_ROW},      {"54000", SQLSTATE_ROW},
		{"FG002", SQLSTATE_ROW},      {"42804", SQLSTATE_SCHEMA},
		{"42703", SQLSTATE_SCHEMA},   {"42501", SQLSTATE_SYSTEM},
		{"40P01", SQLSTATE_SYSTEM},   {"53100", SQLSTATE_SYSTEM},
		{"57014", SQLSTATE_SYSTEM},   {"55P03", SQLSTATE_SYSTEM},
		{"25006", SQLSTATE_SYSTEM},   {"08006", SQLSTATE_SYSTEM},
		{"FG001", SQLSTATE_POSITION}, {"XX000", SQLSTATE_UNKNOWN},
		{NULL, SQLSTATE_SYSTEM},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(sqlstate_class(cases[i].sqlstate), cases[i].class);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_is_that_of_array_recv),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_floats_keep_every_bit),
		cmocka_unit_test(test_text_bytes_and_json),
		cmocka_unit_test(test_booleans_and_times),
		cmocka_unit_test(test_array_is_made_anew_each_time),
		cmocka_unit_test(test_ten_thousand_elements),
		cmocka_unit_test(test_out_of_memory_is_told_at_the_end),
		cmocka_unit_test(test_times_out_of_range_are_saturated),
		cmocka_unit_test(test_errors_that_a_message_causes_are_told_from_the_systems),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
