//! What comes up of offloaded connections: packets that may change them or need an answer, and all of them once something
//! else has changed.

use xvs::director::conn::state::State;
use xvs::director::service::{Method, Protocol};
use xvs::xdp::steer::offload::Why;

use super::kinds::{Flow, KINDS};
use super::{IP, Rig, in_a_namespace, mend_ip};
use crate::table::{service, tcp};
use crate::tagged;

const NAT: &str = KINDS[0].vip;
const NAT_SERVER: &str = KINDS[0].server;

/// The reasons of what came up between two looks.
fn since(before: &[(Why, u64)], after: &[(Why, u64)]) -> Vec<Why> {
    let more = |(before, after): (&(Why, u64), &(Why, u64))| {
        let count = usize::try_from(after.1 - before.1).unwrap();
        std::iter::repeat_n(after.0, count)
    };
    before.iter().zip(after).flat_map(more).collect()
}

/// Frames that are almost `plain`, each with what is wrong with it, or rather not for the program to handle; and with the
/// reason that is counted, if it can be told whose it is.
fn up(flow: &Flow, plain: &[u8]) -> Vec<(&'static str, Option<Why>, Vec<u8>)> {
    let kind = flow.kind;
    let l4 = kind.l4();
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = plain.to_vec();
        edit(&mut frame);
        mend_ip(&mut frame);
        frame
    };
    let mut up = vec![
        ("truncated", Some(Why::Header), plain[..plain.len() - 1].to_vec()),
        ("other MAC", Some(Why::OtherMac), edited(&|f| f[5] ^= 1)),
        ("VLAN", Some(Why::Vlan), tagged(plain, 0x8100)),
    ];
    let too_long = 1501 - if kind.is_v4() { 0 } else { 40 };
    let set_len = move |f: &mut Vec<u8>, at: usize, len: usize| {
        f[at..at + 2].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    };
    if kind.is_v4() {
        up.extend([
            ("TTL of 1", Some(Why::Ttl), edited(&|f| f[IP + 8] = 1)),
            ("TTL of 0", Some(Why::Ttl), edited(&|f| f[IP + 8] = 0)),
            ("first fragment", Some(Why::Fragment), edited(&|f| f[IP + 6] = 0x20)),
            ("later fragment", None, edited(&|f| f[IP + 7] = 1)),
            ("other protocol", None, edited(&|f| f[IP + 9] = if kind.is_tcp() { 17 } else { 6 })),
            ("version", None, edited(&|f| f[IP] = 0x65)),
            ("header length", None, edited(&|f| f[IP] = 0x44)),
            (
                "IP options",
                Some(Why::Options),
                edited(&|f| {
                    f[IP] = 0x46;
                    f.splice(l4..l4, [1, 1, 1, 0]);
                    let len = f.len() - IP;
                    set_len(f, IP + 2, len);
                }),
            ),
        ]);
        let mut wrong_sum = plain.to_vec();
        wrong_sum[IP + 10] ^= 1;
        up.push(("IP checksum", Some(Why::Header), wrong_sum));
    } else {
        let extended = |number: u8, third: [u8; 2]| {
            edited(&|f| {
                let protocol = std::mem::replace(&mut f[IP + 6], number);
                f.splice(l4..l4, [protocol, 0, third[0], third[1], 0, 0, 0, 0]);
                let len = f.len() - l4;
                set_len(f, IP + 4, len);
            })
        };
        up.extend([
            ("hop limit of 1", Some(Why::Ttl), edited(&|f| f[IP + 7] = 1)),
            ("hop limit of 0", Some(Why::Ttl), edited(&|f| f[IP + 7] = 0)),
            ("hop-by-hop options", Some(Why::Options), extended(0, [1, 4])),
            ("destination options", Some(Why::Options), extended(60, [1, 4])),
            ("routing header", None, extended(43, [0, 0])),
            ("whole datagram in a fragment", Some(Why::Fragment), extended(44, [0, 0])),
            ("first fragment", Some(Why::Fragment), extended(44, [0, 1])),
            ("later fragment", None, extended(44, [0, 8])),
            ("other protocol", None, edited(&|f| f[IP + 6] = if kind.is_tcp() { 17 } else { 6 })),
            ("version", None, edited(&|f| f[IP] = 0x45)),
        ]);
    }
    up.push((
        "too long",
        Some(Why::TooLong),
        edited(&|f| {
            f.resize(IP + 1501, 0);
            set_len(f, if kind.is_v4() { IP + 2 } else { IP + 4 }, too_long);
            if kind.protocol == Protocol::Udp {
                set_len(f, l4 + 4, 1501 - (l4 - IP));
            }
        }),
    ));
    match kind.protocol {
        Protocol::Tcp => {
            for (name, flags) in [("FIN", 0x11), ("RST", 0x14), ("no ACK", 0x08)] {
                up.push((name, Some(Why::State), edited(&|f| f[l4 + 13] = flags)));
            }
            // Whose a SYN is nobody asks.
            for (name, flags) in [("SYN", 0x02), ("SYN and ACK", 0x12), ("all flags", 0xff)] {
                up.push((name, None, edited(&|f| f[l4 + 13] = flags)));
            }
            up.push(("data offset too small", Some(Why::Header), edited(&|f| f[l4 + 12] = 0x40)));
            up.push(("data offset too large", Some(Why::Header), edited(&|f| f[l4 + 12] = 0xf0)));
        }
        Protocol::Udp => {
            up.push(("UDP length too small", Some(Why::Header), edited(&|f| f[l4 + 5] = 7)));
            up.push(("UDP length too large", Some(Why::Header), edited(&|f| f[l4 + 4] = 1)));
        }
        Protocol::Sctp => {
            for chunk in [1, 2, 6, 7, 8, 9, 10, 11, 12, 14, 192] {
                up.push(("SCTP chunk", Some(Why::State), edited(&|f| f[l4 + 12] = chunk)));
            }
        }
    }
    up
}

