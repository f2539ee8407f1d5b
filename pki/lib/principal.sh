# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Rows of fieldgate.principal.

# The state of a principal to PRINCIPAL_STATE; unknown ones are an error.
require_principal() { # ID
	PRINCIPAL_STATE=$(query_rows "id=$1" <<<"select state from fieldgate.principal where id = :'id';")
	[[ -n $PRINCIPAL_STATE ]] || die "there is no '$1' in the registry at $DB_URL: fleet list shows who is"
}

set_principal_state() { # ID STATE
	query_rows "id=$1" "state=$2" \
		<<<"update fieldgate.principal set state = :'state' where id = :'id';"
}
