#!/usr/bin/env bash
# Records tests/transcripts: plays the scenarios in a guest (scripts/guest.sh) against its kernel's IPVS.
#
#   scripts/record-transcripts.sh [--check] [SCENARIO...]
#
# A SCENARIO is a file of tests/scenarios; all of them unless told. With --check nothing is written: it shows
# where the kernel differs from what is recorded, and then fails.
#
# Some counts depend on timing; when only they differ, play the scenario again before believing it: packets of TCP
# (acknowledgements may travel alone), and connections just before `ipvsadm -Z`, which takes away only what the
# kernel's estimator has seen on its round every 2 s.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

CHECK=0
if [ "${1:-}" = --check ]; then
    CHECK=1
    shift
fi
SCENARIOS=("$@")
[ ${#SCENARIOS[@]} -gt 0 ] || SCENARIOS=(tests/scenarios/*.txt)
for scenario in "${SCENARIOS[@]}"; do
    case $scenario in
    tests/scenarios/*.txt) [ -f "$scenario" ] && continue ;;
    esac
    fail "\`$scenario\` is not a file of tests/scenarios; usage: record-transcripts.sh [--check] [SCENARIO...]"
done

need_root
scripts/setup.sh
find_cargo
if ! command -v ipvsadm >/dev/null || ! command -v nft >/dev/null; then # nft gives marks
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ipvsadm nftables >/dev/null
fi
cargo build --locked --example scenario

OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
# With a clock that does not run on while this machine is busy: entries would expire before they are looked at.
scripts/guest.sh -i -t $((120 + 60 * ${#SCENARIOS[@]})) -o "$OUT" \
    "${CARGO_TARGET_DIR:-target}/debug/examples/scenario" --director ipvs --write /out "${SCENARIOS[@]}"

if ((CHECK)); then
    differ=0
    for scenario in "${SCENARIOS[@]}"; do
        diff -u "tests/transcripts/${scenario##*/}" "$OUT/${scenario##*/}" || differ=1
    done
    ((differ == 0)) || fail "the kernel did not do what is recorded, see above"
    say "record-transcripts.sh: the kernel did what is recorded"
else
    cp "$OUT"/*.txt tests/transcripts/
    say "record-transcripts.sh: recorded; \`git diff tests/transcripts\` shows what has changed"
fi
