# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Files of comma-separated values (RFC 4180), read and written.

CSV_FIELDS=() CSV_LINES_READ=0
export CSV_LINE=0 CSV_FAULT=''

# Begin with a file, on the descriptor CSV_FILE. A byte order mark in front of it is no part of it.
csv_open() { # FILE
	exec {CSV_FILE}<"$1"
	CSV_LINE=0 CSV_LINES_READ=0
}

# The fields of the next record to CSV_FIELDS, the number of its first line to CSV_LINE. What is wrong with it
# goes to CSV_FAULT. Empty lines are no records. False at the end.
csv_next() {
	local line
	CSV_FIELDS=() CSV_FAULT=''
	while csv_line; do
		CSV_LINE=$CSV_LINES_READ
		[[ -n ${line%$'\r'} ]] || continue
		if [[ $line == *\"* ]]; then
			csv_split_quoted
		else
			line=${line%$'\r'}
			# What stands behind the last comma would be lost if it were empty.
			IFS=, read -r -a CSV_FIELDS <<<"$line,."
			unset 'CSV_FIELDS[-1]'
		fi
		return 0
	done
	exec {CSV_FILE}<&-
	return 1
}

# The caller's variable line gets the next one.
csv_line() {
	IFS= read -r -u "$CSV_FILE" line || [[ -n $line ]] || return 1
	CSV_LINES_READ=$((CSV_LINES_READ + 1))
	((CSV_LINES_READ > 1)) || line=${line#$'\xef\xbb\xbf'}
}

# The caller's line, and as many behind it as its quoted fields have.
csv_split_quoted() {
	local rest=$line field
	while :; do
		field=''
		if [[ $rest == \"* ]]; then
			rest=${rest:1}
			csv_quoted_field || return 0
			if [[ -n ${rest%$'\r'} && $rest != ,* ]]; then
				CSV_FAULT="something stands behind the \" that ends a field"
				return
			fi
		else
			field=${rest%%,*}
			rest=${rest:${#field}}
			[[ -n $rest ]] || field=${field%$'\r'}
			if [[ $field == *\"* ]]; then
				CSV_FAULT="a \" stands in a field that does not begin with one"
				return
			fi
		fi
		CSV_FIELDS+=("$field")
		[[ $rest == ,* ]] || return 0
		rest=${rest:1}
	done
}

# Up to the " that ends the field, from the caller's rest to its field: "" stands for ".
csv_quoted_field() {
	local line
	while :; do
		while [[ $rest != *\"* ]]; do
			if ! csv_line; then
				CSV_FAULT='the " that ends a field is missing'
				return 1
			fi
			rest+=$'\n'$line
		done
		field+=${rest%%\"*}
		rest=${rest#*\"}
		[[ $rest == \"* ]] || return 0
		field+=\" rest=${rest:1}
	done
}

# A record of these fields, to stdout.
csv_write() { # FIELD...
	local field separator=''
	for field; do
		[[ $field != *[\",$'\r\n']* ]] || field=\"${field//\"/\"\"}\"
		printf '%s%s' "$separator" "$field"
		separator=,
	done
	printf '\n'
}
