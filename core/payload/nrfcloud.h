/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nRF Cloud's device messages, as Nordic's client library writes them: JSON
 * {"appId":..,"messageType":"DATA","data":..,"ts":..} (messageType may be missing), CBOR
 * {1: appId, 2: data, 3: ts}. The application ids that have a column become its name (see
 * nrfcloud.c), any other, in lower case, names the reading; data that is a map is flattened under
 * it. ts is in milliseconds.
 */
#ifndef FG_PAYLOAD_NRFCLOUD_H
#define FG_PAYLOAD_NRFCLOUD_H

#include "core/payload/decoder.h"

/* Is this map one? */
bool nrfcloud_is_message(const struct value *map);

/* 0 or -errno. */
int nrfcloud_sample(struct decoder *d, struct sample *s, const struct value *map);

#endif
