# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca add: accept devices whose certificates somebody else signs. In other-ca/NAME/cert.pem are his CA's
# certificate, first, and those above it: Mosquitto builds chains up to a root and takes none that ends before.

ca_add() {
	local file='' name='' enrolment=pending policy=device
	while (($# > 0)); do
		case $1 in
		--name)
			need_value "$@"
			name=$2
			shift
			;;
		--enrol)
			need_value "$@"
			check_enrolment "$2"
			enrolment=$2
			shift
			;;
		--policy)
			need_value "$@"
			check_policy_name "$2"
			policy=$2
			shift
			;;
		-*) usage_error "ca add knows no option '$1'" ;;
		*)
			[[ -z $file ]] || usage_error "ca add needs one FILE"
			file=$1
			;;
		esac
		shift
	done
	[[ -n $file ]] || usage_error "ca add needs a FILE with the certificate of a CA"
	[[ -z $name || $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,63}$ ]] ||
		usage_error "'${name//[^[:print:]]/?}' cannot be the name of a CA:" \
			"1 to 64 letters, digits and _ . : @ - are, and no . : @ - in front"
	[[ ! $name =~ ^(root|device-ca|server-ca)(-|$) ]] || usage_error "'$name' would be a CA of this directory"

	[[ -r $file ]] || die "there is no $file"
	require_database
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	[[ -e $FLEET_DIR/root/cert.pem ]] ||
		die "there is no $FLEET_DIR/root: run fleet init first, or say with --dir where it is"
	new_stage ca
	ca_add_read "$file"
	ca_add_check "$file"
	ca_add_all "$file" "${name:-other-ca-${CERT_FINGERPRINT:0:8}}" "$enrolment" "$policy"
}

# The certificates of the file, without what is between them, to STAGE/cert.pem.
ca_add_read() { # FILE
	[[ $(<"$1") != *'PRIVATE KEY-----'* ]] ||
		die "$1 holds a private key: only the certificate of the CA is needed, and the key is not to be here"
	sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p' -- "$1" >"$STAGE/cert.pem"
	[[ -s $STAGE/cert.pem ]] || die "$1 holds no certificate in PEM: convert it, openssl x509 -inform DER"
	read_certificate "$STAGE/cert.pem"
}

# What a verifier will ask of the CA, with its own words for what it misses.
ca_add_check() { # FILE
	local text now from
	text=$(openssl x509 -in "$STAGE/cert.pem" -noout -text 2>/dev/null)
	[[ $text == *CA:TRUE* ]] || die "$1: the first certificate is not that of a CA (basicConstraints CA:TRUE)"
	[[ $text == *'Certificate Sign'* ]] ||
		die "$1: the first certificate must not sign certificates (no keyCertSign in its key usage)"
	[[ $text == *'ASN1 OID: prime256v1'* ]] || die "$1: the key of the CA is not P-256 (prime256v1)"
	now=$(date +%s) from=$(openssl x509 -in "$STAGE/cert.pem" -noout -startdate)
	from=$(date -d "${from#notBefore=}" +%s)
	((from <= now)) || die "$1: the CA is not valid before $CERT_NOT_BEFORE"
	openssl x509 -in "$STAGE/cert.pem" -noout -checkend 0 >/dev/null || die "$1: the CA has expired on $CERT_NOT_AFTER"
	text=$(openssl verify -no_check_time -trusted "$STAGE/cert.pem" -- "$STAGE/cert.pem" 2>&1) ||
		die "$1: the chain of the CA does not end in a root: put the certificates above it behind it, up to one" \
			"that is signed by itself. Verification says: $(sed -n 's/^error .*lookup: //p' <<<"$text" | head -n 1)"
	# openssl verify does not look at the signature of a root.
	openssl verify -no_check_time -check_ss_sig -trusted "$STAGE/cert.pem" -- "$STAGE/cert.pem" >/dev/null 2>&1 ||
		die "$1: the signature of its root is bad"
}

ca_add_all() { # FILE NAME ENROLMENT POLICY
	local name=$2 database answer errors
	answer=$(query_rows "fingerprint=$CERT_FINGERPRINT" "name=$name" "policy=$4" <<'SQL'
select 'known', name from fieldgate.authority where fingerprint = decode(:'fingerprint', 'hex');
select 'taken', name from fieldgate.authority
	where name = :'name' and fingerprint <> decode(:'fingerprint', 'hex');
select 'no policy', :'policy' where not exists (select from fieldgate.policy where name = :'policy');
SQL
	)
	case $answer in
	known\|*)
		say "exists: ${answer#known|}, valid until $CERT_NOT_AFTER. fleet ca enrol changes what becomes of its devices"
		return
		;;
	taken\|*) die "another CA has the name $name: give this one another with --name" ;;
	no\ policy*) die "there is no policy '$4' in the registry: insert it into fieldgate.policy," \
		"its rules into fieldgate.policy_rule" ;;
	esac
	[[ ! -e $FLEET_DIR/other-ca/$name ]] ||
		die "$FLEET_DIR/other-ca/$name is there, of another registry: give this CA another name with --name"
	database=$(ca_database)
	mkdir -p -- "$STAGE/other-ca/$name"
	mv -- "$STAGE/cert.pem" "$STAGE/other-ca/$name/cert.pem"
	complete_stage "$database" "$CERT_FINGERPRINT" "add other-ca/$name"
	errors=$(insert_authorities "${STAGE##*/}" "$3" "$4" "${STAGE#"$FLEET_DIR/"}/other-ca/$name" 2>&1) || true
	ca_finish "${errors#fleet: error: }"
	say "added $name: $FLEET_DIR/other-ca/$name/cert.pem, valid until $CERT_NOT_AFTER. Its unregistered devices: $3"
	ca_advise_servers
}
