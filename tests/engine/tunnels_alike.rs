//! TUN: packets with room that is just what their headers need are written by a way of their own. What leaves, and what
//! is told and counted, is the same as without room, which goes the way of all others.

use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol, Tunnel};

use crate::table::*;

const VIP: &str = "10.0.0.100:53";

fn table(tunnel: Tunnel) -> Table {
    Table::new(&[service(
        Protocol::Udp,
        VIP,
        Method::Tun(tunnel),
        &[("10.1.0.11:53", 1), ("10.1.0.12:53", 1)],
    )])
}

/// A datagram with this in its IP header.
fn datagram(client: &str, len: usize, class: u8, ttl: u8, df: bool) -> Vec<u8> {
    let mut frame = udp(client, VIP, &vec![7; len]);
    (frame[15], frame[20], frame[22]) = (class, if df { 0x40 } else { 0 }, ttl);
    mend_ip(&mut frame);
    frame
}

/// Both tables' verdict and frame: the first gets the frame with room, the second without.
fn both(tables: &mut [Table; 2], frame: &[u8], tunnel: Tunnel) -> [(Verdict, Vec<u8>); 2] {
    let [with, without] = tables;
    let roomy = with_room(frame, tunnel.overhead(true));
    [with.batch(0, &[roomy], OUTSIDE).remove(0), without.batch(0, &[frame.to_vec()], OUTSIDE).remove(0)]
}

#[test]
fn with_room_or_without_the_same_leaves_and_the_same_is_told() {
    for tunnel in TUNNELS {
        let mut tables = [table(tunnel), table(tunnel)];
        let mut sent = 0;
        for pmtu_disc in [1, 0] {
            tables.iter_mut().for_each(|t| t.tune("pmtu_disc", pmtu_disc));
            for (vlan, client) in
                [(None, "192.0.2.7:40000"), (Some(7), "192.0.2.8:40001"), (None, "192.0.2.9:1")]
            {
                for mtu in [1500, 600, 90, 0] {
                    tables.iter_mut().for_each(|t| (t.hops.mtu, t.hops.vlans) = (mtu, [vlan; 2]));
                    let fits = usize::from(mtu).saturating_sub(28 + tunnel.overhead(true)).min(1400);
                    for len in [0, 12, 13, fits.saturating_sub(1), fits, fits + 1] {
                        for (class, ttl, df) in
                            [(0, 64, true), (0x2d, 2, false), (0xbb, 1, true), (3, 255, false)]
                        {
                            let frame = datagram(client, len, class, ttl, df);
                            let [with, without] = both(&mut tables, &frame, tunnel);
                            let what =
                                format!("{tunnel:?} {vlan:?} MTU {mtu}: {len} bytes, TTL {ttl}, DF {df}");
                            assert_eq!(with.0, without.0, "{what}");
                            if !matches!(with.0, Verdict::Drop(_)) {
                                assert_eq!(with.1, without.1, "{what}");
                            }
                            sent += usize::from(matches!(with.0, Verdict::Transmit(_)));
                            let [with, without] = &mut tables;
                            assert!(with.made.drain(..).eq(without.made.drain(..)), "{what}");
                        }
                    }
                }
            }
        }
        assert!(sent > 100, "{tunnel:?}: {sent}");
    }
}
