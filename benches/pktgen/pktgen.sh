#!/usr/bin/env bash
# The kernel's packet generator on a real NIC, against a director on another machine.
#
#   benches/pktgen/pktgen.sh --device eth1 --direction request --mac DIRECTOR'S-MAC [--flows 1000] [--size 64|imix|BYTES]
#                            [--threads 4] [--seconds 10] [--rate PPS] [--client 198.18.16.1] [--vip 198.18.0.100]
#                            [--rip 198.19.0.2] [--port 80] [--print]
#
# UDP. --direction request sends from as many client addresses and ports as there are flows to the VIP, on the clients'
# side; --direction reply sends the same flows' replies from the server to those clients, on the servers' side, as NAT
# wants them. Both at once, from two machines or two NICs, are traffic in both directions: begin with the requests, since
# a reply without a connection is nobody's. --flows: of each thread, 1 to 1,000,000, powers of ten. --size: of a frame, with FCS; imix is
# 7 of 64 bytes, 4 of 594 and 1 of 1,518. --rate is for all threads together. --print says what pktgen would be told and
# does nothing.
#
# Each thread is one processor and one transmit queue of the device, and has client addresses of its own.
set -euo pipefail

fail() {
    printf 'pktgen.sh: %s\n' "$*" >&2
    exit 1
}

device='' direction='' mac='' flows=1000 size=64 threads=1 seconds=10 rate=0 print=no
client=198.18.16.1 vip=198.18.0.100 rip=198.19.0.2 port=80
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
    --device | --direction | --mac | --flows | --size | --threads | --seconds | --rate | --client | --vip | --rip | --port)
        [ $# -ge 2 ] || fail "$1 needs a value"
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    --print) print=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail "no such option: $1; --help says which there are" ;;
    esac
    shift
done

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]] && ((10#$1 >= $2 && 10#$1 <= $3)); }
[ -n "$device" ] || fail "--device is missing: the interface to send from"
[[ $mac =~ ^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$ ]] || fail "--mac '$mac' is no MAC address: that of the director's interface"
case $direction in request | reply) ;; *) fail "--direction '$direction': must be request or reply" ;; esac
case $flows in 1 | 10 | 100 | 1000 | 10000 | 100000 | 1000000) ;; *) fail "--flows $flows: must be a power of ten, 1 to 1000000" ;; esac
[ "$size" = imix ] || is_number "$size" 64 1518 || fail "--size $size: must be imix, or 64 to 1518 bytes"
is_number "$threads" 1 128 || fail "--threads $threads: must be 1 to 128"
is_number "$seconds" 1 86400 || fail "--seconds $seconds: must be 1 to 86400"
is_number "$rate" 0 999999999 || fail "--rate $rate: must be packets per second, or 0 for as many as there can be"
is_number "$port" 1 65535 || fail "--port $port: must be 1 to 65535"

to_number() {
    local a b c d
    IFS=. read -r a b c d <<<"$1"
    for part in "$a" "$b" "$c" "$d"; do is_number "$part" 0 255 || fail "$1 is no IPv4 address"; done
    echo $(((a << 24) + (b << 16) + (c << 8) + d))
}
to_address() { echo "$(($1 >> 24 & 255)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255))"; }
first_client=$(to_number "$client")
to_number "$vip" >/dev/null
to_number "$rip" >/dev/null

# pktgen counts address and port up together, each in its own circle, and so comes to as many pairs as the least common
# multiple of the two: of numbers without a common factor, their product. A power of ten is 2^n * 5^n.
addresses=1 ports=$flows
if ((flows > 10000)); then
    rest=$flows
    while ((rest % 2 == 0)); do addresses=$((addresses * 2)) rest=$((rest / 2)); done
    ports=$rest
fi
first_port=10000

# What is told, as `FILE WORDS`.
commands() {
    local thread name base client_min client_max port_max sizes each
    for ((thread = 0; thread < threads; thread++)); do
        name="$device@$thread"
        echo "kpktgend_$thread rem_device_all"
        echo "kpktgend_$thread add_device $name"
        base=$((first_client + thread * addresses))
        client_min=$(to_address "$base") client_max=$(to_address $((base + addresses - 1)))
        port_max=$((ports > 1 ? first_port + ports : first_port)) # pktgen leaves the last one out
        echo "$name count 0"
        echo "$name clone_skb 0"
        echo "$name flag UDPCSUM"
        echo "$name queue_map_min $thread"
        echo "$name queue_map_max $thread"
        echo "$name dst_mac $mac"
        if [ "$size" = imix ]; then
            sizes="60,7 590,4 1514,1"
            echo "$name imix_weights $sizes"
        else
            echo "$name pkt_size $((size - 4))"
        fi
        if ((rate > 0)); then
            each=$((rate / threads > 0 ? rate / threads : 1))
            echo "$name ratep $each"
        else
            echo "$name delay 0"
        fi
        if [ "$direction" = request ]; then
            echo "$name src_min $client_min"
            echo "$name src_max $client_max"
            echo "$name udp_src_min $first_port"
            echo "$name udp_src_max $port_max"
            echo "$name dst_min $vip"
            echo "$name dst_max $vip"
            echo "$name udp_dst_min $port"
            echo "$name udp_dst_max $port"
        else
            echo "$name dst_min $client_min"
            echo "$name dst_max $client_max"
            echo "$name udp_dst_min $first_port"
            echo "$name udp_dst_max $port_max"
            echo "$name src_min $rip"
            echo "$name src_max $rip"
            echo "$name udp_src_min $port"
            echo "$name udp_src_max $port"
        fi
    done
}

if [ "$print" = yes ]; then
    commands
    exit 0
fi
[ "$(id -u)" -eq 0 ] || fail "needs root"
ip link show "$device" >/dev/null || fail "there is no interface $device"
((threads <= $(nproc))) || fail "--threads $threads: there are $(nproc) processors"
modprobe pktgen || fail "this kernel has no pktgen (module pktgen)"

reset() {
    trap - EXIT
    echo stop >/proc/net/pktgen/pgctrl 2>/dev/null || true
    echo reset >/proc/net/pktgen/pgctrl 2>/dev/null || true
}
trap reset EXIT
trap 'exit 130' INT TERM HUP
commands | while read -r file words; do
    echo "$words" >"/proc/net/pktgen/$file" || fail "pktgen refused \`$words\` for $file"
done
sent() { cat "/sys/class/net/$device/statistics/tx_packets"; }
# The command that starts pktgen ends when pktgen does.
(echo start >/proc/net/pktgen/pgctrl) &
runner=$!
sleep 1
before=$(sent) start=$(date +%s%N)
sleep "$seconds"
after=$(sent) end=$(date +%s%N)
kill "$runner" 2>/dev/null || true
wait "$runner" 2>/dev/null || true
awk -v n=$((after - before)) -v ns=$((end - start)) -v flows=$((flows * threads)) -v size="$size" \
    'BEGIN { printf "sent %.0f packets per second, %d flows, size %s\n", n / (ns / 1e9), flows, size }'
