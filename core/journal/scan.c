/* SPDX-License-Identifier: Apache-2.0 */
/* See scan.h. Bytes are fetched in large chunks, and records handed out from where they lie in the
 * chunk. */
#include "core/journal/scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/journal/record.h"

#define SCAN_CHUNK (256 * 1024)

void scan_start(struct scan *s, int fd, uint32_t seed, uint64_t offset, uint64_t limit)
{
	s->fd = fd;
	s->seed = seed;
	s->offset = offset;
	s->limit = limit;
	s->buffered = 0;
}

static int grow(struct scan *s, size_t size)
{
	unsigned char *larger;

	if (size < SCAN_CHUNK)
		size = SCAN_CHUNK;
	if (size <= s->buffer_size)
		return 0;
	larger = malloc(size);
	if (!larger)
		return -ENOMEM;
	free(s->buffer);
	s->buffer = larger;
	s->buffer_size = size;
	return 0;
}

static const unsigned char *here(const struct scan *s)
{
	return s->buffer + (s->offset - s->buffered_at);
}

static bool has(const struct scan *s, size_t n)
{
	return s->buffered > 0 && s->offset >= s->buffered_at &&
	       s->offset + n <= s->buffered_at + s->buffered;
}

/* Have the n bytes at s->offset (all before the limit) in the buffer. 1; 0: the file is shorter;
 * -errno. */
static int fetch(struct scan *s, size_t n)
{
	uint64_t left = s->limit - s->offset;
	size_t ask;
	int rc;

	if (has(s, n))
		return 1;
	s->buffered = 0;
	rc = grow(s, n);
	if (rc)
		return rc;
	ask = left < s->buffer_size ? (size_t)left : s->buffer_size;
	s->buffered_at = s->offset;
	while (s->buffered < n) {
		ssize_t got = pread(s->fd, s->buffer + s->buffered, ask - s->buffered,
				    (off_t)(s->buffered_at + s->buffered));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		s->buffered += (size_t)got;
	}
	return 1;
}

/* A header at s->offset: 1 and *size (0: not valid); 0: no room for one before the end; -errno. */
static int look(struct scan *s, size_t *size)
{
	int rc;

	if (s->limit - s->offset < RECORD_HEADER)
		return 0;
	rc = fetch(s, RECORD_HEADER);
	if (rc <= 0)
		return rc;
	*size = record_header_size(here(s), s->seed, s->offset);
	return *size <= s->limit - s->offset;
}

int scan_next(struct scan *s, struct journal_record *r)
{
	size_t size;
	int rc;

	while ((rc = look(s, &size)) > 0) {
		const unsigned char *p;

		if (size == 0) {
			s->offset += RECORD_ALIGN;
			continue;
		}
		rc = fetch(s, size);
		if (rc <= 0)
			break;
		p = here(s);
		s->record = s->offset;
		s->offset += size;
		if (record_parse(p, size, s->seed, s->record, r))
			return 1;
	}
	if (rc == 0)
		s->offset = s->limit;
	return rc;
}

int scan_skip(struct scan *s, uint64_t to)
{
	size_t size;
	int rc = 1;

	if (to > s->limit)
		to = s->limit;
	while (s->offset < to && (rc = look(s, &size)) > 0)
		s->offset += size > 0 ? size : RECORD_ALIGN;
	if (rc == 0)
		s->offset = s->limit;
	return rc < 0 ? rc : 0;
}

void scan_free(struct scan *s)
{
	free(s->buffer);
	s->buffer = NULL;
	s->buffer_size = 0;
	s->buffered = 0;
}
