//! The inputs to begin with, by the name of their scenario: committed under `seeds/`, written there by
//! `XVS_WRITE_SEEDS=1 cargo test --test fuzz_replay the_seeds`.

use super::script::shape::*;
use super::script::{ERROR, FRAGMENT, SCTP, SIX};
use super::table::{ip, sctp, tcp, udp};

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const C6: &str = "[2001:db8:7::7]:40000";
const VIP6: &str = "[2001:db8::100]:80";
const OPTIONS: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// Target, scenario, input.
pub fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let parse = parse().into_iter().map(|(name, frame)| ("parse", name, frame));
    let engine = engine().into_iter().map(|(name, script)| ("engine", name, script.0));
    let methods = methods().into_iter().map(|(name, script)| ("methods", name, script.0));
    let config = config().into_iter().map(|(name, text)| ("config", name, text.as_bytes().to_vec()));
    parse.chain(engine).chain(methods).chain(config).collect()
}

fn parse() -> Vec<(&'static str, Vec<u8>)> {
    let edited = |mut frame: Vec<u8>, edits: &[(usize, u8)]| {
        edits.iter().for_each(|&(at, value)| frame[at] = value);
        super::wire::mend_ip(&mut frame, 14);
        frame
    };
    let spliced = |mut frame: Vec<u8>, at: usize, bytes: &[u8]| {
        frame.splice(at..at, bytes.iter().copied());
        frame
    };
    let extended = |mut frame: Vec<u8>, headers: &[(u8, [u8; 7])]| {
        headers.iter().rev().for_each(|(number, rest)| super::script::extend(&mut frame, *number, *rest));
        frame
    };
    let (syn, query) = (tcp(C, VIP, "S"), udp(C, "10.0.0.100:53", b"question"));
    let init = sctp(C, VIP, &[(1, b"tag, window, streams")]);
    vec![
        ("tcp_syn", syn.clone()),
        ("tcp_fin_padded", [&tcp(C, VIP, "FA")[..], &[0; 9]].concat()),
        ("tcp_data_offset_too_large", edited(syn.clone(), &[(46, 0xf0)])),
        ("tcp_behind_ip_options", edited(spliced(syn.clone(), 34, &[1, 1, 1, 0]), &[(14, 0x46), (17, 69)])),
        ("udp", query.clone()),
        ("udp_without_checksum", edited(query.clone(), &[(40, 0), (41, 0)])),
        ("udp_length_below_its_header", edited(query.clone(), &[(39, 7)])),
        ("vlan", spliced(query.clone(), 12, &[0x81, 0, 0, 7])),
        ("provider_tag", spliced(query.clone(), 12, &[0x88, 0xa8, 0, 7])),
        ("two_tags", spliced(query.clone(), 12, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8])),
        ("first_fragment", edited(query.clone(), &[(20, 0x20)])),
        ("last_fragment", edited(query.clone(), &[(21, 1)])),
        ("icmp", edited(query.clone(), &[(23, 1)])),
        ("ipv6", edited(query.clone(), &[(12, 0x86), (13, 0xdd), (14, 0x60)])),
        ("ipv6_tcp", tcp(C6, VIP6, "S")),
        ("ipv6_udp_behind_options", extended(udp(C6, VIP6, b"question"), &[(0, OPTIONS), (60, OPTIONS)])),
        ("ipv6_source_route_at_its_end", extended(tcp(C6, VIP6, "A"), &[(43, [0, 4, 0, 0, 0, 0, 0])])),
        ("ipv6_source_route", extended(tcp(C6, VIP6, "A"), &[(43, [0, 4, 1, 0, 0, 0, 0])])),
        ("ipv6_too_many_options", extended(tcp(C6, VIP6, "A"), &[(60, OPTIONS); 7])),
        ("ipv6_options_beyond_the_packet", extended(tcp(C6, VIP6, "A"), &[(60, [200, 1, 4, 0, 0, 0, 0])])),
        ("ipv6_whole_with_a_fragment_header", extended(tcp(C6, VIP6, "A"), &[(44, [0; 7])])),
        (
            "ipv6_first_fragment",
            extended(udp(C6, VIP6, b"question"), &[(0, OPTIONS), (44, [0, 0, 1, 0, 0, 0, 9]), (60, OPTIONS)]),
        ),
        (
            "ipv6_tiny_fragment",
            extended(udp(C6, VIP6, b"question"), &[(44, [0, 0, 1, 0, 0, 0, 9])])[..66].to_vec(),
        ),
        ("ipv6_last_fragment", extended(udp(C6, VIP6, b"question"), &[(44, [0, 1, 0, 0, 0, 0, 9])])),
        ("icmp_error", super::script::error(&udp(VIP, C, b"answer"))),
        ("icmpv6_error", super::script::error(&udp(VIP6, C6, b"answer"))),
        (
            "icmpv6_error_about_a_fragment_behind_options",
            super::script::error(&extended(
                udp(VIP6, C6, b"answer"),
                &[(60, OPTIONS), (44, [0, 0, 1, 0, 0, 0, 9])],
            )),
        ),
        ("ipv6_esp", {
            let (from, to) = ("2001:db8:7::7".parse().unwrap(), "2001:db8::100".parse().unwrap());
            ip(from, to, 50, &[1; 24])
        }),
        ("arp", edited(query.clone(), &[(13, 6)])),
        ("bad_ip_checksum", spliced(query[..24].to_vec(), 24, &query[26..])),
        ("truncated", syn[..40].to_vec()),
        ("sctp_init", init.clone()),
        ("sctp_cookie_and_abort", sctp(C, VIP, &[(10, b"cookie"), (6, b"")])),
        (
            "sctp_chunk_longer_than_the_packet",
            edited(sctp(C, VIP, &[(10, b"cookie"), (6, b"")]), &[(48, 0xff)]),
        ),
        ("sctp_chunk_without_a_length", edited(init.clone(), &[(48, 0), (49, 0)])),
        ("sctp_without_a_chunk", sctp(C, VIP, &[])),
        ("sctp_shorter_than_its_header", ip([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 132, &[1; 11])),
        ("esp", ip([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 50, &[1; 24])),
        (
            "ah_in_fragments",
            edited(ip([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 51, &[1; 24]), &[(20, 0x20)]),
        ),
    ]
}

/// A script being written.
struct Written(Vec<u8>);

// Ends of frames: the service, or its server's replies. The second client is `| CLIENT`.
const NAT: u8 = 0;
const DR: u8 = 1;
const UDP_NAT: u8 = 2;
const UDP_DR: u8 = 3;
const NAT_SAME_SERVERS: u8 = 4;
const NO_WEIGHT: u8 = 7;
const CLIENT: u8 = 8;
const REPLY: u8 = 64;
const REPLY_OF_SECOND: u8 = 64 | 128;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

// Changes of the world around.
const CLIENTS_UNKNOWN: u8 = 1;
const CLIENTS_UNREACHABLE: u8 = 2;
const SERVER_GONE: u8 = 3;
const SERVER_MOVED: u8 = 4;
const MTU: u8 = 5;
const VLAN_ON_OFF: u8 = 6;

const LEAP: u8 = 64;
const ASLEEP: u8 = 128;

impl Written {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A good packet with this shape.
    fn frame(self, ends: u8, flags: u8, shape: u8) -> Self {
        self.bytes(&[0, ends, flags, shape])
    }

    fn send(self, worker: u8) -> Self {
        self.bytes(&[4, worker])
    }

    /// A good packet by itself.
    fn one(self, worker: u8, ends: u8, flags: u8) -> Self {
        self.frame(ends, flags, 0).send(worker)
    }

    fn wait(self, how: u8) -> Self {
        self.bytes(&[5, how])
    }

    fn change(self, how: u8) -> Self {
        self.bytes(&[6, how])
    }

    fn flood(self, service: u8, count: u8) -> Self {
        self.bytes(&[7, service | (count - 1) << 3])
    }

    /// SYN, SYN and ACK, ACK.
    fn handshake(self, worker: u8) -> Self {
        let answer = |written: Self, ends| written.one(worker, ends, SYN | ACK);
        answer(answer(self.one(worker, NAT, SYN), REPLY), REPLY_OF_SECOND).one(worker, NAT, ACK)
    }
}

fn engine() -> Vec<(&'static str, Written)> {
    let new = Written::new;
    let mut truncated = new();
    for len in [0, 13, 14, 33, 34, 53, 54, 78] {
        truncated = truncated.frame(NAT, SYN, TRUNCATED).bytes(&[len]);
    }
    vec![
        (
            "nat_whole_connection",
            new()
                .handshake(0)
                .one(0, NAT, FIN | ACK)
                .one(0, REPLY, FIN | ACK)
                .one(0, REPLY_OF_SECOND, FIN | ACK)
                .one(0, NAT, ACK),
        ),
        ("nat_in_one_batch", new().frame(NAT, SYN, 0).frame(NAT, ACK, 0).frame(NAT, FIN, 0).send(1)),
        ("dr_from_one_side", new().one(0, DR, SYN).one(0, DR, ACK).wait(3).one(0, DR, FIN | ACK).wait(25)),
        (
            "udp_both_ways",
            new().one(0, UDP_NAT, 0).one(0, REPLY | UDP_NAT, 1).one(1, UDP_NAT | CLIENT, 1).wait(LEAP | 36),
        ),
        ("udp_dr", new().one(1, UDP_DR, 0).one(1, UDP_DR, 1).one(0, UDP_DR, 0)),
        (
            "flood_fills_the_table",
            new().flood(NAT, 32).flood(DR, 32).flood(UDP_NAT, 32).send(0).wait(LEAP | 20),
        ),
        (
            "flood_over_both_workers",
            new().flood(NAT, 32).send(0).flood(NAT, 32).send(1).wait(20).flood(NAT, 9),
        ),
        ("reset_then_the_same_ports", new().handshake(0).one(0, NAT, RST).one(0, NAT, SYN).one(0, NAT, ACK)),
        ("closed_by_the_other_worker", new().handshake(0).one(1, NAT, RST).wait(3).one(1, NAT, SYN).wait(8)),
        (
            "reopened_by_the_other_worker",
            new().one(0, NAT, SYN).one(0, REPLY, RST).one(0, REPLY_OF_SECOND, RST).one(1, NAT, SYN).wait(2),
        ),
        (
            "worker_asleep",
            new().one(1, NAT, SYN).wait(LEAP | ASLEEP | 63).one(0, NAT, SYN).wait(ASLEEP | 20).wait(4),
        ),
        ("two_vips_one_reply_tuple", {
            let both = new().one(0, NAT, SYN).one(0, NAT_SAME_SERVERS, SYN).one(0, NAT | CLIENT, SYN);
            both.one(0, NAT_SAME_SERVERS | CLIENT, SYN).one(0, NAT, RST).one(1, NAT_SAME_SERVERS, SYN)
        }),
        ("no_server_takes_new_ones", new().one(0, NO_WEIGHT, SYN).one(0, NAT, ACK).one(0, 6, SYN)),
        ("client_without_neighbour", new().change(CLIENTS_UNKNOWN).handshake(0).wait(3).one(0, REPLY, ACK)),
        ("routes_and_neighbours_change", {
            let gone =
                new().handshake(0).change(SERVER_GONE).one(0, NAT, ACK).change(SERVER_MOVED).one(0, NAT, ACK);
            gone.change(CLIENTS_UNREACHABLE).one(0, REPLY, ACK).one(0, REPLY_OF_SECOND, ACK)
        }),
        ("small_mtu", new().change(MTU).one(0, NAT, SYN).change(MTU).one(0, NAT, SYN)),
        (
            "fragments_in_any_order",
            new()
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[3, 18, 1, 19, 1, 20, 0x20, 21, 2])
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[1, 18, 1, 20, 0x20])
                .send(0)
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[2, 18, 1, 19, 1, 20, 0x20])
                .send(1)
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[2, 18, 1, 19, 1, 21, 4])
                .send(0)
                .wait(5),
        ),
        (
            "fragments_both_ways_and_overlapping",
            new()
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[0, 20, 0x20])
                .frame(UDP_NAT, 0, EDITED)
                .bytes(&[0, 21, 1])
                .send(0)
                .frame(REPLY | UDP_NAT, 0, EDITED)
                .bytes(&[0, 20, 0x20])
                .frame(REPLY | UDP_NAT, 0, EDITED)
                .bytes(&[0, 21, 2])
                .send(1)
                .wait(LEAP | 12),
        ),
        ("too_long_and_split", new().change(MTU).frame(NAT, SYN, EDITED).bytes(&[0, 20, 0]).send(0)),
        ("tagged", new().change(VLAN_ON_OFF).frame(NAT, SYN, VLAN | PADDED).frame(NAT, ACK, 0).send(0)),
        ("last_ttl", new().frame(NAT, SYN, LAST_TTL).frame(UDP_DR, 0, LAST_TTL | IP_OPTIONS).send(0)),
        (
            "ip_options_and_padding",
            new().frame(NAT, SYN, IP_OPTIONS | PADDED).frame(DR, SYN, IP_OPTIONS).send(1),
        ),
        ("udp_without_checksum", new().frame(UDP_NAT, 0, EDITED).bytes(&[1, 40, 0, 41, 0]).send(0)),
        ("payload_chosen_and_mended", new().frame(NAT, SYN, EDITED | MENDED).bytes(&[1, 60, 0xff, 61, 0xff])),
        ("wrong_transport_checksum", new().frame(NAT, SYN, EDITED).bytes(&[0, 50, 0xff])),
        ("wrong_ip_checksum", new().frame(NAT, SYN, EDITED | BAD_IP_CHECKSUM).bytes(&[0, 24, 0xff])),
        ("truncated", truncated),
        ("raw_bytes", new().bytes(&[3, 16]).bytes(b"sixteen raw ones")),
        (
            "sctp_whole_association",
            new()
                .one(0, NAT, SCTP | 1)
                .one(0, REPLY, SCTP | 2)
                .one(0, REPLY_OF_SECOND, SCTP | 2)
                .one(1, NAT, SCTP | 10 | 128)
                .one(0, REPLY, SCTP | 11)
                .one(0, NAT, SCTP)
                .frame(NAT, SCTP | 7, EDITED)
                .bytes(&[0, 70, 0xff])
                .one(0, NAT, SCTP | 10 | 64)
                .one(0, NAT, SCTP | 1)
                .wait(8),
        ),
        (
            "sctp_dr",
            new().one(0, DR, SCTP | 1).one(0, DR, SCTP | 15).one(0, DR, SCTP | 10).one(0, DR, SCTP | 6),
        ),
        (
            "ipv6_nat_whole_connection",
            new()
                .one(0, NAT, SYN | SIX)
                .one(0, REPLY, SYN | ACK | SIX)
                .one(0, REPLY_OF_SECOND, SYN | ACK | SIX)
                .one(0, NAT, ACK | SIX)
                .frame(NAT, ACK | SIX, IP_OPTIONS | PADDED)
                .send(1)
                .one(0, NAT, FIN | ACK | SIX)
                .one(0, NAT, RST | SIX)
                .wait(8),
        ),
        (
            "ipv6_udp_by_nat_and_dr",
            new().one(0, UDP_NAT, SIX).one(0, REPLY | UDP_NAT, SIX).one(1, UDP_DR, SIX | 1).wait(LEAP | 36),
        ),
        (
            "ipv6_fragments_in_any_order",
            new()
                .frame(UDP_NAT, SIX | FRAGMENT, EDITED)
                .bytes(&[1, 57, 17, 61, 9])
                .send(0)
                .frame(UDP_NAT, SIX | FRAGMENT, EDITED)
                .bytes(&[1, 57, 1, 61, 9])
                .send(1)
                .frame(UDP_NAT, SIX | FRAGMENT, EDITED)
                .bytes(&[1, 57, 32, 61, 9])
                .frame(REPLY | UDP_NAT, SIX | FRAGMENT, EDITED | IP_OPTIONS)
                .bytes(&[1, 65, 1, 69, 9])
                .frame(REPLY | UDP_NAT, SIX | FRAGMENT, EDITED | IP_OPTIONS)
                .bytes(&[1, 65, 8, 69, 9])
                .send(0)
                .wait(5),
        ),
        (
            "ipv6_whole_packets_with_a_fragment_header",
            new().one(0, NAT, SYN | SIX | FRAGMENT).one(1, NAT, ACK | SIX | FRAGMENT).one(
                0,
                UDP_DR,
                SIX | FRAGMENT,
            ),
        ),
        (
            "ipv6_too_long",
            new()
                .change(MTU)
                .one(0, NAT, SYN | SIX)
                .frame(UDP_NAT, SIX | FRAGMENT, EDITED)
                .bytes(&[0, 57, 1])
                .frame(UDP_NAT, SIX, LAST_TTL)
                .send(0),
        ),
        (
            "errors_about_both_ends_packets",
            new()
                .handshake(0)
                .one(0, REPLY, ACK | ERROR)
                .one(1, UDP_NAT, 0)
                .one(0, NAT, ACK | ERROR)
                .frame(NAT, ACK | ERROR, IP_OPTIONS)
                .send(1),
        ),
        (
            "ipv6_errors",
            new()
                .one(0, NAT, SYN | SIX)
                .one(0, UDP_NAT, SIX)
                .one(0, REPLY, ACK | SIX | ERROR)
                .one(0, REPLY_OF_SECOND, ACK | SIX | ERROR)
                .one(1, REPLY | UDP_NAT, SIX | ERROR)
                .frame(NAT, ACK | SIX | ERROR, IP_OPTIONS)
                .frame(NAT, ACK | SIX | FRAGMENT | ERROR, LAST_TTL)
                .send(1),
        ),
        (
            "source_is_the_vip",
            new().frame(NAT, SYN, EDITED | MENDED).bytes(&[3, 26, 10, 27, 0, 28, 0, 29, 100]),
        ),
    ]
}

