#!/usr/bin/env bash
# Everything: format, lints, documentation, then every test: units, properties, the connection table under
# loom, the steering program, AF_XDP, and real traffic in network namespaces, some of it once more with offloaded
# connections. Once built, each of these two may take TESTS_LIMIT_S seconds, twenty minutes unless told, and are ended then.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lab.sh

need_root
scripts/setup.sh || exit
find_cargo
need_rustfmt_and_clippy

TESTS_LIMIT_S=${TESTS_LIMIT_S:-1200}

SUMMARY=()
FAILED=0
# run NAME COMMAND...: runs one step; its line of the summary says how it ended and how long it took.
run() {
    local name=$1 start=$SECONDS status=0 verdict=ok
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || status=$?
    if ((status != 0)); then
        verdict="FAILED (exit status $status)"
        FAILED=1
    fi
    SUMMARY+=("$(printf '%-8s%4d s  %s' "$name" $((SECONDS - start)) "$verdict")")
}

# Ends all that a step has started when its time is over, or when this script is told to end: `timeout` puts it
# into a process group of its own, so that Ctrl-C reaches it by this only. What tests then leave in namespaces,
# the next tests sweep.
bounded() {
    local status=0 pid
    timeout --kill-after=10 "$@" &
    pid=$!
    trap 'kill -TERM "$pid" 2>/dev/null; say "test.sh: interrupted"; exit 130' INT TERM HUP
    wait "$pid" || status=$?
    trap - INT TERM HUP
    if ((status == 124 || status == 137)); then
        say "test.sh: not done within $1 s and ended; the tests named last are what hung, or the machine is slow: raise TESTS_LIMIT_S"
    fi
    return $status
}

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
run format cargo fmt --check
run lints cargo clippy --locked --all-targets -- -D warnings
run docs env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
run build cargo test --locked --no-run
run tests bounded "$TESTS_LIMIT_S" cargo test --locked --no-fail-fast
# Timeouts, counters, drains, reloads of neighbours and services: once more with every connection in the driver that may be.
run offload bounded "$TESTS_LIMIT_S" env XVS_TEST_OFFLOAD=on cargo test --locked --no-fail-fast --test traffic -- \
    drain:: next_hops:: shown:: udp:: switches:: choices:: fullnat::

printf '\n== summary\n'
printf '%s\n' "${SUMMARY[@]}"
if ((FAILED)); then
    say "test.sh: FAILED"
    exit 1
fi
say "test.sh: all passed"