#[test]
fn what_may_change_a_connection_or_needs_an_answer_comes_up() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        for number in 0..KINDS.len() {
            let flow = rig.opened(number);
            let plain = flow.inward();
            for (name, why, frame) in up(&flow, &plain) {
                let before = rig.came_up();
                assert_eq!(rig.carry(&frame), None, "{name} of {flow:?}");
                assert_eq!(since(&before, &rig.came_up()), Vec::from_iter(why), "{name} of {flow:?}");
            }
            assert!(rig.carry(&plain).is_some(), "the plain one goes on");
            assert!(rig.carry(&[&plain[..], &[0; 9]].concat()).is_some(), "so it does with padding");
            if flow.kind.is_v4() {
                let mut frame = plain;
                frame[IP + 6] = 0x40;
                mend_ip(&mut frame);
                assert!(rig.carry(&frame).is_some(), "and with DF");
            }
        }
    });
}

#[test]
fn whatever_changes_brings_the_flow_up_at_once() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        let flow = rig.opened(0);
        let [inward, outward] = [flow.inward(), flow.outward().unwrap()];
        let goes = |rig: &mut Rig| [rig.carry(&inward).is_some(), rig.carry(&outward).is_some()];
        let why = |rig: &mut Rig| {
            let before = rig.came_up();
            goes(rig);
            since(&before, &rig.came_up())
        };
        assert_eq!(goes(&mut rig), [true; 2]);

        // A weight concerns new connections only; a server that goes concerns its own.
        rig.table.weigh("tcp:10.0.0.100:80", NAT_SERVER, 7);
        assert_eq!(goes(&mut rig), [true; 2], "another weight");
        rig.table.take_out("tcp:10.0.0.101:80", "10.1.0.12:80");
        assert_eq!(goes(&mut rig), [false; 2], "a server was removed");
        assert_eq!(why(&mut rig), [Why::Changed; 2]);
        for _ in 0..3 {
            rig.tick();
            rig.engine(&inward);
            rig.engine(&outward);
        }
        assert_eq!(goes(&mut rig), [true; 2], "offered anew");

        // A MAC address is another one, unknown, known again.
        rig.table.hops.macs.insert(11, [2, 0, 0, 0, 0xb, 11]);
        rig.tell_network();
        let (_, left) = rig.carry(&inward).expect("carried");
        assert_eq!(left[..6], [2, 0, 0, 0, 0xb, 11]);
        rig.table.hops.macs.remove(&11);
        rig.tell_network();
        assert_eq!(goes(&mut rig), [false, true], "nobody knows the server's MAC address");
        assert_eq!(why(&mut rig), [Why::NoHop]);
        rig.table.hops.macs.insert(11, [2, 0, 0, 0, 0xc, 11]);
        rig.tell_network();
        assert_eq!(goes(&mut rig), [true; 2]);

        rig.table.hops.generation += 1;
        rig.tell_network();
        assert_eq!(goes(&mut rig), [false; 2], "the routes have changed");
        for _ in 0..3 {
            rig.tick();
            rig.engine(&inward);
            rig.engine(&outward);
        }
        assert_eq!(goes(&mut rig), [true; 2], "offered anew");

        rig.engine(&tcp(&flow.client, NAT, "FA"));
        assert_eq!(goes(&mut rig), [false; 2], "the client closes");
        assert_eq!(why(&mut rig), [Why::Ended; 2]);
        assert_eq!(rig.table.states()[0].1, State::CloseWait);
    });
}

#[test]
fn the_newest_connection_has_the_replies() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        rig.table.change(|draft| {
            let pool = service(Protocol::Tcp, "10.0.0.100:81", Method::Nat, &[(NAT_SERVER, 1)]);
            draft.add_service(pool.service)?;
            draft.add_server(pool.service.key, pool.servers[0]).map(drop)
        });
        let older = rig.opened(0);
        assert!(rig.carry(&older.outward().unwrap()).is_some());
        // From the same port to another service with the same server: the server's packets look alike.
        rig.engine(&tcp(&older.client, "10.0.0.100:81", "S"));
        let reply = older.outward().unwrap();
        assert_eq!(rig.carry(&reply), None);
        let (_, left) = rig.engine(&reply);
        assert_eq!(left[34..36], 81_u16.to_be_bytes());
    });
}
