//! What LVS how-tos and blog posts say, typed as it stands: bash, and `ipvsadm` is a link to xvs.

use std::net::SocketAddrV4;
use std::process::Stdio;

use crate::client;
use crate::lab::{self, Lab, NAT_VIP};
use crate::xvs::{Xvs, config, ends, ipvsadm, shell, until};

const VIP: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);

/// `set -e` and `pipefail` are on: each command must succeed.
const HOW_TO: &str = r"
VIP=10.0.0.100
ipvsadm -C
ipvsadm -A -t $VIP:80 -s wrr
ipvsadm -a -t $VIP:80 -r 10.1.0.11:8080 -m -w 1
ipvsadm -a -t $VIP:80 -r 10.1.0.12:8080 -m -w 2
ipvsadm -a -t $VIP:80 -r 10.1.0.13:8080 -m -w 1
ipvsadm -E -t $VIP:80 -s rr
ipvsadm --set 1 120 300
ipvsadm -Ln
echo --- numeric connections
ipvsadm -lnc
timeout 3 watch -n1 ipvsadm -lnc || [ $? = 124 ]
ipvsadm -Ln > listing
ipvsadm-save > rules
ipvsadm-save -n > rules.numeric
ipvsadm -C
ipvsadm -Ln > empty
ipvsadm-restore < rules
ipvsadm-save | diff rules -
ipvsadm -S -n | ipvsadm -R 2> twice || echo restored twice: $?
ipvsadm-save -n | diff rules.numeric -
ipvsadm -S -n > again; ipvsadm -C; ipvsadm -R < again
ipvsadm -S -n | diff rules.numeric -
ipvsadm -L -n --stats
ipvsadm -L -n --rate
ipvsadm -L -n --timeout
ipvsadm -Z
";

const LISTING: &str = "\
IP Virtual Server version 1.2.1 (size=1048576)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

#[test]
fn the_commands_of_how_tos_work_as_they_stand() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[]));
    // `watch` wants to know the terminal.
    let (status, out, err) = ends(shell(&lab, HOW_TO).env("TERM", "vt100"));
    assert!(status.success(), "{status}\n{out}{err}");
    let file = |name: &str| std::fs::read_to_string(lab.dir().join(name)).expect(name);
    let rows = "\
TCP  10.0.0.100:80 rr
  -> 10.1.0.11:8080               Masq    1      0          0         
  -> 10.1.0.12:8080               Masq    2      0          0         
  -> 10.1.0.13:8080               Masq    1      0          0         
";
    let header = |text: &str| text.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(header(&file("listing")), header(LISTING) + rows);
    assert_eq!(header(&file("empty")), header(LISTING));
    assert_eq!(
        file("rules.numeric"),
        "-A -t 10.0.0.100:80 -s rr\n\
         -a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -w 1\n\
         -a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m -w 2\n\
         -a -t 10.0.0.100:80 -r 10.1.0.13:8080 -m -w 1\n"
    );
    assert!(file("rules").starts_with("-A -t 10.0.0.100:http -s rr\n"), "{}", file("rules"));
    assert!(file("twice").contains("Service already exists"), "{}", file("twice"));
    assert!(out.contains("Every 1.0s: ipvsadm -lnc"), "watch showed nothing:\n{out}");
    assert!(out.contains("IPVS connection entries"), "{out}");
    assert!(out.contains("Timeout (tcp tcpfin udp): 1 120 300"), "{out}");
    let names = client::run(&lab, async || client::servers_in_a_row(3, lab::client(0), VIP).await);
    assert!(["A", "B", "C"].iter().all(|name| names.contains(name)), "{names}");
}

/// The health check of countless blog posts.
const LOOP: &str = r#"
VIP=10.0.0.100:80
ipvsadm -C
ipvsadm -A -t $VIP -s rr
while true; do
  for RS in 10.1.0.11:8080 10.1.0.12:8080 10.1.0.13:8080; do
    if curl -s -o /dev/null --max-time 1 http://$RS/; then
      ipvsadm -Ln | grep -q "$RS" || { echo "$RS up"; ipvsadm -a -t $VIP -r $RS -m -w 1; }
    else
      ipvsadm -Ln | grep -q "$RS" && { echo "$RS down"; ipvsadm -d -t $VIP -r $RS; }
    fi
  done
  sleep 0.2
done
"#;

#[test]
fn a_loop_with_curl_and_ipvsadm_keeps_clients_at_living_servers() {
    const B: &str = "10.1.0.12:8080";
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[]));
    let log = std::fs::File::create(lab.dir().join("loop.log")).expect("a file");
    let mut watcher = shell(&lab, LOOP)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("bash");
    let listed = || (0..4).filter(|n| ipvsadm(&lab, "-Ln").contains(&format!("10.1.0.1{n}:"))).count();
    let names =
        |count| client::run(&lab, async || client::servers_in_a_row(count, lab::client(0), VIP).await);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("all servers are found alive", || listed() == 3);
        for _ in 0..2 {
            let all = names(9);
            assert_eq!((all.len(), all.matches('B').count()), (9, 3), "{all}");
            lab.stop_server("b");
            until("the loop has noticed the end", || !ipvsadm(&lab, "-Ln").contains(B));
            let living = names(20);
            assert!(living.len() == 20 && living.chars().all(|name| "AC".contains(name)), "{living}");
            lab.restart_server("b");
            until("the loop has noticed the return", || ipvsadm(&lab, "-Ln").contains(B));
        }
        let all = names(9);
        assert_eq!((all.len(), all.matches('B').count()), (9, 3), "{all}");
    }));
    let ended_before = watcher.try_wait().expect("wait");
    let _ = watcher.kill();
    let _ = watcher.wait();
    let log = std::fs::read_to_string(lab.dir().join("loop.log")).expect("its log");
    if let Err(panic) = run {
        eprintln!("---- log of the loop\n{log}");
        std::panic::resume_unwind(panic);
    }
    assert!(ended_before.is_none(), "the loop ended: {ended_before:?}\n{log}");
    let (up, down) = (format!("{B} up\n"), format!("{B} down\n"));
    let heard: String = log.split_inclusive('\n').filter(|line| line.starts_with(B)).collect();
    assert_eq!(heard, [&up, &down, &up, &down, &up].map(String::as_str).concat(), "{log}");
    assert_eq!(log.lines().count(), 2 + 5, "it said something else:\n{log}");
}
