#!/usr/bin/env bash
# Fuzzes every target of tests/fuzz, or those named, for SECONDS each (60 unless told): scripts/fuzz.sh [SECONDS] [TARGET...]
#
# What it learns stays in tests/fuzz/corpus, what breaks a target in tests/fuzz/artifacts. Put the latter, made
# small by `cargo fuzz tmin --fuzz-dir tests/fuzz -s none TARGET FILE`, beside the seeds: `cargo test` tries every
# seed from then on. Stable Rust will do: without a sanitizer, which needs a nightly one and finds what safe code
# cannot do.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

SECONDS_EACH=${1:-60}
[[ $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || fail "\`$SECONDS_EACH\` is no number of seconds: use scripts/fuzz.sh [SECONDS] [TARGET...]"
TARGETS=("${@:2}")
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=(parse config engine methods)
INPUT_TIMEOUT_S=10 # far beyond any input that is merely slow

find_cargo
command -v c++ >/dev/null || fail "the fuzzer is compiled with c++, which is missing: apt-get install g++"
PATH="$PATH:$HOME/.cargo/bin"
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "fuzz: installing cargo-fuzz"
    cargo install --locked cargo-fuzz@0.13.2
fi

FAILED=()
for target in "${TARGETS[@]}"; do
    say "== $target, $SECONDS_EACH s"
    corpus=tests/fuzz/corpus/$target
    mkdir -p "$corpus"
    inputs=("$corpus" "tests/fuzz/seeds/$target")
    options=(-max_total_time="$SECONDS_EACH" -timeout="$INPUT_TIMEOUT_S" -print_final_stats=1 -verbosity=0 -print_funcs=0)
    if [ "$target" = config ]; then
        inputs+=(config)
        options+=(-dict=tests/fuzz/config.dict)
    fi
    cargo fuzz run --fuzz-dir tests/fuzz -s none "$target" "${inputs[@]}" -- "${options[@]}" || FAILED+=("$target")
done
[ ${#FAILED[@]} -eq 0 ] || fail "broken: ${FAILED[*]} (see above and tests/fuzz/artifacts)"
say "fuzz.sh: nothing found"
