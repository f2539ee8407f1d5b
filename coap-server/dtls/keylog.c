/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debugging: the secrets of one named device's sessions, in the format that Wireshark reads (NSS
 * key log: `CLIENT_RANDOM`, the client's random, the master secret). Whose a session is may be
 * known only later than its secret, when a JWT comes: until then it is kept here. Without the
 * setting nothing of this exists.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coap-server/dtls/internal.h"
#include "core/base/log.h"

enum { SECRET_LEN = 48 };

struct waiting {
	struct waiting *next;
	const struct dtls_session *session;
	uint8_t random[HELLO_RANDOM_LEN], secret[SECRET_LEN];
};

struct keylog {
	int fd;
	char *device;
	struct waiting *waiting;
};

int keylog_open(struct keylog **out, const char *path, const char *device, char *err,
		size_t err_len)
{
	struct keylog *k = calloc(1, sizeof(*k));

	*out = NULL;
	if (k)
		k->device = strdup(device);
	if (!k || !k->device) {
		free(k);
		snprintf(err, err_len, "no memory");
		return -1;
	}
	k->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (k->fd < 0 || fchmod(k->fd, 0600) != 0) {
		snprintf(err, err_len, "coap.keylog_file: %s: %s", path, strerror(errno));
		keylog_close(k);
		return -1;
	}
	log_warn("dtls_keylog", device,
		 "the secrets of this device's sessions are written to %s: whoever reads that file "
		 "reads its traffic; remove coap.keylog_device and the file when you are done",
		 path);
	*out = k;
	return 0;
}

static void free_waiting(struct waiting *w)
{
	explicit_bzero(w, sizeof(*w));
	free(w);
}

void keylog_close(struct keylog *k)
{
	if (!k)
		return;
	while (k->waiting) {
		struct waiting *w = k->waiting;

		k->waiting = w->next;
		free_waiting(w);
	}
	if (k->fd >= 0)
		close(k->fd);
	free(k->device);
	free(k);
}

static char *hex(char *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out += sprintf(out, "%02x", bytes[i]);
	return out;
}

static void write_line(const struct keylog *k, const struct waiting *w)
{
	char line[16 + 2 * (HELLO_RANDOM_LEN + SECRET_LEN)];
	char *p = line + sprintf(line, "CLIENT_RANDOM ");
	ssize_t len;

	p = hex(p, w->random, sizeof(w->random));
	*p++ = ' ';
	p = hex(p, w->secret, sizeof(w->secret));
	*p++ = '\n';
	len = p - line;
	if (write(k->fd, line, (size_t)len) != len)
		log_error("dtls_keylog_failed", k->device, "the key log cannot be written: %s",
			  strerror(errno));
	explicit_bzero(line, sizeof(line));
}

static struct waiting *take(struct keylog *k, const struct dtls_session *s)
{
	for (struct waiting **p = &k->waiting; *p; p = &(*p)->next) {
		struct waiting *w = *p;

		if (w->session != s)
			continue;
		*p = w->next;
		return w;
	}
	return NULL;
}

void keylog_secret(struct keylog *k, const struct dtls_session *s,
		   const uint8_t random[HELLO_RANDOM_LEN], const uint8_t secret[48])
{
	struct waiting *w = k ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return;
	w->session = s;
	memcpy(w->random, random, sizeof(w->random));
	memcpy(w->secret, secret, sizeof(w->secret));
	w->next = k->waiting;
	k->waiting = w;
	if (dtls_identity_proven(&s->identity))
		keylog_identified(k, s);
}

void keylog_identified(struct keylog *k, const struct dtls_session *s)
{
	struct waiting *w = k ? take(k, s) : NULL;

	if (!w)
		return;
	if (strcmp(s->identity.id, k->device) == 0)
		write_line(k, w);
	free_waiting(w);
}

void keylog_forget(struct keylog *k, const struct dtls_session *s)
{
	struct waiting *w = k ? take(k, s) : NULL;

	if (w)
		free_waiting(w);
}
