/* SPDX-License-Identifier: Apache-2.0 */
/* One command a line from stdin, as JSON; README.md beside this file lists them. */
#ifndef FG_TESTS_COMMANDS_H
#define FG_TESTS_COMMANDS_H

/* Until `quit` or the end of stdin. The exit code. */
int commands_run(void);

#endif
