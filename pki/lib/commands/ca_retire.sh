# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca retire: what a CA has signed is not accepted any more. For a device CA the registry decides: its row
# is marked and the credentials that hang on it are revoked in one transaction.

ca_retire() {
	local name='' force=no place
	while (($# > 0)); do
		case $1 in
		--force) force=yes ;;
		-*) usage_error "ca retire knows no option '$1'" ;;
		*)
			[[ -z $name ]] || usage_error "ca retire needs one NAME"
			name=$1
			;;
		esac
		shift
	done
	[[ -n $name ]] || usage_error "ca retire needs the NAME of a CA"
	check_authority_name "$name"

	lock_directory
	[[ $name =~ ^(root|server-ca)(-|$) ]] || require_database
	recover_stages init server ca
	ca_retire_check_current "$name"
	place=$(ca_retire_place "$name")
	new_stage ca
	case $name in
	root-*) ca_retire_root "$name" "$place" "$force" ;;
	server-ca-*) ca_retire_server_ca "$name" "$place" "$force" ;;
	*) ca_retire_device_ca "$name" "$place" "$force" ;;
	esac
}

ca_retire_check_current() { # NAME
	local kind
	for kind in root device-ca server-ca; do
		[[ -e $FLEET_DIR/$kind/cert.pem ]] || continue
		read_authority "$kind"
		[[ $1 != "$kind" && $1 != "$AUTHORITY_NAME" ]] ||
			die "$AUTHORITY_NAME signs now: fleet ca new $kind makes another one, then it can be retired"
	done
}

# Below --dir; nothing for one that only the registry knows.
ca_retire_place() { # NAME
	local place
	for place in "former/$1" "other-ca/$1"; do
		if [[ -e $FLEET_DIR/$place/cert.pem ]]; then
			printf '%s' "$place"
			return
		fi
	done
	[[ ! $1 =~ ^(root|server-ca)- ]] || die "there is no former/$1 in $FLEET_DIR: fleet ca list shows what is"
}

# CAs in force under a root keep it: without it nobody could verify them.
ca_retire_root() { # NAME PLACE FORCE
	local directory
	[[ ! -e $FLEET_DIR/$2/retired ]] || { say "$1 was retired before" && return; }
	while IFS= read -r directory; do
		if openssl verify -partial_chain -trusted "$FLEET_DIR/$2/cert.pem" \
			"$FLEET_DIR/$directory/cert.pem" >/dev/null 2>&1; then
			read_authority "$directory"
			die "$AUTHORITY_NAME is in force and signed by $1: retire it first" \
				"(fleet ca new, when it is the one that signs now)"
		fi
	done < <(authorities_in_force device-ca server-ca)
	ca_retire_in_directory "$@"
	say "$1 is retired. Give devices the new $FLEET_DIR/ca.pem when it suits (fleet anchors)"
	ca_advise_servers
}

ca_retire_server_ca() { # NAME PLACE FORCE
	local certificate servers=()
	[[ ! -e $FLEET_DIR/$2/retired ]] || { say "$1 was retired before" && return; }
	for certificate in "$FLEET_DIR"/servers/*/cert.pem; do
		! openssl verify -partial_chain -trusted "$FLEET_DIR/$2/cert.pem" "$certificate" >/dev/null 2>&1 ||
			servers+=("$(basename -- "$(dirname -- "$certificate")")")
	done
	((${#servers[@]} == 0)) || [[ $3 == yes ]] ||
		die "$1 has signed certificates of servers that are valid: ${servers[*]}. Renew them first" \
			"(fleet server NAME --renew), or say --force"
	ca_retire_in_directory "$@"
	say "$1 is retired. What it has signed is valid until its end for who does not ask for revocation:" \
		"if its key may be known to others, replace the root too"
}

ca_retire_in_directory() { # NAME PLACE FORCE
	read_authority "$2"
	complete_stage - "$AUTHORITY_FINGERPRINT" "retire $2"
	ca_finish ''
}

ca_retire_device_ca() { # NAME PLACE FORCE
	local database answer='' hanging unknown
	register_authorities
	ca_find_registered "$1"
	database=$(ca_database)
	complete_stage "$database" "$CA_FINGERPRINT" "retire ${2:--}"
	answer=$(ca_retire_transaction "$3" 2>&1) || true
	if [[ $answer =~ ^kept\|([0-9]+)$ ]]; then
		rm -rf -- "$STAGE"
		hanging=${BASH_REMATCH[1]}
		die "$1 has signed $hanging credentials that are in force: renew these devices first (fleet renew)," \
			"or say --force, which revokes them"
	fi
	if [[ $answer =~ ^retired\|([0-9]+)\|([0-9]+)$ ]]; then
		hanging=${BASH_REMATCH[1]} unknown=${BASH_REMATCH[2]} answer=''
	fi
	ca_finish "${answer#fleet: error: }"
	say "$1 is retired${hanging:+, and credentials that it has signed are revoked: $hanging}. Servers hear of that from" \
		"the registry within 5 s, and close its devices' connections"
	[[ ${unknown:-0} == 0 ]] || warn "of $unknown credentials in force the registry does not know who signed" \
		"them: those of this CA are refused by servers that have the new device-ca-chain.pem, not before"
	[[ -z $2 ]] || ca_advise_servers
}

# Who enrols a device at this moment holds the CA's row, and is waited for: its credential is seen.
ca_retire_transaction() { # FORCE
	query_rows "stage=${STAGE##*/}" "fingerprint=$CA_FINGERPRINT" "force=$1" <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
select 1 from fieldgate.authority where fingerprint = decode(:'fingerprint', 'hex') for update \g /dev/null
select count(*) as hanging, count(*) = 0 or :'force' = 'yes' as go from fieldgate.credential
	where issuer = decode(:'fingerprint', 'hex') and revoked_at is null
		and coalesce(not_after, 'infinity') > now() \gset
\if :go
update fieldgate.authority set retired_at = coalesce(retired_at, now())
	where fingerprint = decode(:'fingerprint', 'hex');
update fieldgate.credential set revoked_at = now(), revocation_reason = 'superseded'
	where issuer = decode(:'fingerprint', 'hex') and revoked_at is null;
select 'retired', :hanging, count(*) from fieldgate.credential where kind = 'x509' and issuer is null
	and revoked_at is null and coalesce(not_after, 'infinity') > now();
\else
select 'kept', :hanging;
\endif
commit;
SQL
}
