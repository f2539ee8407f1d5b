# SPDX-License-Identifier: Apache-2.0
# Prints the help text that stands in the Makefile: lines that begin with `#:`, and each target with the
# comment behind `##`.
/^#:/ {
	sub(/^#: ?/, "")
	print
}
/^[a-z-]+:.*## / {
	target = $0
	sub(/:.*/, "", target)
	sub(/^.*## /, "")
	printf "  %-20s %s\n", target, $0
}
