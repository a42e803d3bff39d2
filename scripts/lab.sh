#!/usr/bin/env bash
# What the scripts share: talking, finding cargo, and a lab of network namespaces. Sourced, not run.
#
# A lab touches nothing but what it made itself. Every namespace is called LAB_ID-WHO, where LAB_ID ends
# in this shell's pid, and every interface is created inside a namespace. Each namespace and directory is
# written down in $LAB_RECORDS/LAB_ID before it is made, so that a lab whose shell was killed outright is
# taken down by the next one from that record, and by nothing else.

LAB_RECORDS=/run/xvs-lab
LAB_ID=
LAB_QUEUES=2

# ethtool, nginx and sysctl live there; a plain `su` leaves it out.
export PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "needs root (network namespaces, XDP): run it as root, e.g. \`sudo $0\`"
}

# Finds the Rust toolchain, also when sudo has hidden the one of the user who called it.
find_cargo() {
    local home
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
        command -v cargo >/dev/null && break
        if [ -x "$home/.cargo/bin/cargo" ]; then
            export PATH="$home/.cargo/bin:$PATH" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
        fi
    done
    command -v cargo >/dev/null ||
        fail "cargo is missing: install Rust 1.95 or newer (https://rustup.rs), then run this again"
}

# Format and lints need more of it than building does.
need_rustfmt_and_clippy() {
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        fail "rustfmt or clippy is missing: run \`rustup component add rustfmt clippy\`, then run this again"
    fi
}

# ---------------------------------------------------------------- installing

# Debian starts a service as soon as it is installed; what the scripts install belongs into their namespaces only.
# invoke-rc.d asks this file, exit status 101 means no. Whatever was there before comes back; a file of ours,
# known by its mark, that a run killed outright has left does not.
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# xvs scripts: only while they install'
keep_services_down() {
    services_as_before
    if [ -e $POLICY ]; then mv $POLICY $POLICY.before-xvs; fi
    trap services_as_before EXIT
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >$POLICY
    chmod 755 $POLICY
}
services_as_before() {
    local file
    for file in $POLICY $POLICY.before-xvs; do
        if grep -qsF "$POLICY_MARK" "$file"; then rm -f "$file"; fi
    done
    if [ -e $POLICY.before-xvs ] && [ ! -e $POLICY ]; then mv $POLICY.before-xvs $POLICY; fi
}

# not_at_boot SERVICE...: nor are they started with the machine.
not_at_boot() {
    local service
    command -v systemctl >/dev/null || return 0
    for service; do systemctl disable --quiet "$service" || true; done
}

# ---------------------------------------------------------------- a lab's life

# The start time of a process, in clock ticks since boot: with it, a pid that was reused is told apart.
start_time_of() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # shellcheck disable=SC2086  # the fields are wanted as words
    set -- ${stat##*) }
    echo "${20}"
}

# lab_begin NAME: opens a new lab, after taking down those whose shell is gone. Call lab_end from a trap.
lab_begin() {
    mkdir -p "$LAB_RECORDS"
    lab_sweep
    LAB_ID="$1-$$"
    LAB_DIR=$(mktemp -d "/tmp/$LAB_ID.XXXXXX")
    chmod 755 "$LAB_DIR"
    printf 'owner %s %s\ndir %s\n' "$$" "$(start_time_of $$)" "$LAB_DIR" >"$LAB_RECORDS/$LAB_ID"
}

lab_end() {
    [ -n "$LAB_ID" ] && [ -e "$LAB_RECORDS/$LAB_ID" ] || return 0
    lab_remove "$LAB_RECORDS/$LAB_ID"
}

# Takes down the labs on record whose shell has ended without doing so.
lab_sweep() {
    local record _ pid start
    for record in "$LAB_RECORDS"/*; do
        [ -f "$record" ] || continue
        read -r _ pid start <"$record" || continue
        [ "$(start_time_of "$pid")" = "$start" ] && continue
        say "   (removing what ${record##*/} left behind)"
        lab_remove "$record"
    done
}

# lab_remove RECORD: ends what runs in the recorded namespaces, removes them, the directories, the record.
lab_remove() {
    local kind value _ attempt
    local -a namespaces=() pids=()
    while read -r kind value _; do
        case $kind in
        netns) namespaces+=("$value") ;;
        dir) case $value in /tmp/"${1##*/}".*) rm -rf "$value" ;; esac ;;
        esac
    done <"$1"
    for attempt in TERM TERM TERM KILL; do
        mapfile -t pids < <(for value in "${namespaces[@]}"; do ip netns pids "$value" 2>/dev/null; done)
        [ ${#pids[@]} -gt 0 ] || break
        kill -s "$attempt" "${pids[@]}" 2>/dev/null || true
        sleep 0.5
    done
    for value in "${namespaces[@]}"; do ip netns delete "$value" 2>/dev/null || true; done
    rm -f "$1"
}

# ---------------------------------------------------------------- building it

netns() { echo "$LAB_ID-$1"; }

# on WHO COMMAND...: runs a command in a namespace of the lab.
on() {
    local who=$1
    shift
    ip netns exec "$(netns "$who")" "$@"
}

# set_sysctl WHO NAME/PATH=VALUE...
set_sysctl() {
    local who=$1
    shift
    # shellcheck disable=SC2016  # expanded by the inner shell
    on "$who" sh -c 'for s; do echo "${s#*=}" >"/proc/sys/net/${s%%=*}"; done' sh "$@"
}

# lab_netns WHO...: namespaces with lo up, IPv4 only, and no reverse path filter (DR's replies are one-way).
lab_netns() {
    local who
    for who; do
        echo "netns $(netns "$who")" >>"$LAB_RECORDS/$LAB_ID"
        ip netns add "$(netns "$who")"
        set_sysctl "$who" ipv6/conf/all/disable_ipv6=1 ipv6/conf/default/disable_ipv6=1 \
            ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0
        ip -n "$(netns "$who")" link set lo up
    done
}

# lab_cable WHO DEV WHO DEV: a veth pair with LAB_QUEUES queues at each end, and both ends sending packets as a
# wire would carry them: whole checksums, no segments beyond the MTU. AF_XDP sees frames raw, and a veth
# otherwise hands over packets whose checksum nobody has computed yet.
lab_cable() {
    local queues=(numrxqueues "$LAB_QUEUES" numtxqueues "$LAB_QUEUES")
    ip -n "$(netns "$1")" link add "$2" "${queues[@]}" type veth peer name "$4" netns "$(netns "$3")" "${queues[@]}"
    lab_offloads_off "$1" "$2"
    lab_offloads_off "$3" "$4"
    ip -n "$(netns "$1")" link set "$2" up
    ip -n "$(netns "$3")" link set "$4" up
}

lab_offloads_off() {
    on "$1" ethtool -K "$2" tx off tso off gso off gro off rxvlan off txvlan off >/dev/null
}

# address WHO DEV CIDR...
address() {
    local who=$1 dev=$2 cidr
    shift 2
    for cidr; do ip -n "$(netns "$who")" address add "$cidr" dev "$dev"; done
}
