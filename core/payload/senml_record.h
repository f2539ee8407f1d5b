/* SPDX-License-Identifier: Apache-2.0 */
/* One record of a SenML pack: its fields, resolved with the base fields in force (RFC 8428
 * section 4.6). */
#ifndef FG_PAYLOAD_SENML_RECORD_H
#define FG_PAYLOAD_SENML_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/payload/decoder.h"

enum senml_field {
	SENML_BVER,
	SENML_BN,
	SENML_BT,
	SENML_BU,
	SENML_BV,
	SENML_BS,
	SENML_N, /* from here on regular fields */
	SENML_U,
	SENML_V,
	SENML_VS,
	SENML_VB,
	SENML_VD,
	SENML_S,
	SENML_T,
	SENML_UT,
	SENML_COUNT,
};

struct senml_record {
	struct value field[SENML_COUNT]; /* numbers are VALUE_INTEGER, VALUE_NUMBER or VALUE_NULL */
	bool has[SENML_COUNT];
	bool is_measurement; /* it has more than base fields */
	int64_t ts_us;	     /* absolute or relative, as RFC 8428 section 4.5.3 tells apart */
};

/* Which field the member is; SENML_COUNT: none that we know. */
enum senml_field senml_field_of(const struct member *m);

/*
 * Read and resolve the record that map is. number counts from 1; before: the record before it, or
 * NULL. 0 or -errno.
 */
int senml_record_read(struct decoder *d, size_t number, const struct value *map,
		      const struct senml_record *before, struct senml_record *r);

#endif
