//! What real clients see when xvs goes no further with a packet: what they would see behind IPVS.

use std::io::ErrorKind;

use crate::client::{self, connect, patiently};
use crate::lab::{self, DR, Lab, NAT};
use crate::xvs::{Xvs, abc, config, nat, service};

#[test]
fn without_an_available_server_a_client_is_refused_at_once() {
    let lab = Lab::new();
    let _xvs = Xvs::start(
        &lab,
        &config(&[
            service(("tcp", NAT), ("wlc", "nat"), &abc(8080, [0; 3])),
            service(("tcp", DR), ("wlc", "dr"), &abc(80, [0; 3])),
        ]),
    );
    client::run(&lab, async || {
        for vip in [NAT, DR] {
            let refused = connect(lab::client(0), vip).await.map(drop).expect_err("there is no server");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{vip}");
        }
    });
}

#[test]
fn a_connection_from_before_a_restart_is_reset_and_not_left_hanging() {
    let lab = Lab::new();
    let config = config(&[nat()]);
    let xvs = Xvs::start(&lab, &config);
    client::run(&lab, async || {
        let mut open = connect(lab::client(0), NAT).await.expect("connected");
        patiently(open.ask("name")).await.expect("answered");
        xvs.kill();
        let _again = Xvs::start(&lab, &config);
        let reset = patiently(open.ask("name")).await.map(drop).expect_err("nobody knows it any more");
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    });
}
