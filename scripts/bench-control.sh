#!/usr/bin/env bash
# How fast is xvs controlled, and does forwarding notice?
#
# Four namespaces; the director forwards a steady stream of numbered datagrams while it is measured, and a flood
# where it says so:
#
#   client: out0 ──── in0 :director: in1 ──── out1 :server     takes the flood, and counts it
#                                  : in2 ──── out2 :receiver   takes the stream
#
# Commands are timed from their start to their end, as a script sees them. `lost`, `gap` and `way` are the stream's:
# datagrams that did not arrive, the longest time between two that did, the longest way of one. Sender and
# receiver need a core as everybody does: compare with the stream alone, which is printed first.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

parts="commands restore reload connections hostile" runs=30 services=1000 servers=10 connections=1000000
per_second=2000 forwarder_core=0 sender_core=1 build=yes

usage() {
    cat <<'END'
usage: scripts/bench-control.sh [--parts "commands restore reload connections hostile"] [--runs N]
                                [--connections N] [--cores FORWARDER,SENDER] [--no-build]
  defaults: all parts, 30 runs of each command, 1,000,000 connections, cores 0,1
  Exit status: 0 whatever the figures are; 1 if anything fails.
END
}
while [ $# -gt 0 ]; do
    case $1 in
        --parts) parts=$2; shift ;;
        --runs) runs=$2; shift ;;
        --connections) connections=$2; shift ;;
        --cores) forwarder_core=${2%,*} sender_core=${2#*,}; shift ;;
        --no-build) build=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

need_root
for tool in ip ethtool clang awk; do
    command -v "$tool" > /dev/null || fail "$tool is missing; scripts/setup.sh installs it"
done
command -v python3 > /dev/null || fail "python3 is missing, which sends the stream: install it (apt install python3)"
[ "$(nproc)" -ge 2 ] || fail "needs two cores, one for the forwarder and one for everybody else"

target=${CARGO_TARGET_DIR:-target}/release
if [ "$build" = yes ]; then
    find_cargo
    cargo build --release --quiet --bins --examples
fi
xvs=$PWD/$target/xvs
[ -x "$xvs" ] || fail "$xvs is missing"

director_pid='' flood_pid='' send_pid='' receive_pid=''
cleanup() {
    trap - EXIT
    for process in $flood_pid $send_pid $receive_pid $director_pid; do
        kill "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    lab_end
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

mac() { on "$1" cat "/sys/class/net/$2/address"; }

# ---- the network -------------------------------------------------------------------------------------------
LAB_QUEUES=1
lab_begin xvsbenchc
work=$LAB_DIR
export XVS_SOCKET=$work/xvs.sock
lab_netns client director server receiver
lab_cable client out0 director in0
lab_cable server out1 director in1
lab_cable receiver out2 director in2
address client out0 10.71.0.1/24
address director in0 10.71.0.254/24 10.71.0.100/32
address director in1 10.72.0.254/24
address director in2 10.73.0.254/24
address server out1 10.72.0.2/24
address receiver out2 10.73.0.2/24
on receiver ip route add 10.71.0.0/24 via 10.73.0.254
director=$(netns director)
{
    # The stream's client, 24 of the flood, ten servers of the many services, the one of the flood.
    for host in 1 $(seq 101 124); do
        echo "neigh add 10.71.0.$host lladdr $(mac client out0) dev in0 nud permanent"
    done
    for host in 2 $(seq 11 $((10 + servers))); do
        echo "neigh add 10.72.0.$host lladdr $(mac server out1) dev in1 nud permanent"
    done
    echo "neigh add 10.73.0.2 lladdr $(mac receiver out2) dev in2 nud permanent"
    # The virtual addresses of the many services, those of the file and those of the restore.
    for net in 16 17; do
        for host in $(seq 50); do echo "address add 10.71.$net.$host/32 dev in0"; done
    done
} > "$work/network"
ip -n "$director" -batch "$work/network"
# Nothing but the forwarder may forward.
set_sysctl director ipv4/ip_forward=0
# The flood's server counts what arrives and does no more with it.
clang -O2 -g -target bpf -mcpu=v3 "-I/usr/include/$(uname -m)-linux-gnu" \
    -c benches/redirect_all.bpf.c -o "$work/sink.o"
ip -n "$(netns server)" link set dev out1 xdpdrv obj "$work/sink.o" program drop_all \
    || fail "the server's interface takes no XDP program (iproute2 without libbpf?)"

# ---- the director ------------------------------------------------------------------------------------------
schedulers=(wlc rr wrr lc sh mh dh sed)

# config MANY [WEIGHT]: the two services that traffic goes to, and the many. WEIGHT is that of one server of one.
config() {
    cat <<END
[director]
interfaces = ["in0", "in1", "in2"]
cores = [$forwarder_core]
connections = 1_048_576

[api]
socket = "$XVS_SOCKET"

[[service]]
protocol = "udp"
address = "10.71.0.100:80"
scheduler = "rr"
forward = "nat"
server = [{ address = "10.72.0.2", weight = 1 }]

[[service]]
protocol = "udp"
address = "10.71.0.100:81"
scheduler = "rr"
forward = "nat"
server = [{ address = "10.73.0.2", weight = ${2:-1} }]
END
    [ "$1" -gt 0 ] || return 0
    awk -v many="$1" -v servers="$servers" -v names="${schedulers[*]}" 'BEGIN {
        kinds = split(names, scheduler, " ")
        for (s = 0; s < many; s++) {
            printf "\n[[service]]\nprotocol = \"tcp\"\naddress = \"10.71.16.%d:%d\"\n", 1 + s % 50, 1000 + int(s / 50)
            printf "scheduler = \"%s\"\nforward = \"nat\"\nserver = [\n", scheduler[1 + s % kinds]
            for (i = 0; i < servers; i++) printf "  { address = \"10.72.0.%d\", weight = 1 },\n", 11 + i
            print "]"
        }
    }'
}

