/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-modem: what `fleet modem` does to an nRF91 modem, one step a call. A credential comes
 * in through stdin and is no argument; a private key or a pre-shared key never comes out.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "pki/modem/at.h"
#include "pki/modem/port.h"

#define CONTENT_MAX  4096 /* of a credential: nRF91 AT Commands, %CMNG */
#define TAG_MAX	     2147483647
#define TYPE_MAX     6
#define SHA256_HEX   64
#define DEFAULT_BAUD 115200

/* How long a modem may take: the longest are seen with a network to leave, and with a slow flash.
 */
#define QUICK_US   (10 * US_PER_S)
#define OFFLINE_US (75 * US_PER_S)
#define WRITE_US   (30 * US_PER_S)
#define KEYGEN_US  (60 * US_PER_S)

enum credential_type {
	TYPE_CA,
	TYPE_CERTIFICATE,
	TYPE_PRIVATE_KEY,
	TYPE_PSK,
	TYPE_IDENTITY,
};

static int usage(void)
{
	fputs("usage: fieldgate-modem [--baud N] PORT check\n"
	      "       fieldgate-modem [--baud N] PORT offline\n"
	      "       fieldgate-modem [--baud N] PORT list TAG\n"
	      "       fieldgate-modem [--baud N] PORT delete TAG TYPE...\n"
	      "       fieldgate-modem [--baud N] PORT keygen TAG\n"
	      "       fieldgate-modem [--baud N] PORT write TAG TYPE <CONTENT\n"
	      "\n"
	      "check    is it a modem? Prints firmware, imei and mode (+CFUN), each with a tab and "
	      "its value\n"
	      "offline  AT+CFUN=4\n"
	      "list     what is in a tag: lines of TYPE, a tab and the SHA-256 of the content\n"
	      "delete   what is there of these types\n"
	      "keygen   a new P-256 key in the modem, and its answer with the request\n"
	      "write    a credential: 0 CA, 1 certificate, 3 pre-shared key in hexadecimal, 4 "
	      "identity; then\n"
	      "         its SHA-256 is compared\n"
	      "\n"
	      "It is a part of pki/fleet: fleet modem --help explains the rest.\n",
	      stderr);
	return 2;
}

