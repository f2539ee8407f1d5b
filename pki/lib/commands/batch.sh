# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet batch: a list of devices. The whole list is checked before the first device is made. Then each hundred is
# a transaction of its own (lib/provision.sh). What is done, the registry knows: a batch that was interrupted is
# gone on with by running it again.

readonly BATCH_CHUNK=100 BATCH_SAY_S=10
readonly BATCH_COLUMNS=" id csr policy state note days "
# What a modem answers to AT%KEYGEN, with or without the words around it: two of base64url, request and signature.
readonly BATCH_KEYGEN='^[[:space:]]*(%KEYGEN:)?[[:space:]]*"?[A-Za-z0-9_=-]{120,}(\.[A-Za-z0-9_=-]+)?"?[[:space:]]*$'

batch_help() {
	cat <<'HELP'
usage: fleet batch FILE.csv

Provision a list of devices: what fleet add does for each. The file is comma-separated (RFC 4180), UTF-8, and
its first line names the columns, of which only id is needed; an empty field is the default.

  id      the device
  csr     its request: a file (PEM or DER; relative to where FILE.csv is), or what its modem has answered to
          AT%KEYGEN; empty: the key is made here
  policy  what it may do (device)
  state   active, or pending: registered, but not let in before fleet approve
  note    for people
  days    valid for so many days (3650)

Nothing is made before every line is found good; what is wrong is said with its line's number. Interrupted at
any moment, run it again: what is there is left alone.

Made: what fleet add makes, and FILE.csv.result.csv with the columns id, serial, not_after, path, outcome: added,
existed, or failed and why.

example: fleet batch trackers.csv
HELP
}

