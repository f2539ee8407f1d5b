# SPDX-License-Identifier: Apache-2.0
"""Programs in front of those that pki/fleet starts, which kill it, or fail, at a chosen call."""

import os
import shutil
import subprocess

from .pki import BUILT

# Counts the calls of all programs. At the SHIM_AT-th: kill everybody (kill), kill fleet and go on
# (orphan), fail (fail), succeed and pretend to have failed (lie). SHIM_FROM: fail from there on.
SHIM = """#!/bin/bash
name=${0##*/}
real=%(real)s/$name
[[ -z ${SHIM_ONLY:-} || $name == "$SHIM_ONLY" ]] || exec "$real" "$@"
printf x >>"$SHIM_COUNT"
number=$(stat -c %%s "$SHIM_COUNT")
if ((number >= ${SHIM_FROM:-1000000})); then echo 'psql: error: shim' >&2; exit 2; fi
if ((number == ${SHIM_AT:-0})); then
	case $SHIM_DO in
	kill) kill -9 0 ;;
	orphan) read -r _ _ _ _ _ session _ <"/proc/$$/stat"; kill -9 "$session" ;;
	fail) echo 'psql: error: shim' >&2; exit 2 ;;
	lie) "$real" "$@"; echo 'psql: error: shim' >&2; exit 2 ;;
	esac
fi
exec "$real" "$@"
"""


class Shims:
    """The programs are names: of what is built here, or of what is on the PATH."""

    def __init__(self, directory, programs):
        self.directory = directory
        self.count = directory / "count"
        (directory / "bin").mkdir()
        for program in programs:
            shim = directory / "bin" / program
            real = BUILT.get(program) or shutil.which(program)
            shim.write_text(SHIM % {"real": os.path.dirname(real)})
            shim.chmod(0o755)

    def run(self, fleet, *arguments, pipes=True, **settings):
        """Run fleet under the shims; how often it called one of the programs is in `calls`."""
        self.count.write_text("")
        environment = {"PATH": f"{self.directory}/bin:{os.environ['PATH']}", "SHIM_COUNT": str(self.count)}
        for name in BUILT:
            if (self.directory / "bin" / name).exists():
                environment[name.upper().replace("-", "_")] = str(self.directory / "bin" / name)
        environment |= {f"SHIM_{name.upper()}": str(value) for name, value in settings.items()}
        # A session of its own, whose id is fleet's process id.
        options = {"check": False, "env": environment, "start_new_session": True}
        if not pipes:
            options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        result = fleet.run(*arguments, **options)
        self.calls = self.count.stat().st_size
        return result
