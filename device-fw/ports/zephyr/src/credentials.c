/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include <errno.h>

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include <nrf_modem_at.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

/* Of AT%CMNG. */
enum type { CA, CERTIFICATE, PRIVATE_KEY, PSK, IDENTITY };

static const char *const names[] = {
	[CA] = "CA",
	[CERTIFICATE] = "certificate",
	[PRIVATE_KEY] = "private key",
	[PSK] = "pre-shared key",
	[IDENTITY] = "PSK identity",
};

/* The library modem_key_mgmt asks the same, and keeps 4 kB of RAM for it. 1, 0 or -EIO. */
static int has(uint32_t tag, enum type type)
{
	char answer[128]; /* %CMNG: TAG,TYPE,"SHA-256 in hex" */
	int rc = nrf_modem_at_cmd(answer, sizeof(answer), "AT%%CMNG=1,%u,%d", tag, type);

	return rc == 0 ? answer[0] == '%' : -EIO;
}

static unsigned wanted_by(const struct profile *p)
{
	switch (p->credential) {
	case FG_CREDENTIAL_PSK:
		return BIT(PSK) | BIT(IDENTITY);
	case FG_CREDENTIAL_JWT:
		return IS_ENABLED(CONFIG_FIELDGATE_JWT_MODEM) ? BIT(CA) | BIT(PRIVATE_KEY)
							      : BIT(CA);
	default:
		return BIT(CA) | BIT(CERTIFICATE) | BIT(PRIVATE_KEY);
	}
}

int credentials_check(const struct profile *p, uint32_t *tags)
{
	unsigned wanted = wanted_by(p);
	bool complete = true;

	for (enum type type = CA; type <= IDENTITY; type++) {
		int rc = wanted & BIT(type) ? has(p->security_tag, type) : 1;

		if (rc < 0)
			return rc;
		if (rc == 0)
			LOG_ERR("Security tag %u has no %s", p->security_tag, names[type]);
		complete = complete && rc == 1;
	}
	if (!complete) {
		LOG_ERR("Provision it: pki/fleet modem PORT DEVICE%s --tag %u, then reset",
			p->credential == FG_CREDENTIAL_PSK ? " --psk" : "", p->security_tag);
		return -ENOENT;
	}
	tags[0] = p->security_tag;
	if (p->next_tag == 0 || !(wanted & BIT(CA)) || has(p->next_tag, CA) != 1)
		return 1;
	tags[1] = p->next_tag;
	return 2;
}