# What `ipvsadm -R` takes: as many services, with one server fewer each, so that there are as many lines as servers.
restore_lines() {
    awk -v many="$services" -v servers="$((servers - 1))" -v names="${schedulers[*]}" 'BEGIN {
        kinds = split(names, scheduler, " ")
        for (s = 0; s < many; s++) {
            name = sprintf("10.71.17.%d:%d", 1 + s % 50, 1000 + int(s / 50))
            printf "-A -t %s -s %s\n", name, scheduler[1 + s % kinds]
            for (i = 0; i < servers; i++) printf "-a -t %s -r 10.72.0.%d:80 -m -w 1\n", name, 11 + i
        }
    }'
}

start() {
    config "$1" > "$work/xvs.toml"
    ip netns exec "$director" "$xvs" run --config "$work/xvs.toml" > "$work/log" 2>&1 &
    director_pid=$!
    for _ in $(seq 200); do
        kill -0 "$director_pid" 2> /dev/null || { cat "$work/log" >&2; fail "xvs has ended"; }
        if "$xvs" show info > /dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    cat "$work/log" >&2
    fail "xvs does not answer within 20 s"
}

stop() {
    local left=200
    kill -TERM "$director_pid"
    while kill -0 "$director_pid" 2> /dev/null && [ $((left -= 1)) -gt 0 ]; do sleep 0.05; done
    kill -KILL "$director_pid" 2> /dev/null || true
    wait "$director_pid" 2> /dev/null || true
    director_pid=''
}

ipvsadm() { "$xvs" ipvsadm "$@"; }

# ---- traffic -----------------------------------------------------------------------------------------------
stream_begins() {
    ip netns exec "$(netns receiver)" python3 scripts/datagrams.py receive 81 > "$work/received" &
    receive_pid=$!
    sleep 0.3
    ip netns exec "$(netns client)" python3 scripts/datagrams.py send 10.71.0.100 81 "$per_second" > "$work/sent" &
    send_pid=$!
    sleep 0.5
}

# stream_ends TEXT [BUDGET]: ends it, and prints the rows of what it showed.
stream_ends() {
    local sent received gap way
    kill -TERM "$send_pid"
    wait "$send_pid" || fail "the stream's sender failed"
    sleep 0.1
    kill -TERM "$receive_pid"
    wait "$receive_pid" || fail "the stream's receiver failed"
    send_pid='' receive_pid=''
    sent=$(< "$work/sent")
    read -r received gap way < "$work/received"
    [ "$received" -gt 0 ] || { cat "$work/log" >&2; fail "nothing of the stream arrived"; }
    row "stream of $sent, $1: lost" "${2:-0}" "$((sent - received))"
    row "stream of $sent, $1: longest gap, longest way, ms" - "$gap $way"
}

# flood SOURCE FLOWS LIMIT...: see benches/flood.rs. In the background, `kill $!` ends it.
flood() {
    exec ip netns exec "$(netns client)" "$target/examples/flood" out0 \
        --src-mac "$(mac client out0)" --dst-mac "$(mac director in0)" \
        --src "10.71.0.$1" --dst 10.71.0.100 --port 80 --flows "$2" --core "$sender_core" "${@:3}"
}

received() { on server cat /sys/class/net/out1/statistics/rx_packets; }

