# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The CAs of the directory, and the rows of fieldgate.authority for those that sign devices. The servers need the
# rows to know who signed a certificate; what is in the registry already stays as the operator has set it.

export AUTHORITY_NAME='' AUTHORITY_FINGERPRINT='' AUTHORITY_SERIAL='' AUTHORITY_NOT_BEFORE='' AUTHORITY_NOT_AFTER=''
export AUTHORITY_BASE64='' AUTHORITIES_REGISTERED=''

# The directories, below --dir, of the CAs of these kinds that are in force: the one that signs now, then its former
# generations. One that was retired has a file `retired`.
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

# The first certificate of a CA's directory below --dir to AUTHORITY_*: the name, which is that of its kind and the
# end of its serial number (those of others have the name of their directory); serial and SHA-256 fingerprint in
# hexadecimal; dates in ISO 8601; the DER in base64.
read_authority() { # DIRECTORY
	local file=$FLEET_DIR/$1/cert.pem kind=${1##*/} description line
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
	AUTHORITY_NAME=$kind
	[[ $1 == */* ]] || AUTHORITY_NAME=$kind-${AUTHORITY_SERIAL: -8}
}

# Rows for the device CAs of the directory that have none. A new generation enrols as the newest of this
# directory's that is registered does. An unchanged registry keeps its version: its readers are not woken. The
# names of the new rows to AUTHORITIES_REGISTERED, a line each.
register_authorities() {
	AUTHORITIES_REGISTERED=
	local directory registered
	local names=() certificates=() begins=() ends=()
	while IFS= read -r directory; do
		read_authority "$directory"
		names+=("$AUTHORITY_NAME") certificates+=("$AUTHORITY_BASE64")
		begins+=("$AUTHORITY_NOT_BEFORE") ends+=("$AUTHORITY_NOT_AFTER")
	done < <(device_authorities)
	((${#names[@]} > 0)) || return 0
	local IFS=,
	registered=$(query_rows "names=${names[*]}" "certificates=${certificates[*]}" "begins=${begins[*]}" \
		"ends=${ends[*]}" <<'SQL'
begin;
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
	coalesce(newest.enrolment, 'pending'), coalesce(newest.policy, 'device')
	from here left join newest on here.name like 'device-ca-%'
	on conflict (fingerprint) do nothing
	returning name;
\endif
commit;
SQL
	)
	AUTHORITIES_REGISTERED=$registered
}
