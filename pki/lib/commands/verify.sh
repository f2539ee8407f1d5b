# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet verify: certificates as a strict verifier sees them, and as the registry does. fieldgate-cert finds what is
# wrong with a certificate in itself; what the registry knows of it is added here.

# So many fingerprints fit into one argument of psql.
readonly VERIFY_BATCH=1000

verify_help() {
	cat <<'HELP'
usage: fleet verify FILE...
       fleet verify DEVICE...
       fleet verify server NAME...
       fleet verify --all

Hold certificates to the rules, RFC 5280's and this fleet's: chain and signatures, dates, key usage, names, serial
number, P-256 and ecdsa-with-SHA256 only, the length of a server's chain, the lists in crl/; and, if a database is
given, whether the registry knows a device's certificate and has not revoked it. Each fault is a line with the file,
what is wrong and what to do. Changes nothing; needs no key of a CA.

  FILE         a certificate, with those above it or without: it is held to what it says that it is for
  DEVICE       devices/DEVICE/cert.pem, or that of a service, which must be that device's
  server NAME  servers/NAME/chain.pem, which must be good for a client that connects to NAME
  --all        all of them, and the CAs

Exit status: 0 all are good; 1 some are not.

example: fleet verify --all
HELP
}

verify_main() {
	local argument all=no
	# What is wrong with each, and all of them in their order; those of devices are in the registry.
	declare -gA VERIFY_FAULTS=() VERIFY_GOOD=()
	VERIFY_FILES=() VERIFY_DEVICES=()
	VERIFY_PLAN=()
	while (($# > 0)); do
		case $1 in
		--all) all=yes ;;
		--)
			shift
			VERIFY_PLAN+=("$@")
			break
			;;
		-*) usage_error "verify knows no option '$1' (an id that begins with - goes behind --)" ;;
		*) VERIFY_PLAN+=("$1") ;;
		esac
		shift
	done
	if ((${#VERIFY_PLAN[@]} == 0)); then
		[[ $all == yes ]] || usage_error "verify needs a FILE, a DEVICE, server NAME or --all"
	elif [[ $all == yes ]]; then
		usage_error "verify takes names or --all, not both"
	fi
	[[ ${VERIFY_PLAN[0]:-} != server ]] || { ((${#VERIFY_PLAN[@]} > 1)) || usage_error "verify server needs a NAME"; }
	[[ -z $FIELDGATE_DATABASE_URL ]] || require_database

	find_cert_tool
	recover_if_idle
	verify_trust
	if [[ $all == yes ]]; then
		verify_all
	elif [[ ${VERIFY_PLAN[0]} == server && ! -f server ]]; then
		for argument in "${VERIFY_PLAN[@]:1}"; do
			verify_server "$argument"
		done
	else
		for argument in "${VERIFY_PLAN[@]}"; do
			verify_argument "$argument"
		done
	fi
	[[ -z $FIELDGATE_DATABASE_URL ]] || verify_registry
	verify_print
}

# The CAs and lists of the directory, as arguments of fieldgate-cert.
verify_trust() {
	local directory list
	[[ -r $FLEET_DIR/ca.pem ]] ||
		die "$FLEET_DIR/ca.pem is not there: run fleet init first, or say with --dir where it is"
	VERIFY_TRUST=(--trust "$FLEET_DIR/ca.pem")
	while IFS= read -r directory; do
		VERIFY_TRUST+=(--trust "$FLEET_DIR/$directory/cert.pem")
	done < <(
		authorities_in_force server-ca
		device_authorities
	)
	for list in "$FLEET_DIR"/crl/*.pem; do
		[[ ! -e $list ]] || VERIFY_TRUST+=(--crl "$list")
	done
}

verify_argument() { # FILE|DEVICE
	local place
	if [[ -f $1 ]]; then
		verify_files -- "$1"
		[[ ${VERIFY_GOOD[$1]:-} != 'good: device '* ]] || VERIFY_DEVICES+=("$1")
		return
	fi
	for place in devices services; do
		if [[ $1 != */* && -e $FLEET_DIR/$place/$1/cert.pem ]]; then
			verify_files --purpose device --name "$1" -- "$FLEET_DIR/$place/$1/cert.pem"
			VERIFY_DEVICES+=("$FLEET_DIR/$place/$1/cert.pem")
			return
		fi
	done
	die "there is no file '${1//[^[:print:]]/?}', and no certificate of such a device in $FLEET_DIR"
}

verify_server() { # NAME
	local file=$FLEET_DIR/servers/$1/chain.pem
	[[ $1 != */* && -e $file ]] || die "there is no server '${1//[^[:print:]]/?}' in $FLEET_DIR/servers"
	verify_files --purpose server --name "$1" -- "$file"
}

verify_all() {
	local kind place places
	for kind in root device-ca server-ca; do
		while IFS= read -r place; do
			verify_files --purpose ca -- "$FLEET_DIR/$place/cert.pem"
		done < <(authorities_in_force "$kind")
	done
	for place in "$FLEET_DIR"/servers/*; do
		[[ ! -e $place/chain.pem ]] || verify_server "${place##*/}"
	done
	for kind in devices services; do
		places=("$FLEET_DIR/$kind"/*/cert.pem)
		[[ -e ${places[0]} ]] || continue
		for ((place = 0; place < ${#places[@]}; place += VERIFY_BATCH)); do
			verify_files --purpose device -- "${places[@]:place:VERIFY_BATCH}"
			verify_directory_names "${places[@]:place:VERIFY_BATCH}"
		done
		VERIFY_DEVICES+=("${places[@]}")
	done
}

# A line `FILE: good: ...` or `FILE: fault` for each, to the arrays.
verify_files() { # [OPTION...] -- FILE...
	local answer line file known='' status=0 options=()
	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	shift
	VERIFY_FILES+=("$@")
	answer=$("$CERT_TOOL" verify "${VERIFY_TRUST[@]}" "${options[@]}" -- "$@" 2>&1) || status=$?
	((status <= 1)) || die "fieldgate-cert: $answer"
	for file; do
		while [[ $answer == "$file: "* || $answer == "fieldgate-cert: $file"* ]]; do
			line=${answer%%$'\n'*}
			known=yes
			if [[ $line == "$file: good: "* ]]; then
				VERIFY_GOOD[$file]=${line#"$file: "}
			else
				VERIFY_FAULTS[$file]+=${line#fieldgate-cert: }$'\n'
			fi
			answer=${answer#"$line"}
			answer=${answer#$'\n'}
		done
	done
	[[ $known == yes && -z $answer ]] || die "${answer#fieldgate-cert: }"
}

# A certificate must be that of the device whose directory it is in.
verify_directory_names() { # FILE...
	local file directory
	for file; do
		directory=${file%/cert.pem}
		[[ -z ${VERIFY_GOOD[$file]:-} || ${VERIFY_GOOD[$file]} == "good: device ${directory##*/}, "* ]] ||
			VERIFY_FAULTS[$file]+="$file: it is that of another device, ${VERIFY_GOOD[$file]#good: device }; move it"$'\n'
	done
}

# What the registry says of the certificates of devices.
verify_registry() {
	local file fingerprint says answer place
	local -A file_of=()
	local readable=() fingerprints=()
	for file in "${VERIFY_DEVICES[@]}"; do
		# That one cannot be read was said.
		[[ -z ${VERIFY_GOOD[$file]:-} ]] && ! "$CERT_TOOL" show "$file" &>/dev/null || readable+=("$file")
	done
	for ((place = 0; place < ${#readable[@]}; place += VERIFY_BATCH)); do
		answer=$(run_cert show "${readable[@]:place:VERIFY_BATCH}")
		mapfile -t -O "$place" fingerprints < <(cut -f3 <<<"$answer")
	done
	for ((place = 0; place < ${#readable[@]}; place++)); do
		file_of[${fingerprints[place]}]=${readable[place]}
	done
	for ((place = 0; place < ${#fingerprints[@]}; place += VERIFY_BATCH)); do
		answer=$(query_rows "fingerprints=$(IFS=, && printf '%s' "${fingerprints[*]:place:VERIFY_BATCH}")" <<'SQL'
select f, case
	when c.fingerprint is null then 'the registry does not know it; fleet add registers it'
	when c.revoked_at is not null then 'it was revoked on '
		|| to_char(c.revoked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
		|| coalesce(' (' || c.revocation_reason || ')', '') || ', as the registry says; remove it'
	else 'its owner ' || c.principal || ' is revoked; remove it' end
	from unnest(string_to_array(:'fingerprints', ',')) f
	left join fieldgate.credential c on c.kind = 'x509' and c.fingerprint = decode(f, 'hex')
	left join fieldgate.principal p on p.id = c.principal
	where c.fingerprint is null or c.revoked_at is not null or p.state = 'revoked';
SQL
		)
		while IFS='|' read -r fingerprint says; do
			[[ -n $fingerprint ]] || continue
			file=${file_of[$fingerprint]}
			VERIFY_FAULTS[$file]+="$file: $says"$'\n'
		done <<<"$answer"
	done
}

verify_print() {
	local file bad=0
	for file in "${VERIFY_FILES[@]}"; do
		if [[ -n ${VERIFY_FAULTS[$file]:-} ]]; then
			bad=$((bad + 1))
			printf '%s' "${VERIFY_FAULTS[$file]}"
		else
			say "$file: ${VERIFY_GOOD[$file]}"
		fi
	done
	((bad == 0)) || die "$bad of ${#VERIFY_FILES[@]} certificates are not good"
}
