# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca enrol: what becomes of unregistered devices of a CA.

ca_enrol() {
	local arguments=() policy='' name enrolment changed
	while (($# > 0)); do
		case $1 in
		--policy)
			need_value "$@"
			check_policy_name "$2"
			policy=$2
			shift
			;;
		-*) usage_error "ca enrol knows no option '$1'" ;;
		*) arguments+=("$1") ;;
		esac
		shift
	done
	((${#arguments[@]} == 2)) || usage_error "ca enrol needs the NAME of a CA, and off, pending or active"
	name=${arguments[0]} enrolment=${arguments[1]}
	check_authority_name "$name"
	check_enrolment "$enrolment"

	require_database
	recover_if_idle
	register_authorities
	ca_find_registered "$name"
	[[ $CA_RETIRED == no ]] || die "$CA_NAME is retired: it enrols nobody"
	changed=$(query_rows "fingerprint=$CA_FINGERPRINT" "enrolment=$enrolment" "policy=$policy" <<'SQL'
update fieldgate.authority set enrolment = :'enrolment'::fieldgate.enrolment, policy = coalesce(p.name, policy)
	from (select 1) as always left join fieldgate.policy p on p.name = :'policy'
	where fingerprint = decode(:'fingerprint', 'hex') and (:'policy' = '' or p.name is not null)
	returning policy;
SQL
	)
	[[ -n $changed ]] || die "there is no policy '$policy' in the registry: insert it into fieldgate.policy," \
		"its rules into fieldgate.policy_rule"
	case $enrolment in
	off) say "$CA_NAME enrols nobody: unregistered devices are refused" ;;
	pending) say "$CA_NAME enrols devices as pending, with the policy $changed: fleet approve lets them in" ;;
	active) say "$CA_NAME enrols devices as active, with the policy $changed: they are let in at once" ;;
	esac
}

check_authority_name() {
	[[ $1 =~ ^[A-Za-z0-9_.:@-]{1,64}$ ]] ||
		usage_error "'${1//[^[:print:]]/?}' cannot be the name of a CA: fleet ca list shows them"
}

check_enrolment() {
	[[ $1 =~ ^(off|pending|active)$ ]] || usage_error "enrolment is off, pending or active, not '$1'"
}

# A CA of the registry by its name to CA_NAME, CA_FINGERPRINT and CA_RETIRED; device-ca is the one that signs now.
ca_find_registered() { # NAME
	local name=$1 answer
	if [[ $name == device-ca ]]; then
		read_authority device-ca
		name=$AUTHORITY_NAME
	fi
	answer=$(query_rows "name=$name" <<'SQL'
select name, encode(fingerprint, 'hex'), case when retired_at is null then 'no' else 'yes' end
	from fieldgate.authority where name = :'name';
SQL
	)
	[[ -n $answer ]] || die "there is no device CA '$name' in the registry at $DB_URL: fleet ca list shows them"
	IFS='|' read -r CA_NAME CA_FINGERPRINT CA_RETIRED <<<"$answer"
}
