/* SPDX-License-Identifier: Apache-2.0 */
/* Text that PostgreSQL takes, written into a struct bytes: JSON, RFC 3339, and UTF-8 made
 * well-formed. */
#ifndef FG_STORE_PGTEXT_H
#define FG_STORE_PGTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/payload/payload.h"
#include "core/store/bytes.h"

/* s, well-formed UTF-8 without NUL, as a JSON string with its quotes. */
void pgtext_put_json_string(struct bytes *b, const char *s, size_t len);

/* A reading's value as JSON. A number has as many digits as it needs to read back the same. */
void pgtext_put_json_value(struct bytes *b, const struct reading *r);

/* "name":value */
void pgtext_put_json_member(struct bytes *b, const struct reading *r);

/* As text: bytes that are not well-formed UTF-8, and NUL, become U+FFFD. */
void pgtext_put_utf8(struct bytes *b, const void *data, size_t len);

/* Characters in well-formed UTF-8. */
size_t pgtext_length(const char *s, size_t len);

/* RFC 3339 in UTC with microseconds; false, and nothing written, outside the years 0000 to 9999. */
bool pgtext_put_rfc3339(struct bytes *b, int64_t us);

#endif
