/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/secret_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "pki/cert/cert.h"

#define PASSPHRASE_MIN 8 /* characters of a new one */

static struct secret {
	const char *word, *variable, *file_variable;
	const char *source; /* NULL: not known yet */
	char text[SECRET_INPUT_MAX];
} secrets[] = {
	[SECRET_PASSPHRASE] = {.word = "passphrase",
			       .variable = "FLEET_PASSPHRASE",
			       .file_variable = "FLEET_PASSPHRASE_FILE"},
	[SECRET_PIN] = {.word = "PIN", .variable = "FLEET_PIN", .file_variable = "FLEET_PIN_FILE"},
};

/* Up to the end of a line. The length, or -1 with errno: EMSGSIZE when there is no room. */
static ssize_t read_line(int fd, char out[SECRET_INPUT_MAX])
{
	size_t len = 0;

	for (; len < SECRET_INPUT_MAX; len++) {
		ssize_t n = read(fd, out + len, 1);

		if (n < 0 && errno == EINTR) {
			len--;
			continue;
		}
		if (n < 0)
			return -1;
		if (n == 0 || out[len] == '\n')
			break;
	}
	if (len == SECRET_INPUT_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	if (len > 0 && out[len - 1] == '\r')
		len--;
	out[len] = '\0';
	return (ssize_t)len;
}

int secret_input_file(char out[SECRET_INPUT_MAX], const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t len;

	if (fd < 0)
		return complain("%s: %s", path, strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0) {
		close(fd);
		return complain("%s can be read by others: chmod 0600 %s", path, path);
	}
	len = read_line(fd, out);
	close(fd);
	if (len < 0)
		return complain("%s: %s", path, strerror(errno));
	return len > 0 ? 0
		       : complain("%s: its first line is empty, and should be the secret", path);
}

static int ask_terminal(int tty, const char *prompt, const char *what, char out[SECRET_INPUT_MAX])
{
	struct termios shown, hidden;
	ssize_t len;

	if (tcgetattr(tty, &shown) != 0)
		return -1;
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	/* Before the prompt: who answers at once would else be shown, and then not be heard. */
	tcsetattr(tty, TCSAFLUSH, &hidden);
	dprintf(tty, "%s %s: ", prompt, what);
	len = read_line(tty, out);
	tcsetattr(tty, TCSAFLUSH, &shown);
	dprintf(tty, "\n");
	return len < 0 ? -1 : 0;
}

static int no_terminal(const struct secret *s, const char *what)
{
	return complain("%s needs a %s, and there is no terminal to ask for it: name a file that "
			"holds it with %s, or set %s",
			what, s->word, s->file_variable, s->variable);
}

/* stdin holds jobs: it is the terminal that is asked, whatever stdin is. */
static int ask(struct secret *s, const char *what, bool new)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	char prompt[64], again[SECRET_INPUT_MAX];
	int rc;

	if (tty < 0)
		return no_terminal(s, what);
	snprintf(prompt, sizeof(prompt), "%s%s for", new ? "New " : "", s->word);
	rc = ask_terminal(tty, prompt, what, s->text);
	if (rc == 0 && new) {
		rc = ask_terminal(tty, "The same again for", what, again);
		if (rc == 0 && strcmp(s->text, again) != 0)
			rc = complain("the two are not the same");
		OPENSSL_cleanse(again, sizeof(again));
	} else if (rc != 0) {
		rc = no_terminal(s, what);
	}
	close(tty);
	s->source = "typed";
	return rc == 0 ? 0 : EXIT_FAILED;
}

static int obtain(struct secret *s, const char *what, bool new)
{
	const char *value = getenv(s->variable), *path = getenv(s->file_variable);

	if (value && *value) {
		if ((size_t)snprintf(s->text, sizeof(s->text), "%s", value) >= sizeof(s->text))
			return complain("%s has more than %d characters", s->variable,
					SECRET_INPUT_MAX - 1);
		s->source = s->variable;
		return 0;
	}
	if (path && *path) {
		s->source = s->file_variable;
		return secret_input_file(s->text, path);
	}
	return ask(s, what, new);
}

const char *secret_input(enum secret_input kind, const char *what)
{
	struct secret *s = &secrets[kind];

	return s->source || obtain(s, what, false) == 0 ? s->text : NULL;
}

const char *secret_input_new(enum secret_input kind, const char *what)
{
	struct secret *s = &secrets[kind];

	if (!s->source && obtain(s, what, true) != 0)
		return NULL;
	if (strlen(s->text) < PASSPHRASE_MIN) {
		complain("the new %s has less than %d characters", s->word, PASSPHRASE_MIN);
		return NULL;
	}
	return s->text;
}

const char *secret_input_source(enum secret_input kind)
{
	return secrets[kind].source;
}
