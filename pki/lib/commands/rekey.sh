# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet rekey: another master key for the pre-shared keys in the registry. Each row says which master key has
# sealed it (credential.sealed_by), so what is left to do is asked of the registry, and a run that was
# interrupted is run again. The keys themselves stay inside fieldgate-secret.

readonly REKEY_CHUNK=500 # rows in one transaction: each one is a change of the registry, which the servers read

rekey_help() {
	cat <<'HELP'
usage: fleet rekey [--new | --dry-run] [--key-file FILE]

Seal all pre-shared keys in the registry with the first master key of the file. Devices notice nothing. Run
again, it goes on where it was interrupted; it says which master keys are not needed any more.

  --new            put a new master key in front of the others in the file, and do nothing else
  --dry-run        say which master key has sealed how many rows, and change nothing
  --key-file FILE  the file (FIELDGATE_MASTER_KEY when that is set, else FLEET_DIR/master.key)

In this order, so that the servers can open every row at every moment:
  1. fleet rekey --new
  2. copy the file to every server (secrets.key_file), and SIGHUP
  3. fleet rekey
  4. remove the old line from the file, on the servers too, and SIGHUP

example: fleet rekey --new
HELP
}

rekey_main() {
	local new=no dry_run=no file=''
	while (($# > 0)); do
		case $1 in
		--new) new=yes ;;
		--dry-run) dry_run=yes ;;
		--key-file)
			need_value "$@"
			file=$2
			shift
			;;
		*) usage_error "rekey knows no '$1'" ;;
		esac
		shift
	done
	[[ $new == no || $dry_run == no ]] || usage_error "--new and --dry-run are two things"

	find_secret_tool
	rekey_find_file "$file"
	[[ $dry_run == yes ]] || lock_master_keys
	if [[ $new == yes ]]; then
		rekey_add_key
		return
	fi
	require_database
	rekey_read_file
	[[ $dry_run == yes ]] || rekey_all
	rekey_report "$dry_run"
}

# Unlike fleet psk it makes no file: there would be nothing that it opens.
rekey_find_file() { # KEY-FILE
	master_key_file "$1"
	[[ $MASTER_KEY_FILE == - || -e $MASTER_KEY_FILE ]] ||
		die "there is no $MASTER_KEY_FILE: say with --key-file where the master key is"
}

rekey_read_file() {
	local ids
	ids=$("$SECRET_TOOL" key-ids "$MASTER_KEY_FILE" 2>&1) || die "${ids#fieldgate-secret: }"
	mapfile -t REKEY_IDS <<<"$ids"
}

rekey_add_key() {
	local errors
	[[ $MASTER_KEY_FILE != - ]] || die "the master keys are in FIELDGATE_MASTER_KEY, which fleet cannot" \
		"change: put a new one (openssl rand -hex 32) in front of the others there"
	errors=$("$SECRET_TOOL" add-key "$MASTER_KEY_FILE" 2>&1) || die "${errors#fieldgate-secret: }"
	say "$MASTER_KEY_FILE has a new first key. Next: copy the file to every server and SIGHUP," \
		"then fleet rekey. Keep a copy elsewhere: fleet psk seals with the new key from now on"
}

rekey_all() {
	local after='' rows count=0
	REKEY_FAILED=no
	while true; do
		rows=$(rekey_rows "$after")
		[[ -n $rows ]] || break
		after=${rows##*$'\n'}
		after=${after%%$'\t'*}
		rekey_chunk "$rows"
		count=$((count + REKEY_WRITTEN))
	done
	say "sealed $count keys with the master key ${REKEY_IDS[0]}"
	[[ $REKEY_FAILED == no ]] || die "some keys could not be opened, and stay as they are. A master key that" \
		"is missing belongs into $MASTER_KEY_FILE; a damaged row needs fleet psk DEVICE --replace"
}

# The next rows that another master key has sealed: lines of fingerprint, principal and secret between tabs.
rekey_rows() { # FINGERPRINT-BEFORE
	query_rows "after=$1" "first=${REKEY_IDS[0]}" "chunk=$REKEY_CHUNK" <<'SQL'
select concat_ws(E'\t', encode(fingerprint, 'hex'), principal, encode(material, 'hex'))
	from fieldgate.credential
	where kind = 'psk' and sealed_by <> decode(:'first', 'hex') and fingerprint > decode(:'after', 'hex')
	order by fingerprint limit :chunk;
SQL
}

# Rows to REKEY_WRITTEN. A row that somebody has changed since it was read is not touched.
rekey_chunk() { # ROWS
	local resealed status=0
	resealed=$("$SECRET_TOOL" reseal "$MASTER_KEY_FILE" psk <<<"$1") || status=$?
	case $status in
	0) ;;
	3) REKEY_FAILED=yes ;;
	*) die "the keys could not be sealed" ;;
	esac
	REKEY_WRITTEN=0
	[[ -n $resealed ]] || return 0
	REKEY_WRITTEN=$({
		cat <<'SQL'
begin;
create temporary table resealed (fingerprint bytea, principal text, former bytea, material bytea) on commit drop;
copy resealed from stdin;
SQL
		# In COPY's text form, bytea is \x and digits, and the backslash is doubled.
		sed -E 's/^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$/\\\\x\1\t\2\t\\\\x\3\t\\\\x\4/' <<<"$resealed"
		printf '%s\n' '\.'
		cat <<'SQL'
with written as (
	update fieldgate.credential c set material = r.material from resealed r
	where c.kind = 'psk' and c.fingerprint = r.fingerprint and c.principal = r.principal
		and c.material = r.former
	returning 1)
select count(*) from written;
commit;
SQL
	} | query_rows)
}

# How many rows hang on which master key, and which keys of the file none does.
rekey_report() { # DRY-RUN
	local -A rows=()
	local answer id count place=0
	answer=$(query_rows <<'SQL'
select encode(sealed_by, 'hex'), count(*) from fieldgate.credential where kind = 'psk' and sealed_by is not null
	group by 1 order by 1;
SQL
	)
	while IFS='|' read -r id count; do
		[[ -z $id ]] || rows[$id]=$count
	done <<<"$answer"
	for id in "${REKEY_IDS[@]}"; do
		place=$((place + 1))
		say "master key $place of $MASTER_KEY_FILE ($id): ${rows[$id]:-0} keys"
		if ((place > 1)) && [[ -z ${rows[$id]:-} ]]; then
			note "master key $place ($id) is not needed any more: remove its line, on the servers too," \
				"and SIGHUP them"
		fi
		unset "rows[$id]"
	done
	for id in "${!rows[@]}"; do
		warn "master key $id is not in $MASTER_KEY_FILE: ${rows[$id]} keys are sealed with it"
	done
	[[ $1 == no || ${#REKEY_IDS[@]} == 1 ]] || note "nothing was changed"
}
