#!/usr/bin/env bash
# Installs on Debian 12 what building xvs and running its demo and tests needs, and only what is missing.
# Rust itself is expected to be there. Safe to run again; takes no time when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

# package | a command or file that shows it is there | what it is for
NEEDS='
gcc            | gcc                         | compiles libbpf and libxdp, links xvs
libc6-dev      | /usr/include/stdio.h        | C headers for that
linux-libc-dev | /usr/include/linux/if_xdp.h | kernel headers: AF_XDP, BPF
make           | make                        | builds libbpf
pkg-config     | pkg-config                  | finds zlib and libelf
zlib1g-dev     | /usr/include/zlib.h         | needed by libbpf
libelf-dev     | /usr/include/libelf.h       | needed by libbpf
m4             | m4                          | libxdp generates a program with it
clang          | clang                       | compiles the steering program; its libclang makes the bindings
iproute2       | ip                          | namespaces and veth pairs of demo and tests
ethtool        | ethtool                     | their offloads
iputils-ping   | ping                        | a test: the kernel still answers ping to the VIP
procps         | sysctl                      | a cure that xvs doctor names and the tests run
util-linux     | setpriv                     | tests: xvs without some privileges; taskset, prlimit
python3        | python3                     | tests and tables of the benches
curl           | curl                        | the client of the demo
nginx-light    | nginx                       | the real servers of the demo
'

missing() {
    local package shown_by reason
    while IFS='|' read -r package shown_by reason; do
        package=${package// /} shown_by=${shown_by// /}
        [ -n "$package" ] || continue
        case $shown_by in
        /*) [ -e "$shown_by" ] && continue ;;
        *) command -v "$shown_by" >/dev/null && continue ;;
        esac
        printf '%-15s%s\n' "$package" "${reason# }"
    done <<<"$NEEDS"
}

need_root
services_as_before
list=$(missing)
if [ -z "$list" ]; then
    say "setup: everything needed is installed"
else
    say "setup: installing what is missing:"
    say "$list"
    command -v apt-get >/dev/null || fail "this is not Debian: install the above with the means of your system"
    mapfile -t packages < <(cut -d' ' -f1 <<<"$list")
    keep_services_down
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    if grep -q '^nginx-light ' <<<"$list"; then not_at_boot nginx; fi
    services_as_before
    trap - EXIT
    list=$(missing)
    [ -z "$list" ] || fail "still missing after the installation:"$'\n'"$list"
    say "setup: done"
fi
find_cargo
