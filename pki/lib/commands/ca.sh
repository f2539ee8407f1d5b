# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca: the certificate authorities, over their years. Each of its commands is a file of its own, ca_*.sh; here is
# what a crash leaves of them. A stage of `ca` holds what is new, and its manifest three lines: the database that
# decides (- for none), the fingerprint of the CA, and what is to be done. Where the registry decides, it is
# asked as after an interrupted fleet add. Once it is decided the stage has a file `decided`, and only then does
# anything else in the directory change; from there on it can be completed without the registry.

ca_help() {
	cat <<'HELP'
usage: fleet ca list
       fleet ca new device-ca|server-ca|root [--key URI]
       fleet ca enrol NAME off|pending|active [--policy POLICY]
       fleet ca retire NAME [--force]
       fleet ca add FILE [--name NAME] [--enrol off|pending|active] [--policy POLICY]

  list     every CA of the directory and of the registry: where its key is, until when it is valid, and how many
           credentials that are in force it has signed
  new      another CA signs from now on. The former one goes to former/NAME/ and is accepted as before
  enrol    what becomes of a device that shows a certificate of this CA and is not registered: refused and nothing
           else (off), registered and let in after fleet approve (pending, the default), or let in at once
           (active); with which policy (device)
  retire   a former CA, or one of others, is not accepted any more. Credentials in force that it has signed are
           revoked with it, when --force is given; without it there must be none
  add      accept the devices of somebody else's CA, of the maker of a module, say: only its certificate is needed,
           and those above it up to its root, in one PEM file. NAME is other-ca-... when it is not given

  --key URI   the key is in hardware: pkcs11:... (RFC 7512), P-256, made there before

A new CA has a key that is protected as that of the former one is; a new root makes server and device CAs only when
it is asked to, by new. To replace a root: ca new root; give devices and servers the new ca.pem and
device-ca-chain.pem (see fleet anchors); when all have it, ca new server-ca, fleet server NAME --renew, ca new
device-ca; and when no device needs the former ones, ca retire.

example: fleet ca new device-ca
HELP
}

ca_main() {
	local command=${1:-}
	case $command in
	list | new | enrol | retire | add) ;;
	'') usage_error "ca needs a command: list, new, enrol, retire or add" ;;
	*) usage_error "ca has no command '${command//[^[:print:]]/?}': list, new, enrol, retire and add are" ;;
	esac
	shift
	require_openssl
	find_cert_tool
	"ca_$command" "$@"
}

# The identity of the registry's database, as in manifests.
ca_database() {
	query_rows <<'SQL'
select system_identifier || '/' || d.oid
	from pg_control_system(), pg_database d where d.datname = current_database();
SQL
}

# What is staged is done, or nothing is. ERRORS is what was said by the transaction that was to decide.
ca_finish() { # ERRORS
	local end
	end=$(ca_settle "$STAGE") || die "${1:+$1. }Not finished: the next fleet command completes or undoes it"
	[[ $end == completed ]] || die "${1:-The registry has not taken it}. Nothing was changed"
}

ca_recover() { # STAGE
	local end
	end=$(ca_settle "$1")
	[[ $end == left ]] || note "an interrupted ca command was $end"
}

# completed, undone or left to stdout. It is called where `set -e` is off: every step that must not fail says so.
ca_settle() { # STAGE
	local staged=$1 manifest answer
	if [[ ! -e $staged/manifest ]]; then
		rm -rf -- "$staged" || exit 1
		printf undone
		return
	fi
	mapfile -t manifest <"$staged/manifest"
	if [[ ! -e $staged/decided && ${manifest[0]} != - ]]; then
		# Nothing has changed yet, and commands without a registry may go on.
		[[ -n $DB_URL ]] || { printf left && return; }
		answer=$(ca_ask "${staged##*/}" "${manifest[1]}") || exit 1
		if [[ ${answer%%|*} != "${manifest[0]}" ]]; then
			warn "$staged is what a ca command with another database has left: run fleet with that" \
				"database, or remove it if that database is gone"
			printf left
			return
		fi
		if [[ ${manifest[2]} == retire\ * && $answer != *'|retired' || $answer == *'|' ]]; then
			rm -rf -- "$staged" || exit 1
			printf undone
			return
		fi
	fi
	: >"$staged/decided" && sync -- "$staged/decided" "$staged" || exit 1
	# shellcheck disable=SC2086 # two words
	ca_carry_out "$staged" ${manifest[2]} || exit 1
	rm -rf -- "$staged" || exit 1
	printf completed
}

# The registry's identity and what it knows of a CA: nothing, registered, retired.
ca_ask() { # STAGE-NAME FINGERPRINT
	query_rows "stage=$1" "fingerprint=$2" <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
select system_identifier || '/' || d.oid, case when a.retired_at is null then a.registered else 'retired' end
	from pg_control_system(), pg_database d
	left join (select 'registered' as registered, retired_at from fieldgate.authority
		where fingerprint = decode(:'fingerprint', 'hex')) a on true
	where d.datname = current_database();
commit;
SQL
}

# Once or again: each step finds out whether it was done. What is replaced is moved before its successor comes,
# so a CA that is still in the stage and not at its place has none there to be moved.
ca_carry_out() { # STAGE new|add|retire PLACE
	local staged=$1/$3 place=$FLEET_DIR/$3
	case $2 in
	retire)
		[[ $3 != - ]] || return 0 # it is nowhere but in the registry
		: >"$place/retired" && sync -- "$place/retired" "$place" || return
		;;
	new | add)
		if [[ -e $staged ]]; then
			mkdir -p -- "$(dirname -- "$place")" "$FLEET_DIR/former" || return
			require_same_filesystem "$1" "$(dirname -- "$place")"
			require_same_filesystem "$1" "$FLEET_DIR/former"
			if [[ -e $place ]]; then
				read_authority "$3"
				mv -T -- "$place" "$FLEET_DIR/former/$AUTHORITY_NAME" || return
			fi
			mv -T -- "$staged" "$place" || return
			sync -- "$FLEET_DIR/former" "$(dirname -- "$place")" || return
		fi
		;;
	esac
	write_bundles "$1" || return
}

# How servers come to know of another device-ca-chain.pem. What hangs on roots that they trust, they hear from the
# registry.
ca_advise_servers() {
	say "Copy $FLEET_DIR/device-ca-chain.pem to the servers. fieldgate-coap reads it on SIGHUP," \
		"Mosquitto only when it is restarted"
}
