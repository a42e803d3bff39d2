//! Services of firewall marks: rules give the mark, one service has several ports.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddrV4;

use crate::client;
use crate::lab::{self, Lab, NAT_VIP};
use crate::server::Server;
use crate::xvs::{Xvs, config, ipvsadm, say};

#[test]
fn the_ports_of_a_mark_are_balanced_and_others_are_left_to_the_host() {
    let lab = Lab::new();
    let at = |port| SocketAddrV4::new(NAT_VIP, port);
    // The port beside 80 that the lab's servers do not listen on; and one that the host itself serves.
    let more: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let port = [SocketAddrV4::new(lab::rip(name), 81)];
            Server::start(&lab.netns(name), name, &port, &[], lab.dir())
        })
        .into();
    let host = Server::start(&lab.netns("director"), "host", &[at(82)], &[], lab.dir());
    let xvs = Xvs::start(&lab, &config(&[]));
    say(&lab, &["mark", "add", "5", "--protocol", "tcp", "--to", &NAT_VIP.to_string(), "--ports", "80-81"]);
    ipvsadm(&lab, "-A -f 5 -s rr");
    for name in ["a", "b", "c"] {
        ipvsadm(&lab, &format!("-a -f 5 -r {} -m", lab::rip(name)));
    }
    assert!(ipvsadm(&lab, "-Ln").contains("FWM  5 rr\n"), "{}", ipvsadm(&lab, "-Ln"));
    client::run(&lab, async || {
        let ask = async |port| client::name_of_server(lab::client(0), at(port)).await;
        for port in [80, 81] {
            let mut names = BTreeSet::new();
            for _ in 0..3 {
                names.insert(ask(port).await.expect("answered"));
            }
            assert_eq!(names.len(), 3, "port {port}: {names:?}");
        }
        assert_eq!(ask(82).await.expect("the host's own"), "host");
        assert_eq!(ask(83).await.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);

        // Without its service, and then without its rule, the mark is nobody's business.
        ipvsadm(&lab, "-D -f 5");
        assert_eq!(ask(80).await.expect_err("the host's").kind(), ErrorKind::ConnectionRefused);
    });
    drop((host, more));
    xvs.stop();
}
