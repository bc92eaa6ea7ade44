#!/bin/sh
# Every check of this project, in order, stopping at the first that fails.
#
#     sh deploy/test.sh          everything (about ten minutes on two cores)
#     sh deploy/test.sh fast     lint, types, import contracts and the fast tests
#
# Needs python3 (3.11 or newer, with venv) and git. Makes its own environment in .venv and keeps it while
# pyproject.toml stays the same. PYTHON=... chooses another interpreter. With CI=true a skipped test fails the run
# unless this machine cannot run it (tests/conftest.py holds that list).
set -eu

usage() {
    echo "usage: sh deploy/test.sh [fast]" >&2
    exit 2
}

stop() {
    echo "test.sh: $*" >&2
    exit 1
}

[ $# -le 1 ] || usage
scope=${1:-all}
case $scope in all | fast) ;; *) usage ;; esac

cd -- "$(dirname -- "$0")/.."
root=$(pwd -P)
venv=$root/.venv
stamp=$venv/.p2psync-test-installed
summary=$(mktemp)
skips=$(mktemp)
trap 'rm -f "$summary" "$skips"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
        found="$candidate is $("$candidate" -c 'import platform; print(platform.python_version())' || echo too old)"
    done
    stop "Python 3.11 or newer is needed (${found:-no python3 was found}); install it, or name it with PYTHON=/path/to/python3"
}

prepare_environment() {
    if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "the environment in .venv does not run any more (or is of an older Python); making it anew"
        rm -rf "$venv"
    fi
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python)
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            stop "$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
        echo "making an environment in .venv"
        "$python" -m venv "$venv" || stop "$python could not make an environment in $venv"
    fi
    if [ -f "$stamp" ] && cmp -s "$stamp" pyproject.toml && installed_from_here; then
        return
    fi
    echo "installing p2psync and what its tests need (once, until pyproject.toml changes)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]' ||
        stop "pip could not install the project; its message stands above (a package index must be reachable)"
    cp pyproject.toml "$stamp"
}

# Another script may have put a copy instead of a link into the same environment.
installed_from_here() {
    where=$(cd / && "$venv/bin/python" -c 'import p2psync; print(p2psync.__file__)' 2>/dev/null) &&
        [ "$where" = "$root/p2psync/__init__.py" ]
}

# Programs from outside Python that some tests run: program, Debian package, and which tests skip without it.
programs="systemd-analyze:systemd:that verify the service units in deploy/
nginx:nginx-light:of a relay behind nginx
ip:iproute2:of direct links through NATs
nft:nftables:of direct links through NATs
miniupnpd:miniupnpd:of ports asked for at a router
faketime:faketime:of wrong clocks"

prepare_machine() {
    PATH=$PATH:/usr/sbin:/sbin
    missing=
    for line in $(echo "$programs" | cut -d: -f1,2); do
        command -v "${line%%:*}" >/dev/null 2>&1 || missing="$missing ${line#*:}"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages:$missing"
        apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $missing >/dev/null || true
    fi
    echo "$programs" | while IFS=: read -r program package tests; do
        command -v "$program" >/dev/null 2>&1 || {
            echo "*** $program ($package) is missing and cannot be installed here: ***"
            echo "*** the tests $tests will be SKIPPED ***"
        }
    done
}

seconds_since() {
    echo $(($(date +%s) - $1))
}

# step NAME COMMAND...: heading, run, time; the first failure ends the script. Exit code 5 of pytest is "no such tests".
step() {
    name=$1
    shift
    printf '\n=== %s ===\n' "$name"
    begun=$(date +%s)
    code=0
    "$@" || code=$?
    took=$(seconds_since "$begun")
    if [ "$code" = 5 ] && [ "$name" = "huge tests" ]; then
        code=0
        echo "there are none"
    fi
    if [ "$code" != 0 ]; then
        print_skips
        printf '\nFAILED: %s, after %s s (exit code %s)\n' "$name" "$took" "$code" >&2
        exit 1
    fi
    printf '%6s s  %s\n' "$took" "$name" >>"$summary"
}

print_skips() {
    [ -s "$skips" ] || return 0
    printf '\n********** SKIPPED TESTS **********\n'
    sort "$skips"
    printf '***********************************\n'
}

started=$(date +%s)
prepare_environment
prepare_machine
bin=$venv/bin
SKIPPED_TESTS_FILE=$skips
export SKIPPED_TESTS_FILE

step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy"
step "import contracts" "$bin/lint-imports"
step "fast tests" "$bin/python" -m pytest -q -n 2 -m "not slow and not huge"
if [ "$scope" = all ]; then
    step "slow tests" "$bin/python" -m pytest -q -n 2 -m "slow and not huge"
    step "huge tests" "$bin/python" -m pytest -q -m huge
fi

print_skips
printf '\nall passed:\n'
cat "$summary"
printf '%6s s  in all\n' "$(seconds_since "$started")"
