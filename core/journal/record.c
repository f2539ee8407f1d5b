/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and checking of one record; see record.h for its layout. Pure: no file, no memory of its
 * own. */
#include "core/journal/record.h"

#include <endian.h>
#include <string.h>

#include "core/base/crc32c.h"

#define RECORD_MAGIC UINT32_C(0x01d6f4ab)

enum {
	AT_MAGIC = 0,
	AT_HEADER_CRC = 4,
	AT_BODY_CRC = 8,
	AT_PAYLOAD_LEN = 12,
	AT_RECEIVED = 16,
	AT_TOPIC_LEN = 24,
	AT_DEVICE_LEN = 26,
	AT_KIND = 27,
	AT_FORMAT = 28,
};

static const unsigned char zeros[RECORD_ALIGN];

static void put16(unsigned char *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(unsigned char *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(unsigned char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static uint16_t get16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

uint32_t record_seed(const uint8_t id[JOURNAL_ID_BYTES], uint64_t segment)
{
	unsigned char number[8];

	put64(number, segment);
	return crc32c(crc32c(0, id, JOURNAL_ID_BYTES), number, sizeof(number));
}

static uint32_t place_crc(uint32_t seed, uint64_t offset)
{
	unsigned char at[8];

	put64(at, offset);
	return crc32c(seed, at, sizeof(at));
}

static size_t padded(size_t device_len, size_t topic_len, size_t payload_len)
{
	size_t size = RECORD_HEADER + device_len + topic_len + payload_len;

	return (size + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

size_t record_size(const struct journal_record *r)
{
	if (r->device_len > RECORD_DEVICE_MAX || r->topic_len > RECORD_TOPIC_MAX ||
	    r->payload_len > JOURNAL_PAYLOAD_MAX)
		return 0;
	return padded(r->device_len, r->topic_len, r->payload_len);
}

static void put_header(unsigned char *p, const struct journal_record *r, uint32_t place,
		       uint32_t body_crc)
{
	memset(p, 0, RECORD_HEADER);
	put32(p + AT_MAGIC, RECORD_MAGIC);
	put32(p + AT_BODY_CRC, body_crc);
	put32(p + AT_PAYLOAD_LEN, (uint32_t)r->payload_len);
	put64(p + AT_RECEIVED, (uint64_t)r->received_at_us);
	put16(p + AT_TOPIC_LEN, (uint16_t)r->topic_len);
	p[AT_DEVICE_LEN] = (unsigned char)r->device_len;
	p[AT_KIND] = r->kind;
	p[AT_FORMAT] = r->format;
	put32(p + AT_HEADER_CRC, crc32c(place, p + AT_BODY_CRC, RECORD_HEADER - AT_BODY_CRC));
}

/* An empty field may come with a NULL pointer, which memcpy must not see. */
static unsigned char *append_bytes(unsigned char *to, const void *from, size_t len)
{
	if (len > 0)
		memcpy(to, from, len);
	return to + len;
}

static void encode_copied(struct record_image *image, const struct journal_record *r, size_t size,
			  uint32_t place)
{
	unsigned char *body = image->copy + RECORD_HEADER;
	unsigned char *p = body;

	p = append_bytes(p, r->device, r->device_len);
	p = append_bytes(p, r->topic, r->topic_len);
	p = append_bytes(p, r->payload, r->payload_len);
	memset(p, 0, (size_t)(image->copy + size - p));
	put_header(image->copy, r, place, crc32c(place, body, size - RECORD_HEADER));
	image->parts[0] = (struct iovec){image->copy, size};
	image->part_count = 1;
}

static void encode_gathered(struct record_image *image, const struct journal_record *r, size_t size,
			    uint32_t place)
{
	size_t padding = size - RECORD_HEADER - r->device_len - r->topic_len - r->payload_len;
	uint32_t crc = place;

	image->parts[0] = (struct iovec){image->copy, RECORD_HEADER};
	image->parts[1] = (struct iovec){(void *)r->device, r->device_len};
	image->parts[2] = (struct iovec){(void *)r->topic, r->topic_len};
	image->parts[3] = (struct iovec){(void *)r->payload, r->payload_len};
	image->parts[4] = (struct iovec){(void *)zeros, padding};
	image->part_count = RECORD_PARTS;
	for (int i = 1; i < RECORD_PARTS; i++)
		crc = crc32c(crc, image->parts[i].iov_base, image->parts[i].iov_len);
	put_header(image->copy, r, place, crc);
}

void record_encode(struct record_image *image, const struct journal_record *r, size_t size,
		   uint32_t seed, uint64_t offset)
{
	uint32_t place = place_crc(seed, offset);

	if (size <= RECORD_COPY_MAX)
		encode_copied(image, r, size, place);
	else
		encode_gathered(image, r, size, place);
}

size_t record_header_size(const unsigned char *p, uint32_t seed, uint64_t offset)
{
	uint32_t payload_len;

	if (get32(p + AT_MAGIC) != RECORD_MAGIC)
		return 0;
	if (get32(p + AT_HEADER_CRC) !=
	    crc32c(place_crc(seed, offset), p + AT_BODY_CRC, RECORD_HEADER - AT_BODY_CRC))
		return 0;
	payload_len = get32(p + AT_PAYLOAD_LEN);
	if (payload_len > JOURNAL_PAYLOAD_MAX)
		return 0;
	return padded(p[AT_DEVICE_LEN], get16(p + AT_TOPIC_LEN), payload_len);
}

bool record_parse(const unsigned char *p, size_t size, uint32_t seed, uint64_t offset,
		  struct journal_record *r)
{
	const unsigned char *body = p + RECORD_HEADER;

	if (get32(p + AT_BODY_CRC) != crc32c(place_crc(seed, offset), body, size - RECORD_HEADER))
		return false;
	r->kind = p[AT_KIND];
	r->format = p[AT_FORMAT];
	r->received_at_us = (int64_t)get64(p + AT_RECEIVED);
	r->device = (const char *)body;
	r->device_len = p[AT_DEVICE_LEN];
	r->topic = r->device + r->device_len;
	r->topic_len = get16(p + AT_TOPIC_LEN);
	r->payload = r->topic + r->topic_len;
	r->payload_len = get32(p + AT_PAYLOAD_LEN);
	return true;
}
