/* SPDX-License-Identifier: Apache-2.0 */
/* fieldgate-coap [--check] FILE: the CoAP server. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "coap-server/supervisor/check.h"
#include "coap-server/supervisor/supervisor.h"
#include "core/base/config.h"
#include "core/base/log.h"

static const char usage[] =
	"usage: fieldgate-coap [--check] FILE\n"
	"\n"
	"  FILE     the settings; README.md lists them\n"
	"  --check  say whether they and the files they name are in order, and end\n"
	"\n"
	"SIGHUP reads settings and certificate again, SIGTERM ends it.\n";

/* One write for a line: the workers share stderr. */
static void write_line(enum log_level level, const char *line, void *arg)
{
	char text[LOG_LINE_MAX + 1];
	size_t len = strnlen(line, LOG_LINE_MAX);
	ssize_t ignored;

	(void)level;
	(void)arg;
	memcpy(text, line, len);
	text[len] = '\n';
	ignored = write(STDERR_FILENO, text, len + 1);
	(void)ignored;
}

/* Private keys and the keys of all sessions are in these processes' memory: nobody of the same user
 * may look at it, and it is not to be found in a core file. */
static int protect_memory(void)
{
	const struct rlimit none = {0, 0};

	return prctl(PR_SET_DUMPABLE, 0) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 ? 0 : -1;
}

static int run(struct config *c, const char *path)
{
	if (protect_memory() != 0) {
		log_error("start_failed", NULL, "cannot protect its memory: %s", strerror(errno));
		return 1;
	}
	if (geteuid() == 0)
		log_warn("running_as_root", NULL,
			 "it needs no such right; run it as an ordinary user "
			 "(coap-server/README.md)");
	return supervisor_run(c, path);
}

int main(int argc, char **argv)
{
	bool check = argc == 3 && strcmp(argv[1], "--check") == 0;
	const char *path = argc > 1 ? argv[argc - 1] : NULL;
	struct config c;
	char err[768];
	int status;

	if ((argc != 2 && !check) || path[0] == '-') {
		fputs(usage, stderr);
		return 2;
	}
	log_set_sink(write_line, NULL);
	if (config_load(&c, path, err, sizeof(err)) != 0) {
		fprintf(stderr, "fieldgate-coap: %s\n", err);
		return 1;
	}
	log_set_level((enum log_level)c.log_level);
	if (check_settings(&c, err, sizeof(err)) != 0) {
		fprintf(stderr, "fieldgate-coap: %s: %s\n", path, err);
		config_free(&c);
		return 1;
	}
	status = check ? 0 : run(&c, path);
	if (check)
		printf("%s is in order\n", path);
	config_free(&c);
	return status;
}