batch_main() {
	local file started=$EPOCHREALTIME
	[[ ${1:-} != -- ]] || shift
	(($# == 1)) || usage_error "batch needs one FILE.csv"
	file=$1
	[[ $file != -* ]] || file=./$file
	[[ -f $file && -r $file ]] || die "$file is no file that can be read"
	find_cert_tool
	require_database
	BATCH_IDS=() BATCH_TODO=() BATCH_ADDED=0 BATCH_EXISTED=0 BATCH_FAILED=0 BATCH_RUNS=no
	declare -gA BATCH_OUTCOME=() BATCH_SERIAL=() BATCH_UNTIL=() BATCH_LINE=() BATCH_TEXT=()
	batch_read "$file"
	batch_check_requests
	batch_recover
	batch_sort
	((${#BATCH_FAULTS[@]} == 0)) || batch_refuse "$file"
	batch_provision
	batch_write_results "$file.result.csv"
	batch_summary "$file" "$started"
	((BATCH_FAILED == 0)) || exit 1
}

# On every exit. A batch that ends early says how far it came.
batch_end() {
	abandon_stage
	[[ $BATCH_RUNS == no ]] || note "stopped when $BATCH_ADDED were added: run it again to go on"
}

# --- what is wanted ---

batch_read() { # FILE
	local column
	local -A at=()
	BATCH_FAULTS=()
	BATCH_DIRECTORY=$(readlink -f -- "$(dirname -- "$1")")
	iconv -f UTF-8 -t UTF-8 -- "$1" >/dev/null 2>&1 || die "$1 is not UTF-8: save it as that"
	csv_open "$1"
	csv_next || die "$1 is empty: its first line names the columns, and needs one that is id"
	[[ -z $CSV_FAULT ]] || die "$1:$CSV_LINE: $CSV_FAULT"
	for column in "${!CSV_FIELDS[@]}"; do
		[[ $BATCH_COLUMNS == *" ${CSV_FIELDS[column]} "* ]] ||
			die "$1:$CSV_LINE: there is no column '${CSV_FIELDS[column]//[^[:print:]]/?}':${BATCH_COLUMNS}are," \
				"separated by commas"
		[[ -z ${at[${CSV_FIELDS[column]}]:-} ]] || die "$1:$CSV_LINE: the column ${CSV_FIELDS[column]} is there twice"
		at[${CSV_FIELDS[column]}]=$column
	done
	[[ -n ${at[id]:-} ]] || die "$1:$CSV_LINE: the column id is missing; the first line names the columns"
	BATCH_WIDTH=${#CSV_FIELDS[@]}
	while csv_next; do
		batch_read_row
	done
}

batch_fault() { # LINE TEXT...
	local line=$1
	shift
	BATCH_FAULTS+=("$line: $*")
}

# The caller's `at` says which column is where.
batch_read_row() {
	local id value days state policy
	if [[ -n $CSV_FAULT ]]; then
		batch_fault "$CSV_LINE" "$CSV_FAULT"
		return
	fi
	if ((${#CSV_FIELDS[@]} != BATCH_WIDTH)); then
		batch_fault "$CSV_LINE" "${#CSV_FIELDS[@]} fields, and the first line has $BATCH_WIDTH"
		return
	fi
	id=${CSV_FIELDS[${at[id]}]}
	if ! is_id "$id"; then
		batch_fault "$CSV_LINE" "'${id//[^[:print:]]/?}' cannot be an id: 1 to 64 letters, digits and _ . : - are"
		return
	fi
	if [[ -n ${BATCH_LINE[$id]:-} ]]; then
		batch_fault "$CSV_LINE" "$id stands in line ${BATCH_LINE[$id]} already"
		return
	fi
	BATCH_LINE[$id]=$CSV_LINE
	BATCH_IDS+=("$id")
	batch_field policy
	if [[ -n $value ]] && ! is_policy_name "$value"; then
		batch_fault "$CSV_LINE" "'${value//[^[:print:]]/?}' cannot be a policy: 1 to 64 letters, digits and _ . : - are"
		value=
	fi
	policy=$value
	batch_field state
	[[ -z $value || $value == pending || $value == active ]] ||
		batch_fault "$CSV_LINE" "state is pending or active, not '${value//[^[:print:]]/?}'"
	state=${value:-active}
	batch_field days
	[[ -z $value ]] || is_days "$value" ||
		batch_fault "$CSV_LINE" "days is a number from 1 to 99999, not '${value//[^[:print:]]/?}'"
	days=${value:-$ADD_DEFAULT_DAYS}
	batch_field note
	want "$id" "$days" "$state" "$policy" "$value"
	batch_field csr
	batch_take_request "$id" "$value"
}

# The field of this column to the caller's `value`, empty when there is no such column.
batch_field() { # COLUMN
	value=
	[[ -z ${at[$1]:-} ]] || value=${CSV_FIELDS[${at[$1]}]}
}

# A request that stands in the list itself becomes a file when there is a stage for it.
batch_take_request() { # ID VALUE
	local file=$2
	[[ -n $2 ]] || return 0
	if [[ $2 =~ $BATCH_KEYGEN ]]; then
		BATCH_TEXT[$1]=${2//[$' \t\r\n']/}
		return
	fi
	[[ $file == /* ]] || file=$BATCH_DIRECTORY/$file
	if [[ $file == *[[:cntrl:]]* || ! -f $file || ! -r $file ]]; then
		batch_fault "$CSV_LINE" "csr: '${2//[^[:print:]]/?}' is no file that can be read, nor a modem's answer"
		return
	fi
	want_request "$1" "$file" ''
}

# All requests at once, by one start of fieldgate-cert.
batch_check_requests() {
	local id ids=() i owner
	local -A line_of=()
	for id in "${BATCH_IDS[@]}"; do
		[[ -z ${WANTED_REQUEST[$id]:-}${BATCH_TEXT[$id]:-} ]] || ids+=("$id")
	done
	((${#ids[@]} > 0)) || return 0
	read_requests < <(for id in "${ids[@]}"; do
		printf '%s\n' "${WANTED_REQUEST[$id]:+csr:}${WANTED_REQUEST[$id]:-text:${BATCH_TEXT[$id]}}"
	done)
	read_key_owners
	for i in "${!ids[@]}"; do
		id=${ids[i]}
		owner=${KEY_OWNER[${REQUEST_KEYS[i]}]:-$id}
		if [[ ${REQUEST_KEYS[i]} == -* ]]; then
			batch_fault "${BATCH_LINE[$id]}" "csr: ${REQUEST_KEYS[i]#*"$TAB"}"
		elif [[ -n ${line_of[${REQUEST_KEYS[i]}]:-} ]]; then
			batch_fault "${BATCH_LINE[$id]}" "csr: the request of line ${line_of[${REQUEST_KEYS[i]}]} is of the" \
				"same key, and each device has one of its own"
		elif [[ $owner != "$id" ]]; then
			batch_fault "${BATCH_LINE[$id]}" "csr: it is for the key of $owner, and each device has one of its own"
		else
			line_of[${REQUEST_KEYS[i]}]=${BATCH_LINE[$id]}
			want_request "$id" "${WANTED_REQUEST[$id]:-}" "${REQUEST_KEYS[i]}"
		fi
	done
}

# --- what is there ---

# What an interrupted command has left is settled first: it may be the batch itself.
batch_recover() {
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	require_ca device-ca
	unlock_directory
}

# Who is to be made, to BATCH_TODO; who is there, or cannot be.
batch_sort() {
	local first id
	for ((first = 0; first < ${#BATCH_IDS[@]}; first += ASK_MAX)); do
		set -- "${BATCH_IDS[@]:first:ASK_MAX}"
		provision_ask "$@"
		for id; do
			provision_judge "$id"
			if [[ -z $PROVISION_FAULT ]]; then
				batch_judged "$id" || BATCH_TODO+=("$id")
			elif [[ ${KNOWN_STATE[$id]:-} == revoked ]]; then
				batch_failed "$id" "is revoked"
			else
				batch_fault "${BATCH_LINE[$id]}" "$PROVISION_FAULT"
			fi
		done
	done
}

# Is it there already? Then it is counted. A certificate for another key than that of the request helps nobody.
batch_judged() { # ID
	[[ -n ${KNOWN_UNTIL[$1]:-} ]] || return 1
	if [[ -n ${WANTED_KEY[$1]:-} && ${KEY_OF[$1]:-${WANTED_KEY[$1]}} != "${WANTED_KEY[$1]}" ]]; then
		batch_failed "$1" "has a certificate for another key than that of the request: fleet renew $1 --csr FILE makes one"
		return
	fi
	BATCH_OUTCOME[$1]=existed BATCH_SERIAL[$1]=${KNOWN_SERIAL[$1]} BATCH_UNTIL[$1]=${KNOWN_UNTIL[$1]}
	BATCH_EXISTED=$((BATCH_EXISTED + 1))
}

batch_failed() { # ID WHY
	BATCH_OUTCOME[$1]="failed: $2"
	BATCH_FAILED=$((BATCH_FAILED + 1))
}

batch_refuse() { # FILE
	local fault
	printf '%s\n' "${BATCH_FAULTS[@]}" | sort -n | while IFS= read -r fault; do
		printf '%s:%s\n' "$1" "$fault" >&2
	done
	die "${#BATCH_FAULTS[@]} faults in $1: nothing was added"
}

# --- making them ---

batch_provision() {
	local first
	BATCH_SAID=$SECONDS BATCH_STARTED=$SECONDS BATCH_RUNS=yes
	for ((first = 0; first < ${#BATCH_TODO[@]}; first += BATCH_CHUNK)); do
		batch_progress
		batch_chunk "${BATCH_TODO[@]:first:BATCH_CHUNK}"
	done
	batch_progress
	BATCH_RUNS=no
	[[ ! -t 2 ]] || printf '\n' >&2
}

# The lock is free between two of them, so that other commands have their turn. What they have done in it is looked
# at again.
batch_chunk() { # ID...
	local id wanted=()
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	new_stage add
	trap batch_end EXIT
	provision_ask "$@"
	for id; do
		provision_judge "$id"
		if [[ -n $PROVISION_FAULT ]]; then
			batch_failed "$id" "$PROVISION_FAULT"
		elif ! batch_judged "$id"; then
			wanted+=("$id")
			batch_write_request "$id"
		fi
	done
	((${#wanted[@]} == 0)) || provision "${wanted[@]}"
	for id in "${wanted[@]}"; do
		BATCH_OUTCOME[$id]=added BATCH_SERIAL[$id]=${PROVISIONED_SERIAL[$id]} BATCH_UNTIL[$id]=${PROVISIONED_UNTIL[$id]}
		BATCH_ADDED=$((BATCH_ADDED + 1))
	done
	abandon_stage
	unlock_directory
}

batch_write_request() { # ID
	[[ -n ${BATCH_TEXT[$1]:-} ]] || return 0
	want_request "$1" "$STAGE/request.$1" "${WANTED_KEY[$1]}"
	printf '%s\n' "${BATCH_TEXT[$1]}" >"$STAGE/request.$1"
}

# On a terminal a bar, elsewhere a line now and then.
batch_progress() {
	local all=${#BATCH_IDS[@]} width=30 took=$((SECONDS - BATCH_STARTED)) bar rest='' ended
	ended=$((BATCH_ADDED + BATCH_EXISTED + BATCH_FAILED))
	if [[ ! -t 2 ]]; then
		((SECONDS - BATCH_SAID >= BATCH_SAY_S)) || return 0
		BATCH_SAID=$SECONDS
		note "$ended of $all"
		return
	fi
	printf -v bar '%*s' $((all > 0 ? ended * width / all : width)) ''
	if ((took > 0 && BATCH_ADDED > 0)); then
		rest=$(((all - ended) * took / BATCH_ADDED))
		printf -v rest ', %d/s, %d:%02d left' $((BATCH_ADDED / took)) $((rest / 60)) $((rest % 60))
	fi
	printf '\r[%-*s] %d of %d%s\033[K' "$width" "${bar// /#}" "$ended" "$all" "$rest" >&2
}

# --- what came of it ---

# For machines; it is replaced whole.
batch_write_results() { # FILE
	local id path new
	new=$(mktemp -- "$1.XXXXXX")
	{
		csv_write id serial not_after path outcome
		for id in "${BATCH_IDS[@]}"; do
			path=$FLEET_DIR/devices/$id
			[[ -r $path/cert.pem ]] || path=
			csv_write "$id" "${BATCH_SERIAL[$id]:-}" "${BATCH_UNTIL[$id]:-}" "$path" "${BATCH_OUTCOME[$id]}"
		done
	} >"$new"
	mv -f -- "$new" "$1"
}

batch_summary() { # FILE STARTED
	local id took
	for id in "${BATCH_IDS[@]}"; do
		[[ ${BATCH_OUTCOME[$id]} != failed* ]] || note "$1:${BATCH_LINE[$id]}: $id ${BATCH_OUTCOME[$id]}"
	done
	took=$(((${EPOCHREALTIME/./} - ${2/./}) / 1000))
	printf -v took '%d.%03d' $((took / 1000)) $((took % 1000))
	say "added $BATCH_ADDED, existed $BATCH_EXISTED, failed $BATCH_FAILED, in ${took%??} s: $1.result.csv"
}
