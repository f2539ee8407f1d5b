/* SPDX-License-Identifier: Apache-2.0 */
/* What a message is when nobody has said so. Any thread. */
#ifndef FG_PAYLOAD_CONTENT_FORMAT_H
#define FG_PAYLOAD_CONTENT_FORMAT_H

#include <stddef.h>

/* CoAP Content-Formats, https://www.iana.org/assignments/core-parameters */
enum content_format {
	CONTENT_FORMAT_NONE = -1,
	CONTENT_FORMAT_TEXT = 0,
	CONTENT_FORMAT_BYTES = 42,
	CONTENT_FORMAT_JSON = 50,
	CONTENT_FORMAT_CBOR = 60,
	CONTENT_FORMAT_SENML_JSON = 110,
	CONTENT_FORMAT_SENML_CBOR = 112,
};

/*
 * The first that fits: JSON, text (UTF-8 without control characters but tabs and ends of lines),
 * CBOR, bytes; no bytes at all: none. Maps and arrays of CBOR are never text.
 */
enum content_format payload_content_format(const void *data, size_t len);

#endif
