#!/usr/bin/env bash
# How much of what AF_XDP alone can forward does xvs forward?
#
# Three namespaces, two veth pairs, one forwarder at a time on one core, one sender on another:
#
#   client: out0 ──── in0 :director: in1 ──── out1 :server
#
# In each round the bare forwarder (the same UMEM, rings and loop, no director), xvs with NAT and xvs with DR, and both
# with their connections offloaded to the steering program, forward the same UDP frames. Counted are the frames that the server's interface received. The sender offers
# more than any of them can take; the part that was lost is printed, so that this can be seen.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

rounds=5 seconds=3 flows=1000 frame_len=60 modes="bare nat dr nat-offload dr-offload" forwarder_core=0 sender_core=1 build=yes busy=no
# A measurement in which the forwarder did not have its core to itself is repeated this often at most.
attempts=4

usage() {
    cat <<'END'
usage: scripts/bench.sh [--rounds N] [--seconds N] [--flows N] [--frame-len BYTES] [--modes "bare nat dr nat-offload dr-offload"]
                        [--cores FORWARDER,SENDER] [--busy-poll] [--no-build]
  A measurement during which other processes used the forwarder's core is repeated, up to 4 times in all.
  defaults: 5 rounds of 3 seconds each, 1000 flows, frames of 60 bytes (64 with FCS), cores 0,1
END
}
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift ;;
        --seconds) seconds=$2; shift ;;
        --flows) flows=$2; shift ;;
        --frame-len) frame_len=$2; shift ;;
        --modes) modes=$2; shift ;;
        --cores) forwarder_core=${2%,*} sender_core=${2#*,}; shift ;;
        --busy-poll) busy=yes ;;
        --no-build) build=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

need_root
for tool in ip ethtool clang awk taskset; do
    command -v "$tool" > /dev/null || fail "$tool is missing; scripts/setup.sh installs it"
done
[ "$(nproc)" -ge 2 ] || fail "needs two cores, one for the forwarder and one for the sender"

target=${CARGO_TARGET_DIR:-target}/release
if [ "$build" = yes ]; then
    find_cargo
    cargo build --release --quiet --bins --examples
fi

forwarder='' sender=''
cleanup() {
    trap - EXIT
    for process in $sender $forwarder; do
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
lab_begin xvsbench
work=$LAB_DIR
lab_netns client director server
lab_cable client out0 director in0
lab_cable server out1 director in1
address client out0 10.71.0.1/24
address director in0 10.71.0.254/24 10.71.0.100/32
address director in1 10.72.0.254/24
address server out1 10.72.0.2/24
director=$(netns director)
ip -n "$director" neigh add 10.72.0.2 lladdr "$(mac server out1)" dev in1 nud permanent
ip -n "$director" neigh add 10.71.0.1 lladdr "$(mac client out0)" dev in0 nud permanent
# Nothing but the forwarder may forward.
set_sysctl director ipv4/ip_forward=0
# So that both directions can be redirected to.
on client ethtool -K out0 gro on > /dev/null
# The server's interface counts what arrives and does no more with it.
clang -O2 -g -target bpf -mcpu=v3 "-I/usr/include/$(uname -m)-linux-gnu" \
    -c benches/redirect_all.bpf.c -o "$work/sink.o"
ip -n "$(netns server)" link set dev out1 xdpdrv obj "$work/sink.o" program drop_all \
    || fail "the server's interface takes no XDP program (iproute2 without libbpf?)"

# ---- the forwarders ----------------------------------------------------------------------------------------
config() {
    cat > "$work/xvs.toml" <<END
[director]
interfaces = ["in0", "in1"]
cores = [$forwarder_core]
busy_poll = $([ "$busy" = yes ] && echo true || echo false)
offload = "$([ "$1" = "${1%-offload}" ] && echo off || echo on)"

[api]
socket = "$work/xvs.sock"

[[service]]
protocol = "udp"
address = "10.71.0.100:80"
scheduler = "rr"
forward = "${1%-offload}"

[[service.server]]
address = "10.72.0.2"
weight = 1
END
}

start() {
    case $1 in
        bare)
            local arguments=(in0 in1 --cores "$forwarder_core"
                --first-mac "$(mac client out0)" --second-mac "$(mac server out1)")
            [ "$busy" = no ] || arguments+=(--busy-poll)
            ip netns exec "$director" "$target/examples/bare_forwarder" "${arguments[@]}" > "$work/log" 2>&1 &
            ;;
        nat | dr | nat-offload | dr-offload)
            [ -x "$target/xvs" ] || fail "$target/xvs is missing"
            config "$1"
            ip netns exec "$director" "$target/xvs" run --config "$work/xvs.toml" > "$work/log" 2>&1 &
            ;;
        *) fail "no such mode: $1" ;;
    esac
    forwarder=$!
    for _ in $(seq 100); do
        kill -0 "$forwarder" 2> /dev/null || { cat "$work/log" >&2; fail "$1: the forwarder has ended"; }
        if [ "$(ip -n "$director" -o link show | grep -cE ' xdp(generic|drv)?(/|$| )|prog/xdp')" -ge 2 ]; then
            sleep 0.5
            return
        fi
        sleep 0.1
    done
    cat "$work/log" >&2
    fail "$1: no XDP programs attached within 10 s"
}

stop() {
    local left=100
    kill -TERM "$forwarder"
    while kill -0 "$forwarder" 2> /dev/null && [ $((left -= 1)) -gt 0 ]; do sleep 0.05; done
    kill -KILL "$forwarder" 2> /dev/null || true
    wait "$forwarder" 2> /dev/null || true
    forwarder=''
}

