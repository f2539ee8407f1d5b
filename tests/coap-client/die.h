/* SPDX-License-Identifier: Apache-2.0 */
/* The client is a tool of tests: what it cannot do ends it, with a line that says what. */
#ifndef FG_TESTS_DIE_H
#define FG_TESTS_DIE_H

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);

#endif
