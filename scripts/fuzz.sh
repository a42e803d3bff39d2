#!/usr/bin/env bash
# Fuzzes every target of tests/fuzz, or those named, for SECONDS each (60 unless told): scripts/fuzz.sh [SECONDS] [TARGET...]
# The target `steering`, which needs root, runs the steering program on changes of what the target `parse` has found and of
# its own tests' frames, against what the director makes of them.
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
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=(parse config engine methods steering)
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
    if [ "$target" = steering ]; then
        seed=${XVS_FUZZ_SEED:-$(date +%s)}
        XVS_FUZZ_SECONDS=$SECONDS_EACH XVS_FUZZ_SEED=$seed cargo test --locked --test steering agreement -- --nocapture ||
            FAILED+=("$target with XVS_FUZZ_SEED=$seed")
        continue
    fi
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