# ---- measuring ---------------------------------------------------------------------------------------------
row() { printf '  %-66s %10s %14s\n' "$1" "$2" "$3"; }
title() { printf '\n%s\n' "$1"; row '' budget result; }

# timed NAME COMMAND...: runs it, and notes how many microseconds that took.
timed() {
    local name=$1 begin end
    shift
    begin=${EPOCHREALTIME/./}
    "$@" > "$work/out" 2> "$work/err" || { cat "$work/err" >&2; fail "failed: $*"; }
    end=${EPOCHREALTIME/./}
    echo "$((end - begin))" >> "$work/times.$name"
}

# A restore goes on after a line that is refused, and its exit status is that of the last one.
no_complaints() {
    [ ! -s "$work/err" ] || { head -3 "$work/err" >&2; fail "ipvsadm -R complains"; }
}

# times NAME TEXT BUDGET: the row of what was noted, median and maximum in ms.
times() {
    row "$2: median, longest, ms" "$3" "$(sort -n "$work/times.$1" | awk '{ t[NR] = $1 }
        END { printf "%.1f %.1f", (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2000, t[NR] / 1000 }')"
    rm "$work/times.$1"
}

memory_kib() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status" 2> /dev/null || true; }
# From now on the process's peak counts from what it has.
forget_peak() { echo 5 > "/proc/$1/clear_refs"; }

single_commands() {
    local vip=10.71.16.1:1000 new=10.71.0.100:90 budget=20 run
    ipvsadm -Ln -t "$vip" > /dev/null 2>&1 || vip='' # The empty director has no such service.
    for run in $(seq "$runs"); do
        timed list ipvsadm -Ln
        [ -z "$vip" ] || timed one ipvsadm -Ln -t "$vip"
        timed A ipvsadm -A -t "$new" -s wlc
        timed a ipvsadm -a -t "$new" -r 10.72.0.11:80 -m
        timed e ipvsadm -e -t "$new" -r 10.72.0.11:80 -m -w "$((run + 1))"
        timed d ipvsadm -d -t "$new" -r 10.72.0.11:80
        timed D ipvsadm -D -t "$new"
        timed show "$xvs" show services
        timed set "$xvs" set "expire_nodest_conn=$((run % 2))"
    done
    times list "ipvsadm -Ln ($(ipvsadm -Ln | wc -l) lines)" "$budget"
    [ -z "$vip" ] || times one "ipvsadm -Ln -t VIP:PORT" "$budget"
    for option in A a e d D; do times "$option" "ipvsadm -$option" "$budget"; done
    times show "xvs show services" "$budget"
    times set "xvs set NAME=VALUE" "$budget"
}

wants() { [[ " $parts " == *" $1 "* ]]; }

echo "machine: $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, kernel $(uname -r)"
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg); worker on core $forwarder_core, stream of $per_second datagrams a second"

# ---- an empty director -------------------------------------------------------------------------------------
if wants commands || wants restore; then
    start 0
    title "A director with two services"
    stream_begins
    sleep 5
    stream_ends "nothing else"
fi
if wants commands; then
    stream_begins
    single_commands
    stream_ends "meanwhile"
fi
if wants restore; then
    restore_lines > "$work/rules"
    title "ipvsadm -R, -S, -C ($(wc -l < "$work/rules") lines)"
    forget_peak "$director_pid"
    row "xvs, resident before, KiB" - "$(memory_kib "$director_pid" VmRSS)"
    stream_begins
    timed R ipvsadm -R < "$work/rules"
    no_complaints
    times R "ipvsadm -R" 3000
    timed R ipvsadm -R < <(sed -n 's/-a \(.*\) -w 1/-e \1 -w 2/p' "$work/rules")
    no_complaints
    times R "ipvsadm -R, all servers edited" 3000
    timed S ipvsadm -Sn
    [ "$(wc -l < "$work/out")" -ge "$(wc -l < "$work/rules")" ] || fail "ipvsadm -Sn saves too little"
    times S "ipvsadm -Sn" -
    stream_ends "meanwhile"
    timed C ipvsadm -C
    times C "ipvsadm -C" -
    row "xvs, peak, KiB" - "$(memory_kib "$director_pid" VmHWM)"
fi
[ -z "$director_pid" ] || stop

# ---- many services -----------------------------------------------------------------------------------------
if wants commands || wants reload || wants connections || wants hostile; then
    start "$services"
fi
if wants commands; then
    title "A director with $services services of $servers servers"
    stream_begins
    single_commands
    stream_ends "meanwhile"
