#!/usr/bin/env bash
# Plays random scenarios against the kernel's IPVS, in a guest (scripts/guest.sh), and against xvs, here: their
# transcripts have to be equal. Exit status 1 if one is not.
#
#   scripts/against-ipvs.sh [-x] [SEED...]
#   scripts/against-ipvs.sh -n COUNT
#
# A SEED is a number and always gives the same scenario (tests/scenario/random); 1 to 5 unless told. -n draws COUNT
# new ones. -x plays only xvs, against what the kernel did when it was played last.
#
# For each seed it says `equal`, or shows the first difference: `-` is the kernel, `+` xvs. What was played stays in
# target/against-ipvs: SEED.txt in scenarios, in ipvs and in xvs. A difference has to be there when xvs plays again
# to count, since a busy machine may miss a moment.
#
# The kernel takes half a minute a seed and wants a core of its own, so this is no part of the tests. A difference that
# is a fault of xvs is mended together with a scenario of its own in tests/scenarios, made from the lines that show it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lab.sh
. scripts/lab.sh

GUEST_SEEDS=10  # in one guest
PLAYS_OF_XVS=2
CONTEXT=12 # lines around a difference

usage() { fail "$1; usage: against-ipvs.sh [-x] [SEED...] or against-ipvs.sh -n COUNT"; }

KERNEL=1
COUNT=
while getopts ':n:x' flag; do
    case $flag in
    n) COUNT=$OPTARG ;;
    x) KERNEL=0 ;;
    *) usage "\`-$OPTARG\` is not an option, or lacks its number" ;;
    esac
done
shift $((OPTIND - 1))
SEEDS=("$@")
for seed in "${SEEDS[@]}"; do
    # With as many digits, it is in the range of 64 bits.
    [[ $seed =~ ^(0|[1-9][0-9]{0,17})$ ]] || usage "\`$seed\` is not a seed, a number of up to 18 digits"
done
if [ -n "$COUNT" ]; then
    [[ $COUNT =~ ^[1-9][0-9]{0,2}$ ]] || usage "-n takes a number of 1 to 999, not \`$COUNT\`"
    ((KERNEL == 1 && ${#SEEDS[@]} == 0)) || usage "-n draws new seeds, which -x and a SEED contradict"
    mapfile -t SEEDS < <(shuf -i 1000-999999999 -n "$COUNT")
fi
[ ${#SEEDS[@]} -gt 0 ] || SEEDS=(1 2 3 4 5)

need_root
find_cargo
if ! command -v ipvsadm >/dev/null || ! command -v nft >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ipvsadm nftables >/dev/null
fi
cargo build --locked --bin xvs --example scenario
TARGET=${CARGO_TARGET_DIR:-target}
PLAYER=$TARGET/debug/examples/scenario
OUT=$TARGET/against-ipvs
mkdir -p "$OUT"/{scenarios,ipvs,xvs}

if ((!KERNEL)); then
    for seed in "${SEEDS[@]}"; do
        cmp -s "$OUT/scenarios/$seed.txt" <("$PLAYER" --random "$seed" 2>/dev/null | tail -n +2) ||
            fail "the kernel has not played seed $seed as it is now: leave out -x"
        [ -e "$OUT/ipvs/$seed.txt" ] || fail "the kernel has not played seed $seed: leave out -x"
    done
fi

# With a clock that does not run on while this machine is busy: entries would expire before they are looked at.
play_ipvs() {
    local limit=$((180 + 120 * $#))
    (cd "$OUT/ipvs" && rm -f "${@/%/.txt}")
    "$PLAYER" --write "$OUT/scenarios" --random "$@" 2>/dev/null
    scripts/guest.sh -i -t "$limit" -o "$OUT/ipvs" "$PLAYER" --director ipvs --write /out --random "$@"
}

play_xvs() { "$PLAYER" --director xvs --xvs "$TARGET/debug/xvs" --write "$OUT/xvs" --random "$1" 2>"$OUT/xvs/$1.log"; }

# The first difference alone, if there is one.
first_difference() {
    diff --unified="$CONTEXT" "$OUT/ipvs/$1.txt" "$OUT/xvs/$1.txt" | awk '/^@@/ && ++part == 2 { exit } part && !/^@@/'
}

DIFFERENT=()
judge() {
    local seed=$1 play difference
    for ((play = 1; play <= PLAYS_OF_XVS; play++)); do
        play_xvs "$seed" || fail "seed $seed cannot be played against xvs, see $OUT/xvs/$seed.log"
        [ -s "$OUT/ipvs/$seed.txt" ] || fail "the kernel has not played seed $seed: run it without -x"
        difference=$(first_difference "$seed" || true)
        if [ -z "$difference" ]; then
            say "seed $seed: equal$( ((play == 1)) || say " at the second play")"
            return
        fi
    done
    DIFFERENT+=("$seed")
    say "seed $seed: the kernel (-) and xvs (+) differ, first here:"
    say "$difference"
    say "seed $seed: play it again with \`scripts/against-ipvs.sh $seed\`, or xvs alone with \`scripts/against-ipvs.sh -x $seed\`"
}

for ((first = 0; first < ${#SEEDS[@]}; first += GUEST_SEEDS)); do
    batch=("${SEEDS[@]:first:GUEST_SEEDS}")
    if ((KERNEL)); then
        play_ipvs "${batch[@]}" || fail "the guest did not play seeds ${batch[*]}, see above"
    fi
    for seed in "${batch[@]}"; do judge "$seed"; done
done

say "against-ipvs.sh: ${#SEEDS[@]} seeds played, ${#DIFFERENT[@]} of them differ; all files are in $OUT"
[ ${#DIFFERENT[@]} -eq 0 ] || fail "xvs is not the kernel with seeds ${DIFFERENT[*]}"
