/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything in flash is a record of one form (README.md): a sector begins with one that says its
 * generation, readings and anchors follow. Generations count up and sector = generation % sectors,
 * so the newest sector names all others that belong to the ring. Nothing is ever looked for by its
 * content: a record is where the one before it ends.
 */
#include "device-fw/core/backlog.h"

#include <errno.h>
#include <string.h>

enum kind { SECTOR = 'S', DATED = 'W', UNDATED = 'U', ANCHOR = 'A' };

#define FORMAT_VERSION 1
#define CHECK	       0x5a
#define CRC_START      0x42474621u /* "!FGB": what another program has left is never ours */
#define ERASED	       0xffffffffu
#define ACKNOWLEDGED   0u

/* As it is in flash, in the byte order of the CPU (little). */
struct header {
	uint8_t length, pair_count, kind, check;
	uint32_t seq;
	uint32_t time_low; /* DATED, ANCHOR: since 1970; UNDATED: uptime; SECTOR: generation */
	uint16_t time_high, boot;
	uint32_t crc;
	uint32_t mark; /* written when the server has this record, and so all before it */
};

#define WRITTEN_AT_ONCE offsetof(struct header, mark)
#define COVERED_BY_CRC	offsetof(struct header, crc)

enum content {
	EMPTY,	    /* nothing was written here since the sector was erased */
	WHOLE,	    /* a record */
	TORN,	    /* a record that ends where its header says, but is not what was written */
	UNREADABLE, /* nothing here and behind it in this sector makes sense, or the port says -EIO
		     */
};

/* A place in the ring, and what is there. */
struct slot {
	uint32_t generation, offset; /* in its sector */
	uint32_t next;		     /* where the next one is; the sector's size if there is none */
	enum content content;
	bool failed; /* UNREADABLE because of the port */
	struct header h;
};

static uint32_t sector_size(const struct fg_backlog *b)
{
	return b->port->flash->sector_size;
}

static uint32_t sectors(const struct fg_backlog *b)
{
	return b->port->flash->sectors;
}

static uint32_t address(const struct fg_backlog *b, const struct slot *at)
{
	return at->generation % sectors(b) * sector_size(b) + at->offset;
}

static uint32_t padded(uint32_t length)
{
	return (length + 3) & ~3u;
}

static uint32_t slot_size(const struct header *h)
{
	return (uint32_t)sizeof(*h) + padded(h->length);
}

static uint8_t check_of(const struct header *h)
{
	return (uint8_t)(h->length ^ h->pair_count ^ h->kind ^ CHECK);
}

static int64_t time_of(const struct header *h)
{
	return (int64_t)((uint64_t)h->time_high << 32 | h->time_low);
}

static uint32_t crc32(uint32_t crc, const void *bytes, size_t length)
{
	for (const uint8_t *p = bytes; length > 0; p++, length--) {
		crc ^= *p;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
	}
	return crc;
}

/* The seed holds the geometry: in a ring of another size nothing is where it should be. */
static uint32_t crc_header(const struct fg_backlog *b, const struct header *h)
{
	return crc32(CRC_START ^ sector_size(b) ^ sectors(b) << 16, h, COVERED_BY_CRC);
}

/* The checksum of what is in flash behind the header. False: it cannot be read. */
static bool crc_payload(const struct fg_backlog *b, uint32_t from, uint32_t left, uint32_t *crc)
{
	uint8_t part[32];

	while (left > 0) {
		uint32_t n = left < sizeof(part) ? left : (uint32_t)sizeof(part);

		if (b->port->flash_read(b->ctx, from, part, n) != 0)
			return false;
		*crc = crc32(*crc, part, n);
		from += n;
		left -= n;
	}
	return true;
}

/* What is at the slot's place. */
static void read_slot(const struct fg_backlog *b, struct slot *at)
{
	const uint32_t from = address(b, at), room = sector_size(b) - at->offset;
	uint32_t crc;

	at->content = EMPTY;
	at->next = at->offset;
	at->failed = false;
	if (room < sizeof(at->h))
		return;
	at->failed = b->port->flash_read(b->ctx, from, &at->h, sizeof(at->h)) != 0;
	if (!at->failed && memcmp(&at->h, &(uint32_t){ERASED}, sizeof(uint32_t)) == 0)
		return;
	at->content = UNREADABLE;
	at->next = sector_size(b);
	if (at->failed || at->h.check != check_of(&at->h) || slot_size(&at->h) > room)
		return;
	crc = crc_header(b, &at->h);
	at->failed = !crc_payload(b, from + (uint32_t)sizeof(at->h), at->h.length, &crc);
	if (at->failed)
		return;
	at->content = crc == at->h.crc ? WHOLE : TORN;
	at->next = at->offset + slot_size(&at->h);
}