/// Ends of the frames of [`methods`](super::methods), by its rows.
const FULL_NAT: u8 = 0;
const FULL_NAT_UDP_PROXY: u8 = 1;
const SIX_TO_FOUR: u8 = 2;
const SIX_TO_FOUR_UDP: u8 = 3;
const FOUR_TO_SIX: u8 = 4;
const FOUR_TO_SIX_UDP: u8 = 5;
const SIX_TO_FOUR_SCTP: u8 = 6;
const FOUR_TO_SIX_SCTP: u8 = 7;
const NAT_PROXY: u8 = 8;
const SIX_PROXY: u8 = 9;
const TOA: u8 = 10;
const SIX_TOA: u8 = 11;
const GRE: u8 = 12;
const SIX_GUE: u8 = 13;
const OWN: u8 = 14;
const SIX_PERSISTENT: u8 = 15;
const BACK: u8 = super::methods::REPLY;
const OTHER_BACK: u8 = BACK | super::methods::OTHER_SERVER;
const SECOND: u8 = 64;

// Where a segment is: bytes sent, acknowledged, and how long its payload is.
const BEHIND_SYN: u8 = 1 | 1 << 3;
const AT_SYN: u8 = 1 << 3;
const SHORT: u8 = 64;
const TEXT: u8 = 128;
const LONG: u8 = 192;

