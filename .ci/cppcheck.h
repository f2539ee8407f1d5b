/* SPDX-License-Identifier: Apache-2.0 */
/* What cppcheck, which reads no system header here, cannot guess: macros that stand for statements.
 */
#define TAILQ_FOREACH(var, head, field)                                                            \
	for ((var) = (head)->tqh_first; (var); (var) = (var)->field.tqe_next)
