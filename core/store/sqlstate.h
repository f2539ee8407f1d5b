/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an error of the database means for the messages of a batch. The question is always the same:
 * is it the message's fault (then it must be found and put aside, or it blocks all behind it), or
 * the system's (then every message is kept, however long it takes)?
 */
#ifndef FG_STORE_SQLSTATE_H
#define FG_STORE_SQLSTATE_H

enum sqlstate_class {
	SQLSTATE_SYSTEM, /* keep everything and try again: the connection, resources, locks, rights
			  */
	SQLSTATE_ROW,	 /* a value, a constraint, a user's trigger: some message is refused */
	SQLSTATE_SCHEMA, /* the tables are not as the catalogue said: read it again */
	SQLSTATE_POSITION, /* FG001: the journal is not where this writer thought */
	SQLSTATE_UNKNOWN,  /* try again a few times, then take it for the message's */
};

/* sqlstate: five characters, or NULL when the error is libpq's own (the connection was lost). */
enum sqlstate_class sqlstate_class(const char *sqlstate);

#endif
