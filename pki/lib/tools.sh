# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Programs that fleet starts.

require_openssl() {
	command -v openssl >/dev/null || die "openssl is not installed: apt install openssl"
	[[ $(openssl version) == "OpenSSL "[3-9]* ]] ||
		die "openssl 3 or later is needed, this is: $(openssl version)"
}

# The path of a program of ours to stdout: what the environment says (FIELDGATE_CERT for fieldgate-cert), what
# was built here, or what is installed.
find_tool() { # PROGRAM DIRECTORY-OF-BUILD WHAT-IT-DOES
	local variable=${1^^} file
	variable=${variable//-/_}
	for file in "${!variable:-}" "$FLEET_HOME/../build/release/$2/$1" "$(command -v "$1" || true)"; do
		[[ -n $file && -x $file ]] || continue
		printf '%s' "$file"
		return
	done
	die "$1 is not there, which $3: build it with make, or say with $variable where it is"
}
