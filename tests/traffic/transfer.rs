//! A large file through the director, both ways, byte for byte.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::client;
use crate::file::File;
use crate::lab::{self, DR, Lab, NAT, alone};
use crate::xvs::{Xvs, config, dr, nat, stats};

/// 64 MiB.
const FILE_LEN: usize = 64 << 20;
/// For one direction. It takes a second or two.
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_64_mib_file_arrives_intact_both_ways_by_nat() {
    let report = a_file_both_ways(nat(), NAT);
    let [conns, _, _, in_bytes, out_bytes] = stats(&report, "TCP", NAT);
    assert_eq!(conns, 1);
    let len = u64::try_from(FILE_LEN).unwrap();
    assert!(in_bytes > len && out_bytes > len, "both directions are counted: {in_bytes} in, {out_bytes} out");
}

#[test]
fn a_64_mib_file_arrives_intact_both_ways_by_dr() {
    let report = a_file_both_ways(dr(), DR);
    let [conns, _, out_packets, in_bytes, _] = stats(&report, "TCP", DR);
    assert_eq!(conns, 1);
    assert!(in_bytes > u64::try_from(FILE_LEN).unwrap(), "the upload is counted: {in_bytes} in");
    assert_eq!(out_packets, 0, "replies pass the director by");
}

/// Down from the server and up to it on one connection; the report of xvs.
fn a_file_both_ways(service: String, vip: SocketAddrV4) -> String {
    let _alone = alone();
    let lab = Lab::new();
    let file = File::new(&lab, FILE_LEN, TRANSFER_LIMIT);
    let xvs = Xvs::start(&lab, &config(&[service]));
    client::run(&lab, async || file.both_ways(lab::client(0), vip).await);
    xvs.stop()
}
