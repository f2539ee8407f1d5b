/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "tools/rule/rule.h"

int complain(int status, const char *fmt, ...)
{
	va_list ap;

	fputs("fieldgate-rule: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return status;
}

static int usage(void)
{
	fputs("usage: fieldgate-rule compose --sql TEXT|--file FILE [--name NAME] [ACTION]...\n"
	      "       fieldgate-rule check [--grant] <DOCUMENT\n"
	      "       fieldgate-rule test --rules FILE [--name NAME] --topic TOPIC [--device ID] "
	      "FILE\n"
	      "\n"
	      "compose  a rule as JSON on stdout, if it can be parsed\n"
	      "check    whether such a rule fits the tables of FIELDGATE_DATABASE_URL that it "
	      "stores\n"
	      "         into; --grant gives fieldgate_ingest the rights that are missing\n"
	      "test     what such rules (an array, FILE of --rules) do with the payload in FILE\n"
	      "\n"
	      "It is a part of bin/fieldgate, whose help explains the rest.\n",
	      stderr);
	return EXIT_USAGE;
}

/* What is logged of rules, this program says itself. */
static void no_log(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(int argc, char **argv);
	} commands[] = {{"compose", compose_main}, {"check", check_main}, {"test", test_main}};

	log_set_sink(no_log, NULL);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++) {
		int status;

		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		status = commands[i].main(argc - 1, argv + 1);
		if (fflush(stdout) != 0)
			return complain(EXIT_FAILED, "stdout cannot be written");
		return status;
	}
	return usage();
}
