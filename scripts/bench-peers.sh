#!/usr/bin/env bash
# xvs against what else stands between clients and servers: direct routing (nothing), nftables DNAT, HAProxy (tcp) and
# nginx (stream), on this machine's own kernel, in network namespaces, one after the other in each round:
#
#   client: cl0 ──── in0 :director: in1 ──── srv0 :server        (nginx)
#      back ─────────────────────────────────── back             (the way back of DR)
#
#   scripts/bench-peers.sh [--full] [--rounds N] [--seconds N] [--ways a,b] [--kinds a,b] [--allow-load] [--help]
#
# Told are new connections, requests on kept connections, latency at low rates, bulk, and processor time of each: medians
# of the rounds with their spread, and ratios to direct routing. The raw figures stay in benches/results;
# benches/README.md says how to read them. Cleans up however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=benches BENCH_PID=$$
command -v python3 >/dev/null || fail "python3 is missing: install it (apt-get install python3)"
case " $* " in
*" --help "* | *" -h "* | *" --report"*) exec python3 -m compare.peers "$@" ;;
esac
python3 -m compare.peers --check "$@"

# What is measured: nothing of it is left running, nor starts with the machine.
install_peers() {
    local missing=() services=()
    scripts/setup.sh
    command -v nft >/dev/null || missing+=(nftables) services+=(nftables)
    command -v haproxy >/dev/null || missing+=(haproxy) services+=(haproxy)
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(libnginx-mod-stream)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing what is compared: ${missing[*]}"
    keep_services_down
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    not_at_boot "${services[@]}"
    services_as_before
    trap - EXIT
}

build_lab() {
    local back=10.82.0
    lab_netns client director server
    lab_cable client cl0 director in0
    lab_cable server srv0 director in1
    lab_cable server back client back
    # As a NIC's: and without it a veth takes no frames that the director's driver redirects to it.
    on client ethtool -K cl0 gro on >/dev/null
    on server ethtool -K srv0 gro on >/dev/null
    address client cl0 10.80.0.1/24
    address client back $back.1/24
    address director in0 10.80.0.254/24 10.80.0.100/32 10.80.0.101/32
    address director in1 10.81.0.254/24
    # The second is that of direct routing: what comes from a NAT server of xvs, xvs takes.
    address server srv0 10.81.0.2/24 10.81.0.3/24
    address server back $back.2/24
    address server lo 10.80.0.101/32
    set_sysctl director ipv4/ip_forward=1 ipv4/conf/all/send_redirects=0
    set_sysctl server ipv4/conf/all/arp_ignore=1 ipv4/conf/all/arp_announce=2
    ip -n "$(netns client)" route add 10.81.0.0/24 via 10.80.0.254
    ip -n "$(netns server)" -batch - <<-LINES
	route add default via 10.81.0.254
	route add default via $back.1 table 100
	rule add from 10.80.0.101 lookup 100
	LINES
    for who in client director server; do
        set_sysctl "$who" ipv4/ip_local_port_range="1024 65535" ipv4/tcp_tw_reuse=1 core/somaxconn=65535 \
            ipv4/tcp_max_syn_backlog=65535
    done
}

# One process on one core, which serves from memory.
start_server() {
    local core=1
    truncate -s 8M "$LAB_DIR/bulk"
    cat >"$LAB_DIR/server.conf" <<-CONF
	daemon off;
	master_process off;
	worker_rlimit_nofile 65536;
	pid $LAB_DIR/server.pid;
	error_log $LAB_DIR/server.log;
	events { worker_connections 16384; multi_accept on; }
	http {
	    access_log off;
	    sendfile on;
	    tcp_nopush on;
	    keepalive_timeout 600s;
	    keepalive_requests 1000000000;
	    client_body_temp_path $LAB_DIR; proxy_temp_path $LAB_DIR; fastcgi_temp_path $LAB_DIR;
	    uwsgi_temp_path $LAB_DIR; scgi_temp_path $LAB_DIR;
	    server {
	        listen 80 backlog=65535;
	        root $LAB_DIR;
	        location = / { return 200 "answered\n"; }
	        location = /bulk { }
	    }
	}
	CONF
    on server taskset -c $core nginx -e "$LAB_DIR/server.log" -p "$LAB_DIR" -c "$LAB_DIR/server.conf" </dev/null \
        >"$LAB_DIR/server.out" 2>&1 &
    for _ in $(seq 100); do
        on client curl -fsS -o /dev/null --max-time 2 http://10.81.0.2/ 2>/dev/null && return
        sleep 0.1
    done
    fail "the server does not answer: $(cat "$LAB_DIR"/server.*)"
}

need_root
[ "$(nproc)" -ge 2 ] || fail "needs two cores, one for the client and one for the server"
install_peers
find_cargo
say "building"
cargo build --release --locked --quiet --bins --example load

bench=
cleanup() {
    trap - EXIT
    if [ -n "$bench" ]; then
        kill "$bench" 2>/dev/null || true
        wait "$bench" 2>/dev/null || true
    fi
    lab_end
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
lab_begin xvspeers
build_lab
start_server
export LAB_ID LAB_DIR
python3 -m compare.peers "$@" &
bench=$!
status=0
wait "$bench" || status=$?
bench=
exit "$status"
