#!/usr/bin/env bash
# Real HTTP through xvs, by NAT and by DR, in network namespaces on this machine. Exit status 0 only if
# every request was answered and every server got exactly its share. Cleans up however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh

REQUESTS=60 # for each service: a multiple of the weights' sum, so wrr's shares come out exactly
SERVERS=(a b c)
declare -A RIP=([a]=10.1.0.11 [b]=10.1.0.12 [c]=10.1.0.13) WEIGHT=([a]=3 [b]=2 [c]=1)
CLIENTS=(10.0.1.1 10.0.1.2 10.0.1.3 10.0.1.4)
VIP_NAT=10.0.0.100 VIP_DR=10.0.0.101
XVS=$(realpath -m "${CARGO_TARGET_DIR:-target}/release/xvs")
READY_S=15 # how long xvs may take to start, and to stop
XVS_PID=
FAILURES=0

step=0
step() {
    step=$((step + 1))
    printf '\n%d. %s\n' "$step" "$*"
}
show() { sed 's/^/   /'; }

build_lab() {
    lab_netns clients director server-a server-b server-c
    # The clients' wire to the director.
    lab_cable clients cl0 director lb0
    for cip in "${CLIENTS[@]}"; do address clients cl0 "$cip/16"; done
    address director lb0 10.0.0.1/16 $VIP_NAT/32 $VIP_DR/32
    # The servers' switch. The clients hang on it too, so that DR's replies reach them past the director.
    ip -n "$(netns clients)" link add switch address 02:00:00:00:00:fe type bridge forward_delay 0
    ip -n "$(netns clients)" link set switch up
    address clients switch 10.1.0.254/24
    lab_cable director lb1 clients to-director
    ip -n "$(netns clients)" link set to-director master switch
    address director lb1 10.1.0.1/24
    set_sysctl director ipv4/ip_forward=1 ipv4/conf/all/send_redirects=0 ipv4/conf/lb1/send_redirects=0
    for s in "${SERVERS[@]}"; do build_server "$s"; done
}

# A real server: its RIP, and the VIP of DR on lo, for which it must not answer ARP.
build_server() {
    local who=server-$1
    lab_cable "$who" eth0 clients "to-$1"
    ip -n "$(netns clients)" link set "to-$1" master switch
    set_sysctl "$who" ipv4/conf/all/arp_ignore=1 ipv4/conf/all/arp_announce=2
    address "$who" eth0 "${RIP[$1]}/24"
    address "$who" lo $VIP_DR/32
    ip -n "$(netns "$who")" -batch - <<-LINES
	route add default via 10.1.0.1
	route add default via 10.1.0.254 table 100
	rule add from $VIP_DR lookup 100
	LINES
    mkdir -p "$LAB_DIR/$1"
    cat >"$LAB_DIR/$1/nginx.conf" <<-CONF
	daemon off;
	master_process off;
	pid $LAB_DIR/$1/nginx.pid;
	error_log $LAB_DIR/$1/error.log;
	events { worker_connections 512; }
	http {
	    access_log off;
	    client_body_temp_path $LAB_DIR/$1; proxy_temp_path $LAB_DIR/$1; fastcgi_temp_path $LAB_DIR/$1;
	    uwsgi_temp_path $LAB_DIR/$1; scgi_temp_path $LAB_DIR/$1;
	    server {
	        listen 80;
	        listen 8080;
	        return 200 "server-$1 here: you are \$remote_addr, you reached me at \$server_addr:\$server_port\n";
	    }
	}
	CONF
    on "$who" nginx -e "$LAB_DIR/$1/error.log" -p "$LAB_DIR/$1" -c "$LAB_DIR/$1/nginx.conf" </dev/null \
        >"$LAB_DIR/$1/out.log" 2>&1 &
}

wait_for_servers() {
    local s
    for s in "${SERVERS[@]}"; do
        for ((tenths = 0; tenths < 50; tenths++)); do
            on "server-$s" curl -fsS -o /dev/null --max-time 2 "http://${RIP[$s]}/" 2>/dev/null && continue 2
            sleep 0.1
        done
        fail "nginx of server-$s does not answer: $(cat "$LAB_DIR/$s"/*.log)"
    done
}

start_xvs() {
    # With a socket of its own, should another xvs run on this machine.
    cp config/lab.toml "$LAB_DIR/xvs.toml"
    printf '\n[api]\nsocket = "%s"\n' "$XVS_SOCKET" >>"$LAB_DIR/xvs.toml"
    ip netns exec "$(netns director)" "$XVS" run --config "$LAB_DIR/xvs.toml" \
        >"$LAB_DIR/report" 2>"$LAB_DIR/xvs.log" </dev/null &
    XVS_PID=$! # `ip netns exec` becomes the command it runs
    for ((tenths = 0; tenths < READY_S * 10; tenths++)); do
        grep -qw ready "$LAB_DIR/xvs.log" && return
        kill -0 "$XVS_PID" 2>/dev/null || break
        sleep 0.1
    done
    show <"$LAB_DIR/xvs.log" >&2
    fail "xvs did not become ready"
}

