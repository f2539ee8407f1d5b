/* SPDX-License-Identifier: Apache-2.0 */
/* The cipher suites that devices may have, by the names that OpenSSL gives them. */
#include <mbedtls/ssl_ciphersuites.h>
#include <stdio.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/log.h"

enum { SUITE_ECDSA = 1, SUITE_PSK = 2, SUITE_CBC = 4 };

static const struct suite {
	const char *name;
	int id;
	unsigned kind;
} known[] = {
	{"ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02B, SUITE_ECDSA},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", 0xC02C, SUITE_ECDSA},
	{"ECDHE-ECDSA-CHACHA20-POLY1305", 0xCCA9, SUITE_ECDSA},
	{"ECDHE-ECDSA-AES128-CCM8", 0xC0AE, SUITE_ECDSA},
	{"ECDHE-ECDSA-AES256-CCM8", 0xC0AF, SUITE_ECDSA},
	{"ECDHE-ECDSA-AES128-CCM", 0xC0AC, SUITE_ECDSA},
	{"ECDHE-ECDSA-AES256-CCM", 0xC0AD, SUITE_ECDSA},
	{"ECDHE-PSK-CHACHA20-POLY1305", 0xCCAC, SUITE_PSK},
	{"PSK-CHACHA20-POLY1305", 0xCCAB, SUITE_PSK},
	{"PSK-AES128-GCM-SHA256", 0x00A8, SUITE_PSK},
	{"PSK-AES256-GCM-SHA384", 0x00A9, SUITE_PSK},
	{"PSK-AES128-CCM8", 0xC0A8, SUITE_PSK},
	{"PSK-AES256-CCM8", 0xC0A9, SUITE_PSK},
	{"PSK-AES128-CCM", 0xC0A4, SUITE_PSK},
	{"PSK-AES256-CCM", 0xC0A5, SUITE_PSK},
	/* What nRF9160 modem firmware before 1.3.1 has, best first. */
	{"ECDHE-ECDSA-AES128-SHA256", 0xC023, SUITE_ECDSA | SUITE_CBC},
	{"ECDHE-ECDSA-AES128-SHA", 0xC009, SUITE_ECDSA | SUITE_CBC},
	{"ECDHE-ECDSA-AES256-SHA384", 0xC024, SUITE_ECDSA | SUITE_CBC},
	{"ECDHE-ECDSA-AES256-SHA", 0xC00A, SUITE_ECDSA | SUITE_CBC},
	{"PSK-AES128-CBC-SHA256", 0x00AE, SUITE_PSK | SUITE_CBC},
	{"PSK-AES128-CBC-SHA", 0x008C, SUITE_PSK | SUITE_CBC},
	{"PSK-AES256-CBC-SHA384", 0x00AF, SUITE_PSK | SUITE_CBC},
	{"PSK-AES256-CBC-SHA", 0x008D, SUITE_PSK | SUITE_CBC},
};

#define KNOWN_COUNT (sizeof(known) / sizeof(known[0]))

struct parsing {
	unsigned usable; /* SUITE_ECDSA, SUITE_PSK: what there are keys for */
	size_t count;
	int *out;
};

static void add(struct parsing *p, const struct suite *suite)
{
	if (!(suite->kind & p->usable) || p->count == SUITES_MAX)
		return;
	for (size_t i = 0; i < p->count; i++)
		if (p->out[i] == suite->id)
			return;
	p->out[p->count++] = suite->id;
	p->out[p->count] = 0;
}

static const struct suite *find(const char *name, size_t len)
{
	for (size_t i = 0; i < KNOWN_COUNT; i++)
		if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
			return &known[i];
	return NULL;
}

static int parse_one(struct parsing *p, const char *name, size_t len, bool legacy_cbc, char *err,
		     size_t err_len)
{
	const struct suite *suite = find(name, len);

	if (!suite || !mbedtls_ssl_ciphersuite_from_id(suite->id)) {
		snprintf(err, err_len,
			 "coap.suites: \"%.*s\" is not known here; the default is a good choice",
			 (int)len, name);
		return -1;
	}
	if (suite->kind & SUITE_CBC && !legacy_cbc) {
		snprintf(err, err_len,
			 "coap.suites: \"%.*s\" is a CBC suite; take it out, or set "
			 "coap.legacy_cbc = yes",
			 (int)len, name);
		return -1;
	}
	add(p, suite);
	return 0;
}

static void add_legacy(struct parsing *p)
{
	for (size_t i = 0; i < KNOWN_COUNT; i++)
		if (known[i].kind & SUITE_CBC)
			add(p, &known[i]);
	log_warn(
		"dtls_legacy_cbc", NULL,
		"CBC suites are offered (coap.legacy_cbc): sessions that choose one stay in memory "
		"whole and end with the process; update the modem firmware to 1.3.1 and set it to "
		"no");
}

int suites_parse(const char *names, bool legacy_cbc, bool certificate, bool psk,
		 int out[SUITES_MAX + 1], char *err, size_t err_len)
{
	static const char separators[] = " \t:,";
	struct parsing p = {.out = out};

	p.usable = (certificate ? SUITE_ECDSA : 0u) | (psk ? SUITE_PSK : 0u);
	out[0] = 0;
	for (names += strspn(names, separators); *names; names += strspn(names, separators)) {
		size_t len = strcspn(names, separators);

		if (parse_one(&p, names, len, legacy_cbc, err, err_len) != 0)
			return -1;
		names += len;
	}
	if (legacy_cbc)
		add_legacy(&p);
	if (p.count > 0)
		return 0;
	snprintf(
		err, err_len,
		"coap.suites: no suite is left: those with ECDSA need coap.certificate_file, those "
		"with PSK need registered pre-shared keys");
	return -1;
}
