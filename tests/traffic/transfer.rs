//! A large file through the director, both ways, byte for byte.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client::{self, connect, patiently, within};
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, alone};
use crate::netns::succeed;
use crate::xvs::{Xvs, abc, config, service, stats};

/// 64 MiB.
const FILE_LEN: usize = 64 << 20;
/// For one direction. It takes a second or two.
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_64_mib_file_arrives_intact_both_ways_by_nat() {
    let report = a_file_both_ways("nat", SocketAddrV4::new(NAT_VIP, 80), 8080);
    let [conns, _, _, in_bytes, out_bytes] = stats(&report, "TCP", SocketAddrV4::new(NAT_VIP, 80));
    assert_eq!(conns, 1);
    let len = u64::try_from(FILE_LEN).unwrap();
    assert!(in_bytes > len && out_bytes > len, "both directions are counted: {in_bytes} in, {out_bytes} out");
}

#[test]
fn a_64_mib_file_arrives_intact_both_ways_by_dr() {
    let report = a_file_both_ways("dr", SocketAddrV4::new(DR_VIP, 80), 80);
    let [conns, _, out_packets, in_bytes, _] = stats(&report, "TCP", SocketAddrV4::new(DR_VIP, 80));
    assert_eq!(conns, 1);
    assert!(in_bytes > u64::try_from(FILE_LEN).unwrap(), "the upload is counted: {in_bytes} in");
    assert_eq!(out_packets, 0, "replies pass the director by");
}

/// Down from the server and up to it on one connection; the report of xvs.
fn a_file_both_ways(forward: &str, vip: SocketAddrV4, port: u16) -> String {
    let _alone = alone();
    let lab = Lab::new();
    let file = random_bytes(FILE_LEN);
    std::fs::write(lab.dir().join("file"), &file).expect("file written");
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", vip), ("rr", forward), &abc(port, [1; 3]))]));
    let name = client::run(&lab, async || {
        let mut wire = connect(lab::client(0), vip).await.expect("connected");
        let name = patiently(wire.ask("name")).await.expect("name");
        wire.write(b"send file\n").await.expect("asked");
        let got = within(TRANSFER_LIMIT, wire.bytes(FILE_LEN)).await.expect("the whole file");
        std::fs::write(lab.dir().join("got"), got).expect("file written");
        let upload = async {
            wire.write(format!("take {FILE_LEN}\n").as_bytes()).await?;
            wire.write(&file).await?;
            wire.line().await
        };
        assert_eq!(within(TRANSFER_LIMIT, upload).await.expect("sent").as_deref(), Some("taken"));
        name
    });
    let sent = sha256(&lab.dir().join("file"));
    assert_eq!(sent, sha256(&lab.dir().join("got")), "from the server");
    assert_eq!(sent, sha256(&lab.dir().join(format!("{name}.taken"))), "to the server");
    xvs.stop()
}

fn sha256(path: &Path) -> String {
    let output = succeed(Command::new("sha256sum").arg(path));
    String::from_utf8_lossy(&output.stdout).split(' ').next().expect("a sum").to_owned()
}

/// Bytes without a pattern that a checksum could miss (xorshift64).
fn random_bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..len / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}
