/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/crc32c: RFC 3720 appendix B.4, and the CPU's instruction against the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"

/* RFC 3720 prints the CRC as the four bytes on the wire, least significant first. */
struct vector {
	const char *name;
	unsigned char data[48];
	size_t len;
	uint32_t crc;
};

static void make_vectors(struct vector v[5])
{
	static const unsigned char read10[48] = {
		0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
		0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};

	v[0] = (struct vector){.name = "32 bytes of zeroes", .len = 32, .crc = 0x8a9136aa};
	v[1] = (struct vector){.name = "32 bytes of ones", .len = 32, .crc = 0x62a8ab43};
	memset(v[1].data, 0xff, 32);
	v[2] = (struct vector){.name = "32 incrementing", .len = 32, .crc = 0x46dd794e};
	v[3] = (struct vector){.name = "32 decrementing", .len = 32, .crc = 0x113fdb5c};
	for (unsigned char i = 0; i < 32; i++) {
		v[2].data[i] = i;
		v[3].data[i] = (unsigned char)(31 - i);
	}
	v[4] = (struct vector){.name = "an iSCSI SCSI Read (10) PDU", .len = 48, .crc = 0xd9963a56};
	memcpy(v[4].data, read10, sizeof(read10));
}

static void test_rfc_3720_vectors(void **state)
{
	struct vector v[5];

	(void)state;
	make_vectors(v);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(crc32c(0, v[i].data, v[i].len), v[i].crc);
		assert_int_equal(crc32c_portable(0, v[i].data, v[i].len), v[i].crc);
	}
}

static void test_the_check_value_of_the_catalogue(void **state)
{
	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
}

static void test_nothing_leaves_the_crc_as_it_was(void **state)
{
	(void)state;
	assert_int_equal(crc32c(0, NULL, 0), 0);
	assert_int_equal(crc32c(0xe3069283, NULL, 0), 0xe3069283);
}

/* All lengths to 300 at all 8 alignments: the instruction takes 8 bytes at a time, then the rest.
 */
static void test_instruction_and_table_agree(void **state)
{
	unsigned char data[320];

	(void)state;
	random_bytes(data, sizeof(data));
	for (size_t start = 0; start < 8; start++)
		for (size_t len = 0; len <= 300; len++)
			assert_int_equal(crc32c(7, data + start, len),
					 crc32c_portable(7, data + start, len));
}

static void test_pieces_give_the_crc_of_the_whole(void **state)
{
	unsigned char data[100];
	uint32_t whole;

	(void)state;
	random_bytes(data, sizeof(data));
	whole = crc32c(0, data, sizeof(data));
	for (size_t cut = 0; cut <= sizeof(data); cut++)
		assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut),
				 whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_3720_vectors),
		cmocka_unit_test(test_the_check_value_of_the_catalogue),
		cmocka_unit_test(test_nothing_leaves_the_crc_as_it_was),
		cmocka_unit_test(test_instruction_and_table_agree),
		cmocka_unit_test(test_pieces_give_the_crc_of_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
