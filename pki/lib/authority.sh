# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The CAs of the directory: which are in force, what their certificates say, where their keys are.
# root/, device-ca/ and server-ca/ sign now; former/NAME/ are earlier generations, which are accepted until they are
# retired (a file `retired` in the directory says so); other-ca/NAME/ are device CAs of others.

readonly AUTHORITY_ROOT_DAYS=7305 AUTHORITY_DAYS=7304
export AUTHORITY_NAME='' AUTHORITY_FINGERPRINT='' AUTHORITY_SERIAL='' AUTHORITY_NOT_BEFORE='' AUTHORITY_NOT_AFTER=''
export AUTHORITY_BASE64=''

# The directories, below --dir, of the CAs of these kinds that are in force: the one that signs now, then its former
# generations.
authorities_in_force() { # KIND...
	local kind place
	for kind; do
		for place in "$FLEET_DIR/$kind" "$FLEET_DIR/former/$kind"-*; do
			[[ ! -e $place/cert.pem || -e $place/retired ]] || printf '%s\n' "${place#"$FLEET_DIR/"}"
		done
	done
}

# The device CAs whose devices are accepted: ours, and those of others.
device_authorities() {
	local place
	authorities_in_force device-ca
	for place in "$FLEET_DIR"/other-ca/*; do
		[[ ! -e $place/cert.pem || -e $place/retired ]] || printf '%s\n' "${place#"$FLEET_DIR/"}"
	done
}

# The first certificate in a CA's directory below --dir to AUTHORITY_*: the name, which for a CA that signs now is its
# kind and the end of its serial number, and else that of the directory; serial and SHA-256 fingerprint in
# hexadecimal; dates in ISO 8601; the DER in base64.
read_authority() { # DIRECTORY
	local file=$FLEET_DIR/$1/cert.pem description line
	description=$(openssl x509 -in "$file" -sha256 -serial -fingerprint -startdate -enddate \
		-dateopt iso_8601 2>/dev/null) || die "$file is not a certificate: put it back from your backup"
	AUTHORITY_BASE64=''
	while IFS= read -r line; do
		case $line in
		serial=*) AUTHORITY_SERIAL=${line#*=} ;;
		sha256\ Fingerprint=*) AUTHORITY_FINGERPRINT=${line#*=} ;;
		notBefore=*) AUTHORITY_NOT_BEFORE=${line#*=} ;;
		notAfter=*) AUTHORITY_NOT_AFTER=${line#*=} ;;
		-----*) ;;
		*) AUTHORITY_BASE64+=$line ;;
		esac
	done <<<"$description"
	AUTHORITY_SERIAL=${AUTHORITY_SERIAL,,} AUTHORITY_FINGERPRINT=${AUTHORITY_FINGERPRINT//:/}
	AUTHORITY_FINGERPRINT=${AUTHORITY_FINGERPRINT,,}
	AUTHORITY_NAME=${1##*/}
	case $AUTHORITY_NAME in
	root | device-ca | server-ca) AUTHORITY_NAME+=-${AUTHORITY_SERIAL: -8} ;;
	esac
}

# In words, where the key of a CA is.
authority_key() { # DIRECTORY
	local place=$FLEET_DIR/$1
	if [[ -e $place/key.uri ]]; then
		printf 'PKCS#11'
	elif [[ ! -r $place/key.pem ]]; then
		printf 'not here'
	elif [[ $(head -n 1 -- "$place/key.pem") == *ENCRYPTED* ]]; then
		printf 'encrypted file'
	else
		printf 'file'
	fi
}

# The name that init gave the fleet, from the subject of a CA.
authority_organisation() { # DIRECTORY
	local subject
	subject=$(openssl x509 -in "$FLEET_DIR/$1/cert.pem" -noout -subject -nameopt RFC2253) ||
		die "$FLEET_DIR/$1/cert.pem is not a certificate: put it back from your backup"
	[[ $subject =~ (^|[=,])O=([^,]*) ]] || die "$FLEET_DIR/$1/cert.pem has no organisation in its subject"
	printf '%s' "${BASH_REMATCH[2]}"
}

