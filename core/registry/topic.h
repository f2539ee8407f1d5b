/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT topic names and topic filters (MQTT 3.1.1 and 5.0, section 4.7), with one extension for
 * policies: `${device}` in a filter stands for the device's id, anywhere in a level.
 *
 * Every function is pure, allocates nothing, needs time linear in its input and may be called from
 * any thread. Strings end with NUL. `device` replaces `${device}` in filters; NULL: a filter that
 * contains
 * `${device}` then matches and covers nothing. A device id holds no '/', '+' or '#'
 * (principal_id_valid), so it can never widen a filter.
 */
#ifndef FG_REGISTRY_TOPIC_H
#define FG_REGISTRY_TOPIC_H

#include <stdbool.h>

#define TOPIC_MAX_BYTES 65535 /* MQTT 5.0 section 1.5.4 */

/* A name to publish to: not empty, well-formed UTF-8, no wildcard (section 4.7.1). */
bool topic_name_valid(const char *topic);

/* '+' only as a whole level, '#' only as the whole last level; otherwise as topic_name_valid. */
bool topic_filter_valid(const char *filter);

/* Does filter match topic? A leading wildcard does not match a leading '$' (section 4.7.2). */
bool topic_matches(const char *filter, const char *device, const char *topic);

/*
 * Is every topic that `asked` matches also matched by filter? For the right to subscribe.
 * asked is a plain filter from a client: no `${device}` in it is replaced.
 */
bool topic_filter_covers(const char *filter, const char *device, const char *asked);

/* Is there a topic that both match? For a deny rule against a subscription. */
bool topic_filters_overlap(const char *filter, const char *device, const char *asked);

/* The filter of a shared subscription `$share/<group>/<filter>` (MQTT 5.0 section 4.8.2), else the
 * argument; NULL when it begins with `$share/` but has no group or no filter. */
const char *topic_shared_filter(const char *asked);

#endif
