# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The registry in PostgreSQL, by psql, shared by the commands of Fieldgate. SQL comes through stdin; values are psql variables or rows of a COPY
# and never part of the SQL; a password goes through the environment.

DB_URL='' DB_PASSWORD=''

# A password in the user part can be taken out (split_database_url); elsewhere it cannot.
database_url_has_password() { # URL
	[[ $1 =~ password[[:space:]]*= || $1 =~ ^postgres(ql)?://[^/@]*:[^/@]*@ ]]
}

# What was given with --database.
take_database_option() { # URL
	database_url_has_password "$1" && usage_error "--database must not hold a password:" \
		"arguments can be read by everybody on this machine. Put the URL into" \
		"FIELDGATE_DATABASE_URL, or the password into PGPASSWORD or ~/.pgpass"
	FIELDGATE_DATABASE_URL=$1
}

# FIELDGATE_DATABASE_URL without its password to DB_URL, the password to DB_PASSWORD.
split_database_url() {
	local url=${FIELDGATE_DATABASE_URL:-} encoded
	[[ -n $url ]] || usage_error "which database? Set FIELDGATE_DATABASE_URL or give --database URL"
	[[ ! $url =~ password[[:space:]]*= ]] || usage_error "FIELDGATE_DATABASE_URL must not hold password=...:" \
		"write postgresql://user:password@host/database, or use PGPASSWORD or ~/.pgpass"
	DB_URL=$url DB_PASSWORD=''
	if [[ $url =~ ^(postgres(ql)?://[^/@:]*):([^/@]*)(@.*)$ ]]; then
		DB_URL=${BASH_REMATCH[1]}${BASH_REMATCH[4]}
		encoded=${BASH_REMATCH[3]//\\/\\\\}
		printf -v DB_PASSWORD %b "${encoded//%/\\x}"
	fi
}

require_database() {
	command -v psql >/dev/null || die "psql is not installed: apt install postgresql-client"
	split_database_url
}

# Run the SQL on stdin, values as NAME=VALUE. The result is on stdout, the status psql's: 2 no connection,
# 3 the SQL failed.
run_psql() { # [-P OPTION=VALUE] [-OPTION] NAME=VALUE...
	local arguments=()
	while (($# > 0)); do
		case $1 in
		-P)
			arguments+=(-P "$2")
			shift
			;;
		-*) arguments+=("$1") ;;
		*) arguments+=(-v "$1") ;;
		esac
		shift
	done
	if [[ -n $DB_PASSWORD ]]; then
		local -x PGPASSWORD=$DB_PASSWORD
	fi
	{
		# Nothing of a schema that others may write to: this is the owner of the registry.
		printf "set search_path = pg_catalog, pg_temp;\n"
		printf "set statement_timeout = '60s'; set lock_timeout = '15s';\n"
		cat
	} | PGAPPNAME=$PROGRAM PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10} PGCLIENTENCODING=UTF8 \
		psql -X -q -w -v ON_ERROR_STOP=1 "${arguments[@]}" -d "$DB_URL"
}

# The same; what fails ends the command with words that say what to do.
query() { # as run_psql
	local errors status=0
	{ errors=$(run_psql "$@" 2>&1 >&3) || status=$?; } 3>&1
	((status == 0)) || die "$(explain_database_error "$status" "$errors")"
	[[ -z $errors ]] || warn "$errors"
}

# Rows as lines, columns separated by |.
query_rows() { # NAME=VALUE...
	query -At "$@"
}

explain_database_error() { # STATUS WORDS
	local words=${2//psql: error: /}
	case $words in
	*'fieldgate.'*'does not exist'*)
		printf 'the database at %s has no registry: %s. Apply the migrations: sql/migrate' \
			"$DB_URL" "$words"
		;;
	*'permission denied'*)
		printf 'no right to write the registry at %s: %s. Connect as fieldgate_owner' \
			"$DB_URL" "$words"
		;;
	*)
		if (($1 == 2)); then
			printf 'no connection to the database at %s (FIELDGATE_DATABASE_URL or --database): %s' \
				"$DB_URL" "$words"
		else
			printf 'the database at %s refused: %s' "$DB_URL" "$words"
		fi
		;;
	esac
}