impl Written {
    fn part(self, ends: u8, flags: u8, place: u8, shape: u8) -> Self {
        self.bytes(&[0, ends, flags, place, shape])
    }

    /// A connection of TCP: opened, with text both ways that comes again, and closed.
    fn stream(self, ends: u8) -> Self {
        let there = |w: Self, flags, place| w.part(ends, flags, place, 0).send(0);
        let back = |w: Self, flags, place| {
            let server = if place & 4 == 0 { BACK } else { OTHER_BACK };
            w.part(ends | server, flags, place, 0).bytes(&[4, 2])
        };
        let mut written = there(self, SYN, 0);
        for flags in [SYN | ACK, SYN | ACK] {
            written = back(written, flags, AT_SYN);
            written = written.part(ends | OTHER_BACK, flags, AT_SYN, 0).bytes(&[4, 2]);
        }
        written = there(written, ACK, BEHIND_SYN);
        for place in [BEHIND_SYN | SHORT, BEHIND_SYN | SHORT, 2 | 1 << 3 | LONG] {
            written = there(written, ACK, place);
            written = back(written, ACK, 1 | 4 << 3 | TEXT);
            written = back(written, ACK, 2 | 5 << 3 | SHORT);
        }
        there(back(written, ACK | FIN, 3 | 5 << 3), ACK | FIN, 3 | 3 << 3)
    }