# requests VIP: asks REQUESTS times, from the client addresses in turn, and holds the tally against the weights.
requests() {
    local vip=$1 i s answer sum=0 expected
    local -A got=([a]=0 [b]=0 [c]=0)
    for ((i = 0; i < REQUESTS; i++)); do
        if answer=$(on clients curl -fsS --max-time 5 --interface "${CLIENTS[i % ${#CLIENTS[@]}]}" "http://$vip/" 2>&1); then
            s=${answer#server-} s=${s%% *}
            got[$s]=$((${got[$s]:-0} + 1))
        else
            FAILURES=$((FAILURES + 1))
        fi
        if ((i < 6)); then say "   \$ curl http://$vip/    $answer"; fi
    done
    say "   ... $REQUESTS requests in all"
    for s in "${SERVERS[@]}"; do sum=$((sum + WEIGHT[$s])); done
    printf '\n   %-10s%8s%10s%6s\n' server weight expected got
    for s in "${SERVERS[@]}"; do
        expected=$((REQUESTS * WEIGHT[$s] / sum))
        if ((got[$s] == expected)); then answer=ok; else answer=WRONG FAILURES=$((FAILURES + 1)); fi
        printf '   %-10s%8d%10d%6d  %s\n' "server-$s" "${WEIGHT[$s]}" "$expected" "${got[$s]}" "$answer"
    done
}

# admin COMMAND...: types it on the director.
admin() {
    local said status=0
    said=$(on director "$@" 2>&1) || status=$?
    say "   \$ $*"
    if [ -n "$said" ]; then show <<<"$said"; fi
    if ((status != 0)); then
        say "   exit status $status"
        FAILURES=$((FAILURES + 1))
    fi
}

# What an operator of LVS types while it forwards: a server is taken out and put back, and no request fails.
change_while_it_runs() {
    local answer
    admin ipvsadm -Ln
    say
    admin ipvsadm -d -t $VIP_NAT:80 -r "${RIP[a]}:8080"
    for cip in "${CLIENTS[@]}"; do
        answer=$(on clients curl -fsS --max-time 5 --interface "$cip" "http://$VIP_NAT/" 2>&1) || FAILURES=$((FAILURES + 1))
        say "   \$ curl http://$VIP_NAT/    $answer"
        case $answer in server-a*) FAILURES=$((FAILURES + 1)) ;; esac
    done
    admin xvs show drift
    admin xvs reload
    say
    sleep 2.2 # counters are those of the estimator's last look, every two seconds, as with IPVS
    admin ipvsadm -Ln --stats
    admin xvs show connections --limit 4
    admin xvs show drops
    admin xvs show interfaces
}

stop_xvs() {
    local status=0
    kill -TERM "$XVS_PID"
    for ((tenths = 0; tenths < READY_S * 10; tenths++)); do
        kill -0 "$XVS_PID" 2>/dev/null || break
        sleep 0.1
    done
    if kill -0 "$XVS_PID" 2>/dev/null; then fail "xvs still runs $READY_S s after SIGTERM"; fi
    wait "$XVS_PID" || status=$?
    say "   exit status $status"
    if ((status != 0)); then
        show <"$LAB_DIR/xvs.log"
        FAILURES=$((FAILURES + 1))
    fi
    if ip -n "$(netns director)" link show | grep -q prog/xdp; then
        say "   an XDP program is still attached"
        FAILURES=$((FAILURES + 1))
    else
        say "   no XDP program left on lb0 and lb1"
    fi
}

need_root
step "What it needs"
scripts/setup.sh | show
find_cargo

step "Building xvs (the first time takes a few minutes)"
cargo build --release --locked 2>&1 | show

trap lab_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
step "A network of five namespaces, two queues on every wire"
lab_begin xvsdemo
mkdir "$LAB_DIR/bin"
ln -s "$XVS" "$LAB_DIR/bin/xvs"
ln -s "$XVS" "$LAB_DIR/bin/ipvsadm"
export PATH="$LAB_DIR/bin:$PATH" XVS_SOCKET="$LAB_DIR/xvs.sock"
build_lab
wait_for_servers
cat <<PICTURE
   clients 10.0.1.1-4                          server-a 10.1.0.11
      |        |          director             server-b 10.1.0.12
      |     10.0.0.0/16   lb0      lb1         server-c 10.1.0.13
      |        +----------+  xvs   +---10.1.0.0/24---+
      +------------------------------- (switch) -----+
PICTURE

step "Starting xvs: \`xvs run --config config/lab.toml\` on lb0 and lb1"
start_xvs
show <"$LAB_DIR/xvs.log"

step "NAT: http://$VIP_NAT/, address and port rewritten, replies come back through the director"
requests $VIP_NAT

step "DR: http://$VIP_DR/, only the MAC address changes, the servers answer the clients directly"
requests $VIP_DR

step "Driving it while it forwards: ipvsadm is a link to xvs"
change_while_it_runs

step "Stopping xvs (SIGTERM)"
stop_xvs

if ((FAILURES > 0)); then
    say
    fail "$FAILURES failures, see above"
fi
printf '\nAll %d requests answered, every share as its weight says.\n' $((2 * REQUESTS))
