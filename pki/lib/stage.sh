# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Whatever a command makes, it makes in DIR/stage/<command>.<random>/, on the same file system, and renames
# it to its place when it is whole. A stage that a crash has left is finished or thrown away by the next
# command, by <command>_recover. A file `manifest` in a stage says that it was whole: without it, nobody
# can know of what is in there. One command at a time works in a directory: it holds the lock, and so does
# every program that it has started, so that a psql that outlives a killed fleet is waited for.

STAGE=
# The commands that leave stages.
FLEET_STAGES=(init server add ca crl)

lock_directory() {
	[[ -d $FLEET_DIR ]] || die "there is no $FLEET_DIR: run fleet init first, or say with --dir where it is"
	[[ -w $FLEET_DIR ]] || die "$FLEET_DIR belongs to somebody else: run fleet as its owner"
	exec {FLEET_LOCK}>>"$FLEET_DIR/.lock"
	flock -n "$FLEET_LOCK" && return
	note "waiting for another fleet command that works in $FLEET_DIR"
	flock -w 120 "$FLEET_LOCK" ||
		die "another fleet command has worked in $FLEET_DIR for two minutes: see what it waits for"
}

unlock_directory() {
	exec {FLEET_LOCK}>&-
}

new_stage() { # COMMAND
	mkdir -p -- "$FLEET_DIR/stage"
	STAGE=$(mktemp -d -- "$FLEET_DIR/stage/$1.XXXXXXXXXXXX")
	trap abandon_stage EXIT
}

# On every exit: what is not whole goes at once. What is whole stays for recovery.
abandon_stage() {
	if [[ -n $STAGE && -d $STAGE && ! -e $STAGE/manifest ]]; then
		rm -rf -- "$STAGE"
	fi
}

# From here on the stage counts. Everything in it reaches the disk before the manifest has its name: one
# syncfs(2) of the file system that holds the stage writes all its files, directories and names through, and
# since Linux 5.8 fails when any write to it has failed. It writes what others have written there, too, which
# for a thousand devices takes less time than to sync two thousand files one by one.
complete_stage() { # MANIFEST-LINE...
	printf '%s\n' "$@" >"$STAGE/manifest.new"
	sync -f -- "$STAGE"
	mv -- "$STAGE/manifest.new" "$STAGE/manifest"
	sync -- "$STAGE" "$FLEET_DIR/stage" "$FLEET_DIR"
}

# Give a staged directory its place. What is there already is kept aside, never overwritten.
move_into_place() { # STAGED-DIRECTORY PLACE
	local place=$2 aside
	require_same_filesystem "$1" "$(dirname -- "$place")"
	if [[ -e $place ]]; then
		mkdir -p -- "$FLEET_DIR/old"
		aside=$(mktemp -d -- "$FLEET_DIR/old/${place##*/}@XXXXXX")
		mv -T -- "$place" "$aside"
	fi
	mv -T -- "$1" "$place"
}

# Only there a rename is all or nothing.
require_same_filesystem() { # DIRECTORY DIRECTORY
	[[ $(stat -Lc %d -- "$1" "$2" | sort -u | wc -l) == 1 ]] ||
		die "$2 is on another file system than $1: it must be a plain directory of $FLEET_DIR"
}

# Finish or throw away what crashed runs of these commands have left. The lock must be held.
recover_stages() { # COMMAND...
	local command stage
	for command; do
		for stage in "$FLEET_DIR/stage/$command".*; do
			[[ ! -d $stage ]] || "${command}_recover" "$stage"
		done
	done
}

# For commands that only ask or change the registry: recover, if there is something and nobody is at it. Without a
# registry only what needs none: these commands. A disk that is full must not be in the way of fleet revoke.
recover_if_idle() { # [COMMAND...]
	(($# > 0)) || set -- "${FLEET_STAGES[@]}"
	local stages=("$FLEET_DIR"/stage/*.*) status
	[[ (-d ${stages[0]} || -d $FLEET_DIR/modem) && -w $FLEET_DIR ]] || return 0
	exec {FLEET_LOCK}>>"$FLEET_DIR/.lock"
	if flock -n "$FLEET_LOCK"; then
		# Not in a condition, where `set -e` would be off for all that it calls.
		set +e
		(
			set -e
			recover_stages "$@"
		)
		status=$?
		set -e
		((status == 0)) || warn "what an interrupted command has left in $FLEET_DIR/stage could not be completed"
		modem_tell_unfinished
	fi
	unlock_directory
}