    /// A datagram there, one back from both servers, and a longer one.
    fn datagrams(self, ends: u8) -> Self {
        let to = self.part(ends, 0, SHORT, 0).part(ends, 0, LONG, 0).send(0);
        to.part(ends | BACK, 0, TEXT, 0).part(ends | OTHER_BACK, 0, LONG, 0).bytes(&[4, 3])
    }

    fn association(self, ends: u8) -> Self {
        let to = |w: Self, chunk| w.part(ends, chunk, SHORT, 0).send(0);
        let back = |w: Self, chunk| w.part(ends | BACK, chunk, TEXT, 0).bytes(&[4, 2]);
        back(to(back(to(back(to(self, 1), 2), 10), 11), 0), 3)
    }
}

fn methods() -> Vec<(&'static str, Written)> {
    let new = Written::new;
    // DF is in the byte at 20, and with it the MTU counts.
    let split = |ends| new().part(ends, 0, LONG, EDITED).bytes(&[0, 20, 0]).send(0);
    let error = |ends, back| {
        let both = new().stream(ends).part(ends, ACK | ERROR, BEHIND_SYN, 0).send(0);
        both.part(ends | back, ACK | ERROR, BEHIND_SYN, 0).bytes(&[4, 2])
    };
    let fragments = |ends, at: u8| {
        let piece =
            |w: Written, field: u8| w.part(ends, FRAGMENT, TEXT, EDITED).bytes(&[1, at, field, at + 4, 9]);
        piece(piece(piece(new(), 17), 1), 40).send(0).wait(5)
    };
    let pieces_v4 = |ends| {
        let piece = |w: Written, more, at| w.part(ends, 0, TEXT, EDITED).bytes(&[1, 20, more, 21, at]);
        piece(piece(piece(new(), 0x20, 3), 0x20, 0), 0, 6).send(0).wait(5)
    };
    vec![
        ("fullnat", new().stream(FULL_NAT)),
        (
            "fullnat_ports_run_out",
            new().flood(0, 32).send(0).flood(2, 12).send(1).wait(LEAP | 30).flood(0, 9),
        ),
        ("fullnat_reset_goes_ahead", new().stream(FULL_NAT).part(FULL_NAT | SECOND, SYN, 0, 0).send(0)),
        (
            "fullnat_udp_told",
            new().datagrams(FULL_NAT_UDP_PROXY).wait(9).datagrams(FULL_NAT_UDP_PROXY | SECOND),
        ),
        ("six_to_four", new().stream(SIX_TO_FOUR)),
        ("six_to_four_udp", new().datagrams(SIX_TO_FOUR_UDP).change(MTU).datagrams(SIX_TO_FOUR_UDP)),
        ("six_to_four_sctp", new().association(SIX_TO_FOUR_SCTP)),
        ("four_to_six", new().stream(FOUR_TO_SIX)),
        ("four_to_six_udp", new().datagrams(FOUR_TO_SIX_UDP).datagrams(FOUR_TO_SIX_UDP | SECOND)),
        ("four_to_six_sctp", new().association(FOUR_TO_SIX_SCTP)),
        (
            "four_to_six_without_checksum",
            new().part(FOUR_TO_SIX_UDP, 0, TEXT, EDITED).bytes(&[1, 40, 0, 41, 0]),
        ),
        ("four_to_six_options", new().part(FOUR_TO_SIX, SYN, TEXT, IP_OPTIONS | PADDED).send(0)),
        ("six_to_four_options", new().part(SIX_TO_FOUR, SYN, TEXT, IP_OPTIONS | PADDED).send(1)),
        (
            "translated_and_split",
            split(FOUR_TO_SIX_UDP).change(MTU).part(SIX_TO_FOUR_UDP, 0, LONG, 0).send(0),
        ),
        ("translated_fragments_of_six", fragments(SIX_TO_FOUR_UDP, 57)),
        ("translated_fragments_of_four", pieces_v4(FOUR_TO_SIX_UDP)),
        ("translated_errors", error(SIX_TO_FOUR, BACK)),
        ("translated_errors_back", error(FOUR_TO_SIX, BACK)),
        ("proxy", new().stream(NAT_PROXY)),
        ("proxy_of_six", new().stream(SIX_PROXY).wait(20).stream(SIX_PROXY | SECOND)),
        ("proxy_with_text_in_the_syn", new().part(NAT_PROXY, SYN, TEXT, 0).send(0).stream(NAT_PROXY)),
        ("proxy_errors", error(NAT_PROXY, OTHER_BACK)),
        ("proxy_in_a_small_mtu", new().change(MTU).stream(NAT_PROXY).change(VLAN_ON_OFF).stream(SIX_PROXY)),
        ("toa", new().stream(TOA)),
        ("toa_of_six", new().stream(SIX_TOA)),
        ("gre", new().stream(GRE).change(VLAN_ON_OFF).stream(GRE | SECOND)),
        (
            "gre_in_a_small_mtu",
            new().change(MTU).stream(GRE).part(GRE, ACK, LONG, EDITED).bytes(&[0, 20, 0]).send(0),
        ),
        ("gre_errors", new().stream(GRE).part(GRE | BACK, ACK | ERROR, BEHIND_SYN, 0).send(0)),
        ("gre_pieces", pieces_v4(GRE)),
        ("gue_of_six", new().datagrams(SIX_GUE).change(7).datagrams(SIX_GUE | SECOND)),
        ("gue_of_six_pieces", fragments(SIX_GUE, 57)),
        ("own", new().stream(OWN).change(8).stream(OWN | SECOND).change(9).stream(OWN)),
        ("own_pieces", pieces_v4(OWN)),
        ("six_persistent", new().stream(SIX_PERSISTENT).wait(30).stream(SIX_PERSISTENT | SECOND)),
        ("servers_go", {
            let before = new().stream(FULL_NAT).stream(NAT_PROXY).stream(GRE).change(10).change(12);
            before
                .part(FULL_NAT, ACK, BEHIND_SYN, 0)
                .part(NAT_PROXY, ACK, TEXT, 0)
                .send(0)
                .change(15)
                .stream(GRE)
        }),
        ("routes_go", new().stream(SIX_TO_FOUR).change(CLIENTS_UNREACHABLE).stream(SIX_TO_FOUR | SECOND)),
    ]
}