static bool opens(const struct slot *at)
{
	return at->content == WHOLE && at->h.kind == SECTOR && at->h.pair_count == FORMAT_VERSION &&
	       time_of(&at->h) == at->generation;
}

/* Goes on to what is at `next`: a sector's header, a record, or what once was one. False: that was
 * all. */
static bool next_slot(const struct fg_backlog *b, struct slot *at)
{
	at->offset = at->next;
	for (;;) {
		if (at->offset >= sector_size(b)) {
			if (at->generation == b->generation)
				return false;
			at->generation++;
			at->offset = 0;
		}
		read_slot(b, at);
		if (at->offset == 0 && at->content != EMPTY && !opens(at)) {
			at->content = UNREADABLE;
			at->next = sector_size(b);
		}
		if (at->content != EMPTY)
			return true;
		at->offset = sector_size(b);
	}
}

static struct slot oldest(const struct fg_backlog *b)
{
	return (struct slot){.generation = b->generation - sectors(b) + 1};
}

/* The slot at an address of the flash. */
static struct slot slot_at(const struct fg_backlog *b, uint32_t where)
{
	const uint32_t n = sectors(b), sector = where / sector_size(b);
	struct slot at = {.offset = where % sector_size(b)};

	at.generation = b->generation - (b->generation + n - sector) % n;
	read_slot(b, &at);
	return at;
}

/* Before the oldest record that may be waiting. */
static struct slot start(const struct fg_backlog *b)
{
	return b->done != 0 ? slot_at(b, b->done) : oldest(b);
}

static bool is_reading(const struct slot *at)
{
	return at->content == WHOLE && (at->h.kind == DATED || at->h.kind == UNDATED);
}

/* Takes those that wait up to a place, and with it, out of the count; how many. */
static uint32_t forget(struct fg_backlog *b, uint32_t generation, uint32_t offset)
{
	struct slot at = start(b);
	uint32_t n = 0;

	while (next_slot(b, &at)) {
		uint32_t behind = generation - at.generation;

		if (behind > sectors(b) || (behind == 0 && at.offset > offset))
			break;
		n += is_reading(&at);
	}
	b->waiting = b->waiting > n ? b->waiting - n : 0;
	return n;
}

/* Writes a record, and reads it again: what is in flash then is what counts, whatever the port says
 * of its writes. True: it is there. */
static bool write_slot(const struct fg_backlog *b, struct slot *at, struct header *h,
		       const void *payload)
{
	const struct fg_port *port = b->port;
	const uint32_t to = address(b, at), aligned = h->length & ~3u;
	uint32_t tail = ERASED;

	h->check = check_of(h);
	h->crc = crc32(crc_header(b, h), payload, h->length);
	memcpy(&tail, (const uint8_t *)payload + aligned, h->length - aligned);
	port->flash_write(b->ctx, to, h, WRITTEN_AT_ONCE);
	if (aligned > 0)
		port->flash_write(b->ctx, to + (uint32_t)sizeof(*h), payload, aligned);
	if (h->length > aligned)
		port->flash_write(b->ctx, to + (uint32_t)sizeof(*h) + aligned, &tail, sizeof(tail));
	read_slot(b, at);
	return at->content == WHOLE && memcmp(&at->h, h, WRITTEN_AT_ONCE) == 0;
}

static void set_time(struct header *h, int64_t time_ms)
{
	h->time_low = (uint32_t)time_ms;
	h->time_high = (uint16_t)((uint64_t)time_ms >> 32);
}

/* Gives up the oldest sector for the next generation, or the two oldest for the one after it. */
static int open_sector(struct fg_backlog *b, uint32_t ahead)
{
	struct slot at = {.generation = b->generation + ahead};
	struct header h = {.kind = SECTOR,
			   .pair_count = FORMAT_VERSION,
			   .seq = b->next_seq,
			   .boot = b->boot,
			   .time_low = at.generation};
	uint32_t waiting = b->waiting, lost = forget(b, at.generation - sectors(b), sector_size(b));

	/* If this fails nobody knows whether the new header is there: nothing may come before it.
	 */
	b->head = sector_size(b);
	if (b->port->flash_erase(b->ctx, address(b, &at)) != 0) {
		b->waiting = waiting;
		return -EIO;
	}
	b->lost += lost;
	if (start(b).generation + sectors(b) <= at.generation)
		b->done = 0;
	if (!write_slot(b, &at, &h, &h))
		return -EIO;
	b->generation = at.generation;
	b->head = at.next;
	return 0;
}

