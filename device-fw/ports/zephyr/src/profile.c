/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zephyr/sys/util.h>

#include "storage.h"

/* Stored as the text that a person types, under "p/<name>": what cannot be read by a later version
 * is then refused, not misread. */
enum kind { TEXT, NUMBER, TRANSPORT, CREDENTIAL };

struct field {
	const char *name;
	enum kind kind;
	size_t offset, size;
	uint32_t min, max;
};

#define FIELD(name, kind, member, min, max)                                                        \
	{                                                                                          \
		name, kind, offsetof(struct profile, member),                                      \
			sizeof(((struct profile *)0)->member), min, max                            \
	}

#define INTERVAL "interval" /* of fg_port.load and .save */

static const struct field fields[] = {
	FIELD("device", TEXT, device, 0, 0),
	FIELD("host", TEXT, host, 0, 0),
	FIELD("port", NUMBER, port, 1, UINT16_MAX),
	FIELD("transport", TRANSPORT, transport, 0, 0),
	FIELD("credential", CREDENTIAL, credential, 0, 0),
	FIELD("tag", NUMBER, security_tag, 0, INT32_MAX),
	FIELD("next_tag", NUMBER, next_tag, 0, INT32_MAX),
	FIELD("interval", NUMBER, interval_s, 1, 604800),
};

static const char *const transports[] = {
	[FG_TRANSPORT_COAP] = "coap",
	[FG_TRANSPORT_MQTT] = "mqtt",
};

static const char *const credentials[] = {
	[FG_CREDENTIAL_CERTIFICATE] = "certificate",
	[FG_CREDENTIAL_PSK] = "psk",
	[FG_CREDENTIAL_JWT] = "jwt",
};

static const struct profile from_kconfig = {
	.device = CONFIG_FIELDGATE_DEVICE,
	.host = CONFIG_FIELDGATE_HOST,
	.port = CONFIG_FIELDGATE_PORT,
	.transport =
		IS_ENABLED(CONFIG_FIELDGATE_TRANSPORT_MQTT) ? FG_TRANSPORT_MQTT : FG_TRANSPORT_COAP,
	.credential = IS_ENABLED(CONFIG_FIELDGATE_CREDENTIAL_PSK)   ? FG_CREDENTIAL_PSK
		      : IS_ENABLED(CONFIG_FIELDGATE_CREDENTIAL_JWT) ? FG_CREDENTIAL_JWT
								    : FG_CREDENTIAL_CERTIFICATE,
	.security_tag = CONFIG_FIELDGATE_SECURITY_TAG,
	.next_tag = CONFIG_FIELDGATE_NEXT_TAG,
	.interval_s = CONFIG_FIELDGATE_INTERVAL_S,
};

static int find(const char *const *names, size_t count, const char *value)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], value) == 0)
			return (int)i;
	return -EINVAL;
}

static int parse_number(const struct field *f, const char *value, void *out)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end != '\0' || n < f->min || n > f->max)
		return -EINVAL;
	if (f->size == sizeof(uint16_t))
		*(uint16_t *)out = (uint16_t)n;
	else
		*(uint32_t *)out = (uint32_t)n;
	return 0;
}

static int parse(const struct field *f, const char *value, struct profile *p)
{
	void *out = (char *)p + f->offset;
	int choice;

	switch (f->kind) {
	case TEXT:
		if (strlen(value) >= f->size)
			return -EINVAL;
		strcpy(out, value);
		return 0;
	case NUMBER:
		return parse_number(f, value, out);
	case TRANSPORT:
		choice = find(transports, ARRAY_SIZE(transports), value);
		if (choice < 0 ||
		    (choice == FG_TRANSPORT_MQTT && !IS_ENABLED(CONFIG_FIELDGATE_MQTT)))
			return -EINVAL;
		p->transport = (enum fg_transport)choice;
		return 0;
	case CREDENTIAL:
		choice = find(credentials, ARRAY_SIZE(credentials), value);
		if (choice < 0 ||
		    (choice == FG_CREDENTIAL_JWT && !IS_ENABLED(CONFIG_FIELDGATE_JWT)))
			return -EINVAL;
		p->credential = (enum fg_credential)choice;
		return 0;
	}
	return -EINVAL;
}

static void path_of(const struct field *f, char path[STORAGE_NAME_MAX])
{
	snprintf(path, STORAGE_NAME_MAX, "p/%s", f->name);
}

int profile_load(struct profile *p)
{
	char path[STORAGE_NAME_MAX], value[PROFILE_VALUE_MAX];
	int result = 0;

	*p = from_kconfig;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		int n;

		path_of(&fields[i], path);
		n = storage_load(path, value, sizeof(value) - 1);
		if (n == -EIO)
			result = n;
		if (n < 0)
			continue;
		value[n] = '\0';
		parse(&fields[i], value, p);
	}
	return result;
}

int profile_set(const char *name, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		char path[STORAGE_NAME_MAX];
		struct profile scratch;

		if (strcmp(fields[i].name, name) != 0)
			continue;
		path_of(&fields[i], path);
		if (value != NULL && parse(&fields[i], value, &scratch) != 0)
			return -EINVAL;
		/* Else the cloud's, which the agent keeps by that name, would stay in force. */
		if (fields[i].offset == offsetof(struct profile, interval_s))
			storage_forget(INTERVAL);
		return value == NULL ? storage_forget(path)
				     : storage_save(path, value, strlen(value));
	}
	return -ENOENT;
}

void profile_each(const struct profile *p,
		  void (*each)(void *arg, const char *name, const char *value), void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const void *at = (const char *)p + fields[i].offset;
		char number[sizeof("4294967295")];

		switch (fields[i].kind) {
		case TEXT:
			each(arg, fields[i].name, at);
			break;
		case NUMBER:
			snprintf(number, sizeof(number), "%u",
				 fields[i].size == sizeof(uint16_t)
					 ? *(const uint16_t *)at
					 : (unsigned)*(const uint32_t *)at);
			each(arg, fields[i].name, number);
			break;
		case TRANSPORT:
			each(arg, fields[i].name, transports[p->transport]);
			break;
		case CREDENTIAL:
			each(arg, fields[i].name, credentials[p->credential]);
			break;
		}
	}
}
