/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the settings as the Markdown table that stands in README.md. A test holds README against
 * it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/config.h"

int main(void)
{
	config_print_markdown(stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}
