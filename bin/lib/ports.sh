# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Who has a TCP or UDP port, from /proc: no privilege and no package is needed, though the name of another
# user's process stays hidden to all but root.

# Inodes of the sockets that listen on PORT; of UDP, that are bound to it.
port_listeners() { # PORT [tcp|udp]
	local hex file state=0A
	[[ ${2:-tcp} == tcp ]] || state=07
	printf -v hex '%04X' "$1"
	for file in "/proc/net/${2:-tcp}" "/proc/net/${2:-tcp}6"; do
		[[ ! -r $file ]] || awk -v port=":$hex" -v state="$state" \
			'$4 == state && substr($2, length($2) - 4) == port { print $10 }' "$file"
	done
}

# A sentence's end: "`mosquitto -c x` (pid 12)", or how to find out.
port_holder() { # PORT [tcp|udp]
	local inode fd pid command
	for inode in $(port_listeners "$@"); do
		fd=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null || true)
		[[ -n $fd ]] || continue
		pid=${fd#/proc/}
		pid=${pid%%/*}
		command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)
		printf '%s (pid %s)' "${command% }" "$pid"
		return
	done
	printf "a process of another user; as root, \`ss -%snp 'sport = :%s'\` names it" \
		"$([[ ${2:-tcp} == tcp ]] && echo lt || echo ua)" "$1"
}

port_is_free() { # PORT [tcp|udp]
	[[ -z $(port_listeners "$@") ]]
}
