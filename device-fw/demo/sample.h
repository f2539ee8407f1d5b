/* SPDX-License-Identifier: Apache-2.0 */
/* What the demo devices measure, and how they write it down. */
#ifndef FG_DEMO_SAMPLE_H
#define FG_DEMO_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define METRIC_COUNT 8

struct sample {
	int64_t ts_ms; /* since 1970 */
	double values[METRIC_COUNT];
};

int64_t now_ms(clockid_t clock);

/* Reading `number` of the sensors that it does not have. */
void sample_measure(struct sample *s, int number);

/* Both give malloc'd bytes, or NULL without memory. */
unsigned char *sample_encode_json(const struct sample *s, size_t *len);
unsigned char *sample_encode_cbor(const struct sample *s, size_t *len);

#endif
