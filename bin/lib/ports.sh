# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Who listens on a TCP port, from /proc: no privilege and no package is needed, though the name of another
# user's process stays hidden to all but root.

# Inodes of the sockets that listen on PORT.
port_listeners() { # PORT
	local hex file
	printf -v hex '%04X' "$1"
	for file in /proc/net/tcp /proc/net/tcp6; do
		[[ ! -r $file ]] || awk -v port=":$hex" \
			'$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' "$file"
	done
}

# A sentence's end: "`mosquitto -c x` (pid 12)", or how to find out.
port_holder() { # PORT
	local inode fd pid command
	for inode in $(port_listeners "$1"); do
		fd=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null || true)
		[[ -n $fd ]] || continue
		pid=${fd#/proc/}
		pid=${pid%%/*}
		command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)
		printf '%s (pid %s)' "${command% }" "$pid"
		return
	done
	printf "a process of another user; as root, \`ss -ltnp 'sport = :%s'\` names it" "$1"
}

port_is_free() { # PORT
	[[ -z $(port_listeners "$1") ]]
}