fi
if wants reload; then
    title "xvs reload of $services services of $servers servers"
    stream_begins
    for run in $(seq 10); do
        config "$services" $((run + 1)) > "$work/xvs.toml"
        timed reload "$xvs" reload
        grep -q . "$work/out" || fail "xvs reload says nothing"
    done
    times reload "xvs reload with one change" -
    for run in $(seq 10); do timed nothing "$xvs" reload; done
    times nothing "xvs reload without a change" -
    stream_ends "meanwhile"
fi

# ---- many connections --------------------------------------------------------------------------------------
# Lists all connections and notes the peak of the client's memory.
list_connections() {
    "$xvs" ipvsadm -Lnc > /dev/null &
    local client=$! now
    while now=$(memory_kib "$client" VmHWM) && [ -n "$now" ]; do
        echo "$now" > "$work/peak"
        sleep 0.05
    done
    wait "$client" || fail "ipvsadm -Lnc failed"
}

# Prints frames a second that were forwarded, and those for each second of CPU time, while COMMAND runs.
forwarded_during() {
    local r0 t0 p0
    r0=$(received) t0=${EPOCHREALTIME/./} p0=$(worker_ns)
    "$@"
    awk -v r=$(($(received) - r0)) -v t=$((${EPOCHREALTIME/./} - t0)) -v p=$(($(worker_ns) - p0)) \
        'BEGIN { printf "%.0f %.0f\n", r / (t / 1e6), r / (p / 1e9) }'
}
worker_ns() {
    local task
    for task in /proc/"$director_pid"/task/*; do
        [ "${task##*/}" = "$director_pid" ] || cut -d' ' -f1 "$task/schedstat"
    done | awk '{ ns += $1 } END { printf "%.0f\n", ns }'
}

if wants connections || wants hostile; then
    title "$connections connections in the table"
    # Most frames of a flood are lost: it offers more than one worker takes.
    source=101
    for _ in $(seq 100); do
        there=$("$xvs" show info --json | awk -F'[:,]' '/"connections":/ { print $2 + 0 }')
        [ "$there" -lt "$connections" ] || break
        (flood "$source" 50000 --frames 200000) > /dev/null
        source=$((source == 124 ? 101 : source + 1))
    done
    [ "$there" -ge "$connections" ] || { "$xvs" show drops >&2; "$xvs" show interfaces >&2; fail "only $there connections came about"; }
    row "connections" "$connections" "$there"
fi
if wants connections; then
    forget_peak "$director_pid"
    before=$(memory_kib "$director_pid" VmRSS)
    stream_begins
    for _ in 1 2 3; do timed connections list_connections; done
    times connections "ipvsadm -Lnc > /dev/null" 5000
    row "xvs, resident before, peak, KiB" - "$before $(memory_kib "$director_pid" VmHWM)"
    row "ipvsadm, peak, KiB" - "$(< "$work/peak")"
    stream_ends "meanwhile"
    flood 101 1000 --seconds 600 > /dev/null &
    flood_pid=$!
    sleep 2
    # Assigned first: a failure in there ends this script then.
    figures=$(forwarded_during sleep 5)
    read -r before before_cpu <<< "$figures"
    figures=$(forwarded_during list_connections)
    read -r during during_cpu <<< "$figures"
    figures=$(forwarded_during sleep 5)
    read -r after _ <<< "$figures"
    kill -0 "$flood_pid" || fail "the flood has ended"
    kill "$flood_pid"
    wait "$flood_pid" 2> /dev/null || true
    flood_pid=''
    row "flood, frames/s before, during -Lnc, after" - "$before $during $after"
    row "flood, during / before; by the worker's CPU time" - \
        "$(awk -v a="$during" -v b="$before" -v c="$during_cpu" -v d="$before_cpu" 'BEGIN { printf "%.2f %.2f", a / b, c / d }')"
    stream_begins
    single_commands
    stream_ends "meanwhile"
fi

# ---- clients that mean harm --------------------------------------------------------------------------------
if wants hostile; then
    title "Clients that do harm"
    before=$(memory_kib "$director_pid" VmRSS)
    forget_peak "$director_pid"
    for harm in stalled killed bodies garbage crowd; do
        stream_begins
        python3 scripts/harm.py "$harm" "$xvs" "$XVS_SOCKET" || fail "harm.py $harm failed"
        timed answer "$xvs" show info
        times answer "$harm: xvs show info after it" 1000
        stream_ends "$harm"
        row "$harm: xvs, resident before it all, peak so far, KiB" - "$before $(memory_kib "$director_pid" VmHWM)"
    done
fi
[ -z "$director_pid" ] || stop