static void count_up(struct fg_backlog *b, uint32_t n)
{
	b->next_seq += n;
	if (b->next_seq < n)
		b->next_seq = 1;
}

/* The newest sector. Not to know one of them could mean to use its numbers again. */
static int find_newest(struct fg_backlog *b)
{
	for (uint32_t i = 0; i < sectors(b); i++) {
		struct slot at = {.generation = i};

		read_slot(b, &at);
		if (at.failed)
			return -EIO;
		at.generation = at.h.time_low;
		if (opens(&at) && at.generation % sectors(b) == i && at.generation > b->generation)
			b->generation = at.generation;
	}
	return 0;
}

/* What one slot says about what is to come. The numbers behind it that were used, or may have
 * been. */
static uint32_t learn(struct fg_backlog *b, const struct slot *at)
{
	uint32_t n = 1;

	if (at->content == WHOLE) {
		b->next_seq = at->h.seq;
		b->boot = at->h.boot;
		n = is_reading(at);
		b->waiting += n;
		if (at->h.mark == ACKNOWLEDGED) {
			b->done = address(b, at);
			b->waiting = 0;
		}
	} else {
		b->corrupt++;
		if (at->content == UNREADABLE)
			n = sector_size(b) / (uint32_t)sizeof(at->h);
	}
	return n;
}

int fg_backlog_mount(struct fg_backlog *b)
{
	const struct fg_flash_geometry *flash = b->port->flash;
	uint32_t skipped = 0;
	struct slot at;

	*b = (struct fg_backlog){.port = b->port, .ctx = b->ctx, .next_seq = 1};
	if (flash == NULL)
		return -ENODEV;
	if (flash->sectors < 2 || flash->sector_size < 512 || flash->sector_size % 4 != 0 ||
	    flash->write_size == 0 || 4 % flash->write_size != 0 || flash->erased != 0xff)
		return -EINVAL;
	if (find_newest(b) != 0)
		return -EIO;
	b->head = flash->sector_size;
	at = oldest(b);
	while (b->generation > 0 && next_slot(b, &at)) {
		uint32_t n = learn(b, &at);

		if (at.failed) {
			b->waiting = 0;
			return -EIO;
		}
		/* A sector without a head may be newer than all others. */
		if (at.offset == 0 && at.content == UNREADABLE)
			skipped += n;
		else
			count_up(b, n);
		b->head = at.next;
	}
	count_up(b, skipped);
	b->boot = (uint16_t)(b->boot + 1 + b->corrupt + skipped);
	b->mounted = true;
	return 0;
}

/* Flash that did not work at first may have come to its senses. */
static bool ready(struct fg_backlog *b)
{
	return b->mounted || fg_backlog_mount(b) == 0;
}

/* A sector that is worn out is left out. If its neighbour does not work either it is the flash, and
 * as much as can be stays as it is. */
static int next_sector(struct fg_backlog *b)
{
	int error = open_sector(b, 1);

	return error != 0 && sectors(b) > 2 ? open_sector(b, 2) : error;
}

/* Appends a record to the ring. */
static int put(struct fg_backlog *b, struct header *h, int64_t time_ms, const void *payload)
{
	struct slot at;
	bool there;

	if (!ready(b))
		return -EIO;
	if (b->head + slot_size(h) > sector_size(b) && next_sector(b) != 0)
		return -EIO;
	h->seq = b->next_seq;
	h->boot = b->boot;
	set_time(h, time_ms);
	at = (struct slot){.generation = b->generation, .offset = b->head};
	there = write_slot(b, &at, h, payload);
	/* What takes nothing would take nothing the next time. */
	b->head = at.content == EMPTY ? sector_size(b) : at.next;
	return there ? 0 : -EIO;
}

