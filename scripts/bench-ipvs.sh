#!/usr/bin/env bash
# Kernel IPVS and xvs under one kernel: the same namespaces, the same packets of pktgen, one after the other.
#
#   scripts/bench-ipvs.sh [--full] [--rounds N] [--help]
#
# The kernel of a machine may lack IPVS or pktgen, so both run under Debian's stock kernel in an emulated machine
# (scripts/guest.sh), where only ratios mean anything. They are told as a median of the rounds with their spread; the raw
# figures stay in benches/results. benches/README.md says how to read them. Everything that is made is made in the
# emulated machine and goes with it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

need() {
    command -v "$1" >/dev/null && return
    say "installing $2"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

case " $* " in
*" --help "* | *" -h "* | *" --report"*) ;;
*)
    need_root
    need python3 python3
    need ipvsadm ipvsadm
    need ethtool ethtool
    find_cargo
    say "building"
    cargo build --release --locked --quiet --bins --example flood --example bare_forwarder
    clang -O2 -g -target bpf -mcpu=v3 "-I/usr/include/$(uname -m)-linux-gnu" \
        -c benches/redirect_all.bpf.c -o target/release/sink.o
    ;;
esac
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=benches
exec python3 -m compare.ipvs "$@"
