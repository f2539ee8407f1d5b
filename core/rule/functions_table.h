/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the functions do, by kind. Each is called with as many arguments as the table allows, some
 * of them undefined, and with *out undefined, which is the answer to arguments that it makes no
 * sense of.
 */
#ifndef FG_RULE_FUNCTIONS_TABLE_H
#define FG_RULE_FUNCTIONS_TABLE_H

#include "core/rule/functions.h"

#define RULE_ARGUMENTS_MAX 64 /* of a function that takes any number */

/* functions_message.c */
rule_function_call rule_call_topic, rule_call_device, rule_call_timestamp, rule_call_received_at;

/* functions_value.c */
rule_function_call rule_call_is_undefined, rule_call_is_null, rule_call_typeof, rule_call_cast,
	rule_call_coalesce, rule_call_get;

/* functions_number.c */
rule_function_call rule_call_abs, rule_call_sign, rule_call_ceil, rule_call_floor, rule_call_round,
	rule_call_trunc, rule_call_min, rule_call_max, rule_call_mod, rule_call_power,
	rule_call_sqrt, rule_call_exp, rule_call_ln, rule_call_log, rule_call_sin, rule_call_cos,
	rule_call_tan, rule_call_asin, rule_call_acos, rule_call_atan, rule_call_atan2,
	rule_call_bitand, rule_call_bitor, rule_call_bitxor, rule_call_bitnot;

/* functions_text.c */
rule_function_call rule_call_lower, rule_call_upper, rule_call_length, rule_call_concat,
	rule_call_substring, rule_call_startswith, rule_call_endswith, rule_call_indexof,
	rule_call_replace, rule_call_trim, rule_call_ltrim, rule_call_rtrim, rule_call_lpad,
	rule_call_rpad, rule_call_chr;

/* functions_bytes.c */
rule_function_call rule_call_numbytes, rule_call_encode, rule_call_decode, rule_call_md5,
	rule_call_sha1, rule_call_sha256, rule_call_sha512;

#endif