int fg_backlog_append(struct fg_backlog *b, int64_t wall_ms, int64_t uptime_ms, uint8_t pair_count,
		      const void *pairs, size_t length, uint32_t *seq)
{
	struct header h = {.kind = DATED, .pair_count = pair_count, .length = (uint8_t)length};
	int error;

	if (length > FG_BACKLOG_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (wall_ms == 0 && b->anchored)
		wall_ms = b->anchor_ms + uptime_ms;
	if (wall_ms == 0) {
		h.kind = UNDATED;
		b->undated = true;
	}
	error = put(b, &h, wall_ms != 0 ? wall_ms : uptime_ms, pairs);
	if (!b->mounted)
		return error;
	/* Never again, even if it seems to have failed. */
	*seq = b->next_seq;
	count_up(b, 1);
	b->waiting += error == 0;
	return error;
}

int fg_backlog_anchor(struct fg_backlog *b, int64_t boot_wall_ms)
{
	struct header h = {.kind = ANCHOR};

	if (b->anchored)
		return 0;
	if (!ready(b) || (b->undated && put(b, &h, boot_wall_ms, &h) != 0))
		return -EIO;
	b->anchor_ms = boot_wall_ms;
	b->anchored = true;
	return 0;
}

/* When it was, 0 if nobody knows, or -EIO. The anchor of its boot is always behind it, so the ring
 * never loses the anchor first. */
static int64_t time_at(const struct fg_backlog *b, const struct slot *at)
{
	struct slot later = *at;

	if (at->h.kind == DATED)
		return time_of(&at->h);
	if (at->h.boot == b->boot)
		return b->anchored ? b->anchor_ms + time_of(&at->h) : 0;
	while (next_slot(b, &later)) {
		if (later.failed)
			return -EIO;
		if (later.content == WHOLE && later.h.kind == ANCHOR && later.h.boot == at->h.boot)
			return time_of(&later.h) + time_of(&at->h);
	}
	return 0;
}

/* The first reading behind `from`. */
static int deliver(struct fg_backlog *b, const struct slot *from, struct fg_backlog_cursor *cursor,
		   struct fg_record *out, void *buffer, size_t size)
{
	struct slot at = *from;
	int64_t time_ms;

	do {
		if (at.failed)
			return -EIO;
		if (!next_slot(b, &at))
			return -ENOENT;
	} while (!is_reading(&at));
	if (at.h.length > size)
		return -EMSGSIZE;
	time_ms = time_at(b, &at);
	if (time_ms < 0 || b->port->flash_read(b->ctx, address(b, &at) + (uint32_t)sizeof(at.h),
					       buffer, at.h.length) != 0)
		return -EIO;
	*cursor = (struct fg_backlog_cursor){.offset = address(b, &at), .seq = at.h.seq};
	*out = (struct fg_record){.seq = at.h.seq,
				  .time_ms = time_ms,
				  .pair_count = at.h.pair_count,
				  .pairs = buffer,
				  .length = at.h.length};
	return 0;
}

int fg_backlog_first(struct fg_backlog *b, struct fg_backlog_cursor *at, struct fg_record *out,
		     void *buffer, size_t size)
{
	struct slot from;
	int error;

	if (!b->mounted)
		return -ENOENT;
	from = start(b);
	error = deliver(b, &from, at, out, buffer, size);
	if (error == -ENOENT)
		b->waiting = 0;
	return error;
}

/* The slot of a cursor: 0, -EIO, or -ENOENT when the ring has gone over it. */
static int find(const struct fg_backlog *b, const struct fg_backlog_cursor *cursor, struct slot *at)
{
	if (!b->mounted)
		return -EIO;
	*at = slot_at(b, cursor->offset);
	if (at->failed)
		return -EIO;
	return is_reading(at) && at->h.seq == cursor->seq ? 0 : -ENOENT;
}

int fg_backlog_next(struct fg_backlog *b, struct fg_backlog_cursor *at, struct fg_record *out,
		    void *buffer, size_t size)
{
	struct slot from;
	int error = find(b, at, &from);

	/* What was before it has gone with it. */
	if (error == -ENOENT)
		return fg_backlog_first(b, at, out, buffer, size);
	return error != 0 ? error : deliver(b, &from, at, out, buffer, size);
}

int fg_backlog_acknowledge(struct fg_backlog *b, const struct fg_backlog_cursor *through)
{
	const uint32_t mark = ACKNOWLEDGED;
	struct slot at;
	int error = find(b, through, &at);

	if (error == -ENOENT)
		return 0;
	if (error != 0 || forget(b, at.generation, at.offset) == 0)
		return error;
	b->done = through->offset;
	/* If it cannot be written they are sent again after a reboot, not before. */
	return b->port->flash_write(b->ctx, through->offset + (uint32_t)WRITTEN_AT_ONCE, &mark,
				    sizeof(mark));
}
