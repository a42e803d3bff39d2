#!/usr/bin/env bash
# Tests of what the kernel of this machine may lack, under a kernel that has it (scripts/guest.sh): VLANs and bonds.
#
#   scripts/guest-tests.sh [FILTER...]
#
# They are those that `cargo test` calls ignored in tests/traffic; devices:: unless told. An emulated machine takes some
# minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lab.sh
. scripts/lab.sh

need_root
find_cargo
[ $# -gt 0 ] || set -- devices::
BINARY=$(cargo test --locked --test traffic --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/traffic-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$BINARY" ] || fail "the traffic tests were not built"
scripts/guest.sh -t 1800 "$BINARY" --ignored --nocapture --test-threads=1 "$@"