# ---- one measurement ---------------------------------------------------------------------------------------
received() { on server cat /sys/class/net/out1/statistics/rx_packets; }
offered() { on client cat /sys/class/net/out0/statistics/tx_packets; }
now_ns() { date +%s%N; }
# Nanoseconds that process $1 has run.
process_ns() { awk '{ ns += $1 } END { printf "%.0f\n", ns }' /proc/"$1"/task/*/schedstat; }

# Prints: frames a second, frames a second of CPU time, part of the offered frames that was lost, and the part
# of a core that the forwarder and the sender had, in %.
measure() {
    ip netns exec "$(netns client)" "$target/examples/flood" out0 \
        --src-mac "$(mac client out0)" --dst-mac "$(mac director in0)" \
        --src 10.71.0.1 --dst 10.71.0.100 --port 80 --flows "$flows" --frame-len "$frame_len" \
        --seconds 600 --core "$sender_core" > "$work/flood" 2>&1 &
    sender=$!
    sleep 1
    kill -0 "$sender" 2> /dev/null || { cat "$work/flood" >&2; fail "the sender has ended"; }
    local r0 o0 t0 p0 s0 r1 o1 t1 p1 s1
    r0=$(received) o0=$(offered) t0=$(now_ns) p0=$(process_ns $forwarder) s0=$(process_ns $sender)
    sleep "$seconds"
    r1=$(received) o1=$(offered) t1=$(now_ns) p1=$(process_ns $forwarder) s1=$(process_ns $sender)
    kill "$sender"
    wait "$sender" 2> /dev/null || true
    sender=''
    awk -v r=$((r1 - r0)) -v o=$((o1 - o0)) -v ns=$((t1 - t0)) -v p=$((p1 - p0)) \
        -v c=$((s1 - s0)) 'BEGIN {
        s = ns / 1e9
        printf "%.0f %.0f %.0f %.0f %.0f\n", r / s, (p > 0 ? r / (p / 1e9) : 0), (o > 0 ? 100 * (1 - r / o) : 0),
            100 * p / ns, 100 * c / ns
    }'
}

# ---- the rounds --------------------------------------------------------------------------------------------
echo "machine: $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, kernel $(uname -r)"
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg); forwarder on core $forwarder_core, sender on core $sender_core"
echo "$flows UDP flows, frames of $frame_len bytes, $rounds rounds of $seconds s, busy_poll $busy"
printf '%5s %-11s %12s %14s %8s %12s %9s\n' round what 'frames/s' 'frames/CPU-s' 'lost %' 'forwarder %' 'sender %'
for round in $(seq "$rounds"); do
    for mode in $modes; do
        start "$mode"
        for attempt in $(seq "$attempts"); do
            figures=$(measure)
            read -r pps per_cpu lost process source <<< "$figures"
            printf '%5s %-11s %12s %14s %8s %12s %9s' "$round" "$mode" "$pps" "$per_cpu" "$lost" "$process" "$source"
            [ "$pps" -gt 0 ] || { echo; cat "$work/log" >&2; fail "$mode forwarded nothing"; }
            if [ "$lost" -ge 5 ] && [ "$process" -ge 90 ]; then echo; break; fi
            # On veth the steering program runs on the sender's core: that is the whole forwarder then.
            if [ "$mode" != "${mode%-offload}" ] && [ "$source" -ge 90 ]; then echo; break; fi
            # Whatever the figure is: the forwarder had no whole core, or not enough to do.
            if [ "$attempt" -lt "$attempts" ]; then echo "  disturbed, again"; else echo "  disturbed"; fi
        done
        stop
        echo "$mode $pps $per_cpu" >> "$work/figures"
    done
done

# Minimum, median and maximum of column $1 of the figures, and the ratios to the bare forwarder.
summary() {
    echo
    awk -v column="$1" -v title="$2" '
    function sorted(mode, out,   i, j, t) {
        for (i = 1; i <= n[mode]; i++) out[i] = v[mode, i]
        for (i = 2; i <= n[mode]; i++) for (j = i; j > 1 && out[j - 1] > out[j]; j--) {
            t = out[j]; out[j] = out[j - 1]; out[j - 1] = t
        }
    }
    function median(a, count) { return count % 2 ? a[(count + 1) / 2] : (a[count / 2] + a[count / 2 + 1]) / 2 }
    { if (!($1 in n)) order[++modes] = $1; v[$1, ++n[$1]] = $column }
    END {
        printf "%-14s %12s %12s %12s\n", title, "min", "median", "max"
        for (m = 1; m <= modes; m++) {
            mode = order[m]; delete a; sorted(mode, a); mid[mode] = median(a, n[mode])
            printf "  %-12s %12.0f %12.0f %12.0f\n", mode, a[1], mid[mode], a[n[mode]]
        }
        if (!("bare" in n)) exit
        for (m = 1; m <= modes; m++) {
            mode = order[m]
            if (mode == "bare") continue
            low = high = v[mode, 1] / v["bare", 1]
            for (i = 2; i <= n[mode]; i++) {
                r = v[mode, i] / v["bare", i]
                if (r < low) low = r
                if (r > high) high = r
            }
            printf "  %s / bare: %.3f (ratio of medians; by round %.3f to %.3f)\n",
                mode, mid[mode] / mid["bare"], low, high
        }
    }' "$work/figures"
}
summary 2 'frames/s'
# Fairer where other processes take time from the cores.
summary 3 'frames/CPU-s'
