#!/usr/bin/env bash
# Everything: format, lints, documentation, then every test: units, properties, the connection table under
# loom, the steering program, AF_XDP, and real traffic in network namespaces. Bounded by ten minutes on two cores.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lab.sh

need_root
scripts/setup.sh || exit
find_cargo

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

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
run format cargo fmt --check
run lints cargo clippy --locked --all-targets -- -D warnings
run docs env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
run tests cargo test --locked --no-fail-fast

printf '\n== summary\n'
printf '%s\n' "${SUMMARY[@]}"
if ((FAILED)); then
    say "test.sh: FAILED"
    exit 1
fi
say "test.sh: all passed"