fn config() -> Vec<(&'static str, &'static str)> {
    vec![
        ("empty", ""),
        (
            "nat_and_dr",
            r#"[director]
interfaces = ["eth0", "eth1"]
cores = [0, 1]
connections = 4096
[timeouts]
tcp = 900
udp = 300
[[service]]
protocol = "tcp"
address = "192.0.2.10:80"
scheduler = "wrr"
[[service.server]]
address = "10.0.0.1:8080"
weight = 3
forward = "nat"
[[service]]
protocol = "udp"
address = "192.0.2.10:53"
[[service.server]]
address = "10.0.0.2"
forward = "dr"
"#,
        ),
        (
            "every_key",
            r#"[director]
interfaces = ["eth0"]
watch = true
[api]
socket = "/run/x"
mode = "0600"
group = "lvs"
listen = "127.0.0.1:80"
token_file = "/t"
[tunables]
sloppy_tcp = 1
[[mark]]
mark = 5
protocol = "tcp"
destination = "192.0.2.0/24"
ports = "80-90"
source = "198.51.100.1"
[[service]]
mark = 5
family = "ipv4"
persistence = 9
persistence_netmask = "255.255.255.0"
one_packet = true
scheduler = "sh"
scheduler_flags = ["sh-port"]
[[service.server]]
address = "10.0.0.1"
upper_threshold = 9
lower_threshold = 8
[[service.server]]
address = "[2001:db8::1]:0"
forward = "tun"
tunnel = "gue"
tunnel_port = 6080
tunnel_checksum = "full"
[[service]]
protocol = "udp"
address = "192.0.2.10:0"
persistence = true
server = [{ address = "10.0.0.1:8080", forward = "nat" }]
"#,
        ),
        (
            "control_bytes",
            "[director]\ninterfaces = [\"\\u001b[2J\"]\n[api]\r\nsocket = \"/\u{1b}[31m\"\n\u{9b}\n",
        ),
        (
            "values_out_of_range",
            r#"[director]
interfaces = ["eth0", "eth0", "a-name-of-sixteen"]
connections = -1
frame_bytes = 1e9
xdp_mode = "nativ"
[timeouts]
tcp = 99999999999999999999
[[service]]
protocol = "sctp"
address = "0.0.0.0:0"
[[service.server]]
address = "[::1]:80"
weight = 65536
"#,
        ),
        ("keys_twice", "[director]\ninterfaces = []\ninterfaces = []\n[director]\n"),
        ("one_address_twice", {
            r#"director = { interfaces = ["eth0"] }
service = [{ protocol = "tcp", address = "192.0.2.10:80" }, { protocol = "tcp", address = "192.0.2.10:80" }]
"#
        }),
        (
            "wide_characters",
            "[director]\n\u{feff}interfaces = [\"\u{e9}th\u{1f980}\u{202e}\"]\t\u{301}\r\nx\u{0}",
        ),
        ("strings_without_end", "[director]\ninterfaces = [\"eth0\n[[service]]\naddress = '''\n"),
        ("nested", "a.b.c = [[[[{a={b=[[]]}}]]]]\n[a.b.c.d]\n[[service.server.server]]\n"),
    ]
}
