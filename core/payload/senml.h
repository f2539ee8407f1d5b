/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SenML packs (RFC 8428), JSON and CBOR alike, to samples. Records are resolved with their base
 * fields; those of one resolved time form one sample.
 *
 * A record's reading is named after `n`, without the base name when that is a URN (it names the
 * device), with it otherwise; a record without `n` after the last segment of the base name. Where a
 * record's name names the device only, the units "lat" and "lon" (RFC 8428 section 12.1) name the
 * readings latitude and longitude; a name that comes again at the same time with another unit
 * becomes `<name>.<unit>`. A unit is the reading `<name>.unit`, a sum `<name>.sum`, an update time
 * `<name>.update_time`.
 */
#ifndef FG_PAYLOAD_SENML_H
#define FG_PAYLOAD_SENML_H

#include "core/payload/decoder.h"

/* Has this array the shape of a pack? Asked where the format does not say so. */
bool senml_is_pack(const struct value *array);

/* 0 or -errno. */
int senml_decode(struct decoder *d, const struct value *pack, struct payload *out);

#endif