static int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int complain(const char *fmt, ...)
{
	va_list ap;

	fputs("fieldgate-modem: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

struct modem {
	struct at at;
	const char *path;
};

/* A command that is to succeed; else what it is called goes to stderr, and 1 is returned. */
static int ask(struct modem *m, const char *command, size_t len, int64_t timeout_us,
	       bool (*wanted)(const char *line), const char *called)
{
	int code = 0;
	enum at_result result = at_command(&m->at, command, len, timeout_us, wanted, &code);

	if (result == AT_OK)
		return 0;
	return complain("%s: %s: %s", m->path, called, at_explain(result, code));
}

static int ask_text(struct modem *m, const char *command, int64_t timeout_us,
		    bool (*wanted)(const char *line))
{
	return ask(m, command, strlen(command), timeout_us, wanted, command);
}

/* Errors with their number, and no echo where it can be switched off: at.c knows it in any case. */
static int begin(struct modem *m)
{
	enum at_result result = at_attention(&m->at);
	int code;

	if (result != AT_OK)
		return complain("%s: AT: %s", m->path, at_explain(result, AT_NO_CODE));
	result = at_command(&m->at, "ATE0", 4, QUICK_US, NULL, &code);
	if (result != AT_OK && result != AT_REFUSED)
		return complain("%s: ATE0: %s", m->path, at_explain(result, AT_NO_CODE));
	return ask_text(m, "AT+CMEE=1", QUICK_US, NULL);
}

/* --- check and offline --- */

/* Neither of what nobody has asked for begins like this: that is Ready, or %, + and a name. */
static bool is_revision(const char *line)
{
	return strncmp(line, "mfw", 3) == 0;
}

static bool is_imei(const char *line)
{
	size_t digits = strspn(line, "0123456789");

	return digits >= 14 && digits <= 16 && line[digits] == '\0';
}

static bool is_mode(const char *line)
{
	return strncmp(line, "+CFUN: ", 7) == 0;
}

static int print_answer(struct modem *m, const char *name, const char *command,
			bool (*wanted)(const char *line))
{
	const char *text;

	if (ask_text(m, command, QUICK_US, wanted) != 0)
		return 1;
	text = m->at.answer + (is_mode(m->at.answer) ? 7 : 0);
	printf("%s\t%.*s\n", name, (int)strcspn(text, "\n"), text);
	return 0;
}

static int check(struct modem *m)
{
	if (print_answer(m, "firmware", "AT+CGMR", is_revision) != 0)
		return 1;
	if (m->at.answer_len == 0)
		return complain(
			"%s: it answers AT commands, but AT+CGMR names no firmware of an nRF91 "
			"(mfw...): is this the port of that modem?",
			m->path);
	return print_answer(m, "imei", "AT+CGSN", is_imei) != 0 ||
	       print_answer(m, "mode", "AT+CFUN?", is_mode) != 0;
}

static int offline(struct modem *m)
{
	if (ask_text(m, "AT+CFUN=4", OFFLINE_US, NULL) != 0 ||
	    ask_text(m, "AT+CFUN?", QUICK_US, is_mode) != 0)
		return 1;
	if (m->at.answer_len < 8 || at_number(m->at.answer + 7, NULL) != 4)
		return complain(
			"%s: the modem is active again after AT+CFUN=4: the application on the "
			"board has switched it on. Stop that, or flash the AT client",
			m->path);
	return 0;
}

/* --- credentials --- */

static bool is_listed(const char *line)
{
	return strncmp(line, "%CMNG: ", 7) == 0;
}

struct listed {
	bool there;
	char sha[SHA256_HEX + 1]; /* empty: the modem does not say */
};

static const char *skip_comma(const char *at)
{
	return at + strspn(at, " ,");
}

/* What %CMNG=1 says: "%CMNG: TAG,TYPE[,\"SHA\"]", with or without blanks. */
static void parse_line(const char *line, unsigned tag, struct listed found[TYPE_MAX + 1])
{
	const char *at = line + strlen("%CMNG: ");
	long its_tag = at_number(at, &at), type = at_number(skip_comma(at), &at);
	size_t digits;

	if (its_tag != (long)tag || type < 0 || type > TYPE_MAX)
		return;
	found[type].there = true;
	at = skip_comma(at);
	at += *at == '"';
	digits = strspn(at, "0123456789abcdefABCDEF");
	if (digits == SHA256_HEX)
		memcpy(found[type].sha, at, digits);
}

static void parse_list(const char *answer, unsigned tag, struct listed found[TYPE_MAX + 1])
{
	memset(found, 0, sizeof(*found) * (TYPE_MAX + 1));
	for (const char *line = answer; *line; line = strchr(line, '\n') + 1)
		parse_line(line, tag, found);
}

static int ask_list(struct modem *m, unsigned tag, struct listed found[TYPE_MAX + 1])
{
	char command[64];

	snprintf(command, sizeof(command), "AT%%CMNG=1,%u", tag);
	if (ask_text(m, command, QUICK_US, is_listed) != 0)
		return 1;
	parse_list(m->at.answer, tag, found);
	return 0;
}

static int list(struct modem *m, unsigned tag)
{
	struct listed found[TYPE_MAX + 1];

	if (ask_list(m, tag, found) != 0)
		return 1;
	for (unsigned type = 0; type <= TYPE_MAX; type++) {
		bool secret = type == TYPE_PRIVATE_KEY || type == TYPE_PSK;

		if (found[type].there)
			printf("%u\t%s\n", type, secret ? "" : found[type].sha);
	}
	return 0;
}

/* Only what is listed: then every refusal is one. */
static int delete_types(struct modem *m, unsigned tag, const bool types[TYPE_MAX + 1])
{
	struct listed found[TYPE_MAX + 1];
	char command[64];

	if (ask_list(m, tag, found) != 0)
		return 1;
	for (unsigned type = 0; type <= TYPE_MAX; type++) {
		if (!types[type] || !found[type].there)
			continue;
		snprintf(command, sizeof(command), "AT%%CMNG=3,%u,%u", tag, type);
		if (ask_text(m, command, WRITE_US, NULL) != 0)
			return 1;
	}
	return 0;
}

static bool is_request(const char *line)
{
	return strncmp(line, "%KEYGEN:", 8) == 0;
}

static int keygen(struct modem *m, unsigned tag)
{
	char command[64];

	snprintf(command, sizeof(command), "AT%%KEYGEN=%u,2,0", tag);
	if (ask_text(m, command, KEYGEN_US, is_request) != 0)
		return 1;
	if (m->at.answer_len == 0)
		return complain("%s: %s: OK, but no request came with it", m->path, command);
	fputs(m->at.answer, stdout);
	return 0;
}

/* What a modem takes: lines that end with \n alone (a \r was seen to break what signs later), no
 * quotes. */
static const char *fault_of(const char *content, size_t len, unsigned type)
{
	if (len == 0)
		return "there is nothing on stdin";
	if (len > CONTENT_MAX)
		return "the content is longer than the 4096 bytes that a modem takes";
	for (size_t i = 0; i < len; i++) {
		if (content[i] == '"' || content[i] == '\r' || content[i] == '\0')
			return "the content has a quote, a carriage return or a zero byte in it";
		if (type == TYPE_PSK && !strchr("0123456789abcdefABCDEF", content[i]))
			return "a pre-shared key is written in hexadecimal, without a line end";
		if (type == TYPE_IDENTITY && content[i] == '\n')
			return "an identity has no line end";
	}
	return NULL;
}

static size_t read_content(char *content, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(STDIN_FILENO, content + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return len;
}

static int digest_hex(const char *content, size_t len, char hex[SHA256_HEX + 1])
{
	uint8_t digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(content, len, digest, NULL, EVP_sha256(), NULL) != 1)
		return complain("out of memory");
	for (size_t i = 0; i < SHA256_HEX / 2; i++)
		snprintf(hex + 2 * i, 3, "%02X", digest[i]);
	return 0;
}

static int compare(struct modem *m, unsigned tag, unsigned type, const char *sha)
{
	struct listed found[TYPE_MAX + 1];

	if (ask_list(m, tag, found) != 0)
		return 1;
	if (!found[type].there)
		return complain("%s: the modem said OK, but does not list type %u in tag %u",
				m->path, type, tag);
	if (found[type].sha[0] && strcasecmp(found[type].sha, sha) != 0)
		return complain(
			"%s: the modem has something else than what was written (type %u in tag "
			"%u): its SHA-256 differs. Is the line bad, or somebody else writing to "
			"it? Run this again",
			m->path, type, tag);
	return 0;
}

/* content: CONTENT_MAX + 1 bytes on stdin at most; the one more is the one that is too much. */
static int write_content(struct modem *m, unsigned tag, unsigned type, const char *content,
			 size_t len)
{
	char command[AT_COMMAND_MAX], called[64], sha[SHA256_HEX + 1];
	int n = snprintf(command, sizeof(command), "AT%%CMNG=0,%u,%u,\"", tag, type), rc;

	memcpy(command + n, content, len);
	command[(size_t)n + len] = '"';
	snprintf(called, sizeof(called), "AT%%CMNG=0,%u,%u", tag, type);
	rc = ask(m, command, (size_t)n + len + 1, WRITE_US, NULL, called);
	OPENSSL_cleanse(command, sizeof(command));
	return rc != 0 || digest_hex(content, len, sha) != 0 || compare(m, tag, type, sha) != 0;
}

static int write_credential(struct modem *m, unsigned tag, unsigned type)
{
	char content[CONTENT_MAX + 1];
	size_t len = read_content(content, sizeof(content));
	const char *fault = fault_of(content, len, type);
	int rc = fault ? complain("type %u: %s", type, fault) : begin(m);

	if (rc == 0)
		rc = write_content(m, tag, type, content, len);
	OPENSSL_cleanse(content, sizeof(content));
	return rc;
}

/* --- arguments --- */

static bool parse_number(const char *text, unsigned long max, unsigned *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	*out = (unsigned)n;
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && n <= max;
}

struct job {
	const char *command;
	unsigned tag, type;
	bool types[TYPE_MAX + 1];
};

/* What stands behind PORT. */
static bool parse_job(struct job *j, int argc, char **argv)
{
	if (argc < 1)
		return false;
	j->command = argv[0];
	if (strcmp(j->command, "check") == 0 || strcmp(j->command, "offline") == 0)
		return argc == 1;
	if (argc < 2 || !parse_number(argv[1], TAG_MAX, &j->tag))
		return false;
	if (strcmp(j->command, "list") == 0 || strcmp(j->command, "keygen") == 0)
		return argc == 2;
	for (int i = 2; i < argc; i++) {
		if (!parse_number(argv[i], TYPE_MAX, &j->type))
			return false;
		j->types[j->type] = true;
	}
	if (strcmp(j->command, "delete") == 0)
		return argc > 2;
	/* A private key is the modem's own: it is made there. */
	return strcmp(j->command, "write") == 0 && argc == 3 && j->type != TYPE_PRIVATE_KEY;
}

static int run(struct modem *m, const struct job *j)
{
	if (strcmp(j->command, "write") == 0)
		return write_credential(m, j->tag, j->type);
	if (begin(m) != 0)
		return 1;
	if (strcmp(j->command, "check") == 0)
		return check(m);
	if (strcmp(j->command, "offline") == 0)
		return offline(m);
	if (strcmp(j->command, "list") == 0)
		return list(m, j->tag);
	if (strcmp(j->command, "delete") == 0)
		return delete_types(m, j->tag, j->types);
	return keygen(m, j->tag);
}

int main(int argc, char **argv)
{
	unsigned baud = DEFAULT_BAUD;
	struct job job = {0};
	struct modem m;
	char err[512];
	int fd, rc;

	argc--;
	argv++;
	if (argc >= 2 && strcmp(argv[0], "--baud") == 0) {
		if (!parse_number(argv[1], 1000000, &baud) || !port_knows_baud(baud))
			return complain("%s: no speed of a serial port; 115200 is usual", argv[1]);
		argc -= 2;
		argv += 2;
	}
	if (argc < 2 || !parse_job(&job, argc - 1, argv + 1))
		return usage();
	fd = port_open(argv[0], baud, err, sizeof(err));
	if (fd < 0)
		return complain("%s", err);
	m.path = argv[0];
	rc = at_open(&m.at, fd) == 0 ? run(&m, &job) : complain("out of memory");
	at_close(&m.at);
	close(fd);
	if (fflush(stdout) != 0)
		return complain("stdout: %s", strerror(errno));
	return rc;
}