# Key and certificate of a CA, in the stage. A root signs itself, the others are signed by the root. The key is in the
# token that KEY-URI names; else a new one in a file, with a passphrase when ENCRYPT says so or the former one has one.
make_authority() { # KIND ORGANISATION [KEY-URI [ENCRYPT]]
	local kind=$1 organisation=$2 uri=${3:-} words=${1/-ca/ CA} days=$AUTHORITY_DAYS signer=$FLEET_DIR/root
	local options=() key=new:$STAGE/$kind/key.pem
	mkdir -- "$STAGE/$kind"
	if [[ $kind == root ]]; then
		days=$AUTHORITY_ROOT_DAYS signer=--self
	else
		[[ -r $signer/key.pem || -r $signer/key.uri ]] ||
			die "$signer/key.pem is needed to make $kind: put it back for the time of this command"
	fi
	if [[ -n $uri ]]; then
		printf '%s\n' "$uri" >"$STAGE/$kind/key.uri"
		key=key:$STAGE/$kind/key.uri
	elif [[ -e $FLEET_DIR/$kind/key.uri ]]; then
		die "the key of the $kind that signs now is in hardware: make the next one there, and name it with --key"
	elif [[ ${4:-no} == yes || $(authority_key "$kind") == 'encrypted file' ]]; then
		options=(--encrypt-keys)
	fi
	# The end of the serial number sets the CAs of two fleets, and of two generations, apart by name.
	job "/O=$organisation/CN=$organisation $words {serial}" - "$key" "$STAGE/$kind/cert.pem" >"$STAGE/jobs"
	issue "$kind" "$signer" "$days" "${options[@]}" <"$STAGE/jobs"
	rm -- "$STAGE/jobs"
}

# The two files that others are given: ca.pem, what devices are to trust, and device-ca-chain.pem, whose devices the
# servers accept. They follow from the directories. Those that are others than before to BUNDLES_CHANGED. It is called
# where `set -e` is off, too: a file that was cut short by a full disk must not get its place.
write_bundles() { # SCRATCH-DIRECTORY
	local scratch=$1 file directories
	BUNDLES_CHANGED=()
	for file in ca.pem device-ca-chain.pem; do
		mapfile -t directories < <(
			[[ $file == ca.pem ]] || device_authorities
			authorities_in_force root
		)
		((${#directories[@]} > 0)) || continue
		(cd -- "$FLEET_DIR" && cat -- "${directories[@]/%//cert.pem}") >"$scratch/$file" || return
		if ! cmp -s -- "$scratch/$file" "$FLEET_DIR/$file"; then
			sync -- "$scratch/$file" || return
			mv -- "$scratch/$file" "$FLEET_DIR/$file" || return
			BUNDLES_CHANGED+=("$FLEET_DIR/$file")
		fi
	done
	sync -- "$FLEET_DIR" || return
}

# Rows of fieldgate.authority for the device CAs of the directory that have none.
register_authorities() {
	local directories
	mapfile -t directories < <(device_authorities)
	((${#directories[@]} > 0)) || return 0
	insert_authorities '' '' '' "${directories[@]}"
}

# One transaction, which holds the advisory lock of a stage's name, if one is given. Without ENROLMENT and POLICY a
# new generation enrols as the newest of these directories that is registered does. What is registered stays as it
# is, and then the registry's version does too: its readers are not woken.
insert_authorities() { # STAGE ENROLMENT POLICY DIRECTORY...
	local lock=$1 enrolment=$2 policy=$3 directory
	local names=() certificates=() begins=() ends=()
	shift 3
	for directory; do
		read_authority "$directory"
		names+=("$AUTHORITY_NAME") certificates+=("$AUTHORITY_BASE64")
		begins+=("$AUTHORITY_NOT_BEFORE") ends+=("$AUTHORITY_NOT_AFTER")
	done
	local IFS=,
	query_rows "stage=$lock" "enrolment=$enrolment" "policy=$policy" "names=${names[*]}" \
		"certificates=${certificates[*]}" "begins=${begins[*]}" "ends=${ends[*]}" <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
select bool_or(a.fingerprint is null) as missing
	from unnest(string_to_array(:'certificates', ',')) c
	left join fieldgate.authority a on a.fingerprint = sha256(decode(c, 'base64')) \gset
\if :missing
with here as (
	select u.name, decode(u.certificate, 'base64') as certificate, u.begin, u.end
	from unnest(string_to_array(:'names', ','), string_to_array(:'certificates', ','),
		string_to_array(:'begins', ',')::timestamptz[], string_to_array(:'ends', ',')::timestamptz[])
		as u(name, certificate, begin, "end")
), newest as (
	select a.enrolment, a.policy from fieldgate.authority a join here on sha256(here.certificate) = a.fingerprint
	where here.name like 'device-ca-%' order by a.created_at desc, a.not_before desc limit 1
)
insert into fieldgate.authority (fingerprint, name, certificate, not_before, not_after, enrolment, policy)
select sha256(here.certificate), here.name, here.certificate, here.begin, here.end,
	coalesce(nullif(:'enrolment', '')::fieldgate.enrolment, newest.enrolment, 'pending'),
	coalesce(nullif(:'policy', ''), newest.policy, 'device')
	from here left join newest on here.name like 'device-ca-%'
	on conflict (fingerprint) do nothing;
\endif
commit;
SQL
}
