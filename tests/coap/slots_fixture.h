/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions in slots, in a directory of their own, for the tests of coap-server/dtls/slots. */
#ifndef FG_TEST_SLOTS_FIXTURE_H
#define FG_TEST_SLOTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/slots.h"
#include "coap-server/dtls/slots_internal.h"
#include "core/base/log.h"

#define EPOCH	 (UINT64_C(1) << 48)
#define BLOB_LEN 262

/* The directory, worker 0's file in it, the last error and the last line of the log. */
extern char dir[64], path[96], err[512];
extern char last_line[LOG_LINE_MAX + 1];

#define FOUND_MAX 512

struct found {
	size_t count, damaged;
	uint32_t slot[FOUND_MAX];
	struct slot_content c[FOUND_MAX];
};

extern struct found found; /* of the last restore */

/* Setup and teardown of a test. */
int make_directory(void **state);
int remove_directory(void **state);

/* Session n, and its parts: no two are the same. */
struct address address_of(unsigned n);
struct dtls_identity identity_of(unsigned n);
struct slot_content session(unsigned n);
struct blob_counters counters_of(const struct slot_content *c);
/* Other counters into its blob. */
void patch(struct slot_content *c, uint64_t out, uint64_t top, uint64_t window);
void assert_same(const struct slot_content *a, const struct slot_content *b);

/* At `path`; an error fails the test. */
struct slots *open_slots(size_t count);
uint32_t put(struct slots *s, const struct slot_content *c);
void restore(struct slots *s);
/* What a process finds that starts now. */
void reopen(size_t count);
/* It is exactly this session. */
void assert_restored(const struct slot_content *expected);

/* Are these bytes anywhere in the file? */
bool file_holds(const void *bytes, size_t len);
/* So many sessions, from 0 on. */
void fill(size_t slots, unsigned sessions);
/* Was it found, and once? */
bool found_id(uint64_t id);

#endif
