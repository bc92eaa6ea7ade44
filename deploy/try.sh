#!/bin/sh
# Try p2psync from a bare checkout: makes an environment of its own in .venv beside this checkout's files, installs
# p2psync into it, and runs the demonstration. Needs git, sh and Python 3.11 or later with venv. A second run reuses
# the environment. Arguments go to `p2psync demo`.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
environment=${P2PSYNC_VENV:-$here/.venv}

fail() {
    printf 'try.sh: %s\n' "$1" >&2
    exit 1
}

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 && fits "$name"; then
            command -v "$name"
            return
        fi
    done
    found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none)
    fail "p2psync needs Python 3.11 or later; found: $found. Install one, or name it: PYTHON=/path/to/python3 $0"
}

if [ ! -x "$environment/bin/python" ]; then
    python=$(find_python) || exit 1
    printf 'Making an environment in %s\n' "$environment"
    "$python" -m venv "$environment" 2>/dev/null ||
        fail "$python cannot make an environment; on Debian or Ubuntu: apt install python3-venv"
fi
fits "$environment/bin/python" || fail "$environment holds an older Python; remove it and run this again"

# Installed anew when the checkout's dependencies changed since the last run.
stamp=$environment/.p2psync-installed
if [ ! -x "$environment/bin/p2psync" ] || [ ! -e "$stamp" ] || [ "$here/pyproject.toml" -nt "$stamp" ]; then
    printf 'Installing p2psync and what it needs (once)\n'
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$here" ||
        fail "the installation failed; the lines above say why (is the network reachable?)"
    touch "$stamp"
fi

exec "$environment/bin/p2psync" demo "$@"
