//! Servers of the other IP version than their service's (FULLNAT) are told who a connection is from: in the client's own
//! terms, whichever way, and with what packets become on their way in mind.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::local::Locals;
use xvs::director::service::{Method, Protocol};

use crate::segments::{C, FIRST, HEADER, ISN, OPTION, R, S_FIRST, S_ISN, Segment, VIP, after};
use crate::table::*;

const C6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[2001:db8:f::100]:80";
const R6: &str = "[fd00:1::11]:8080";
const LOCAL: &str = "10.1.0.2:5000";
const LOCAL6: &str = "[fd00:1::2]:5000";

/// The ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub client: &'static str,
    pub vip: &'static str,
    pub server: &'static str,
    /// Where the server answers to.
    pub local: &'static str,
}

pub const FOUR: Way = Way { client: C, vip: VIP, server: R, local: C };
pub const SIX_TO_FOUR: Way = Way { client: C6, vip: VIP6, server: R, local: LOCAL };
pub const FOUR_TO_SIX: Way = Way { client: C, vip: VIP, server: R6, local: LOCAL6 };

impl Way {
    /// A director that tells the server so, of this protocol.
    fn table_of(self, protocol: Protocol, how: &str) -> Table {
        let method = if self.local == self.client { Method::Nat } else { Method::FullNat };
        let mut pool = service(protocol, self.vip, method, &[(self.server, 1)]);
        pool.service.switches.set("client_address", how).unwrap();
        let locals = [LOCAL, LOCAL6].map(|local| local.parse::<std::net::SocketAddr>().unwrap().ip());
        pool.service.locals = Locals::new(&locals, "5000".parse().unwrap()).unwrap();
        Table::new(&[pool])
    }

    /// An MTU that segments of 1440 bytes fit in both directions.
    pub fn mtu(self) -> u16 {
        if self.local == self.client { 1480 } else { 1500 }
    }

    /// The length of a packet with so many bytes of text when it leaves for the server.
    fn leaves_with(self, text: u16) -> u16 {
        text + 20 + if self.server == R { 20 } else { 40 }
    }

    pub fn table(self, how: &str) -> Table {
        self.table_of(Protocol::Tcp, how)
    }

    /// Of TCP, from the client to the VIP.
    pub fn header(self) -> Vec<u8> {
        if self.vip == VIP {
            return HEADER.to_vec();
        }
        let mut header = [&HEADER[..12], &[0x21, 0x21, 0, 36]].concat();
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        header.extend([0x9c, 0x40, 0, 80]);
        header
    }

    fn option(self) -> Vec<u8> {
        if self.vip == VIP {
            return OPTION.to_vec();
        }
        [&[254, 20, 0x9c, 0x40][..], &self.header()[16..32]].concat()
    }

    /// What the server gets, in the order in which it is sent.
    fn to_server(self, t: &mut Table, segment: &Segment) -> Result<Vec<Segment>, DropReason> {
        let (verdict, after) = t.batch(0, &[segment.frame(self.client, self.vip)], OUTSIDE).remove(0);
        let made = std::mem::take(&mut t.made).into_iter().map(|(_, frame)| frame);
        match verdict {
            Verdict::Transmit(INSIDE) => {
                Ok([after].into_iter().chain(made).map(|frame| self.read(&frame)).collect())
            }
            Verdict::Drop(reason) | Verdict::Answer(_, reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    fn read(self, frame: &[u8]) -> Segment {
        let sent = read(frame, INSIDE);
        assert_eq!((sent.from.as_str(), sent.to.as_str(), sent.ttl), (self.local, self.server, 63));
        Segment::read(frame)
    }

    fn to_client(self, t: &mut Table, segment: &Segment) -> Segment {
        let (verdict, after) = t.batch(0, &[segment.frame(self.server, self.local)], INSIDE).remove(0);
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
        let sent = read(&after, OUTSIDE);
        assert_eq!((sent.from.as_str(), sent.to.as_str()), (self.vip, self.client));
        Segment::read(&after)
    }

    fn opened(self, how: &str) -> Table {
        let mut t = self.table(how);
        self.to_server(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
        let answer = Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, 5, 0xb4]);
        assert_eq!(self.to_client(&mut t, &answer).ack, FIRST);
        t
    }
}

const ACROSS: [Way; 2] = [SIX_TO_FOUR, FOUR_TO_SIX];

fn says(text: &[u8]) -> Segment {
    Segment::new("A", FIRST, S_FIRST, text)
}

#[test]
fn a_stream_begins_with_the_clients_own_addresses_and_all_numbers_follow() {
    for way in ACROSS {
        let mut t = way.opened("proxy");
        let header = way.header();
        let len = u32::try_from(header.len()).unwrap();
        assert_eq!(way.to_server(&mut t, &says(b"")).unwrap(), [says(&header)]);
        let request = Segment { seq: after(FIRST, len), ..says(b"GET /") };
        assert_eq!(way.to_server(&mut t, &says(b"GET /")).unwrap(), [request]);
        let reply = Segment::new("A", S_FIRST, after(FIRST, len + 5), b"200 OK");
        assert_eq!(way.to_client(&mut t, &reply), Segment { ack: after(FIRST, 5), ..reply });
        let end = Segment::new("FA", after(FIRST, 5), S_FIRST + 6, b"");
        assert_eq!(way.to_server(&mut t, &end).unwrap(), [Segment { seq: after(FIRST, len + 5), ..end }]);
    }
}

/// The headers of IP change their length, and what fits is what fits then.
#[test]
fn a_header_shares_a_segment_as_long_as_that_fits_when_it_leaves() {
    for (way, leaves_with) in [(SIX_TO_FOUR, 20 + 20), (FOUR_TO_SIX, 40 + 20)] {
        let header = way.header();
        let len = u32::try_from(header.len()).unwrap();
        let most = 1500 - leaves_with - header.len();
        let fitting = vec![7; most];
        // A server that says it takes more than this link does is no reason to send it too much.
        let mut t = way.table("proxy");
        way.to_server(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
        way.to_client(&mut t, &Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, 0x20, 0]));
        let together = [&header[..], &fitting].concat();
        assert_eq!(way.to_server(&mut t, &says(&fitting)).unwrap(), [says(&together)]);

        let mut t = way.opened("proxy");
        let more = vec![7; most + 1];
        let sent = way.to_server(&mut t, &says(&more)).unwrap();
        assert_eq!(sent, [Segment { seq: after(FIRST, len), ..says(&more) }, says(&header)]);
    }
}

#[test]
fn the_option_has_the_clients_own_address() {
    for way in ACROSS {
        let mut t = way.opened("toa");
        let option = way.option();
        assert_eq!(way.to_server(&mut t, &says(b"")).unwrap(), [says(b"").with(&option)]);
        let lie = [254, 8, 0, 80, 9, 9, 9, 9];
        let forged = way.to_server(&mut t, &says(b"text").with(&lie)).unwrap();
        assert_eq!(forged, [says(b"text").with(&[&option[..], &[1; 8]].concat())]);
        // Beside other options there may be no room for a long one: the server is not told, and not lied to.
        let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let full = says(b"text").with(&timestamps);
        let sent = way.to_server(&mut t, &full).unwrap().remove(0);
        assert_eq!(sent.options.len(), if option.len() == 20 { 24 } else { 32 });
        way.to_client(&mut t, &Segment::new("A", S_FIRST, after(FIRST, 4), b""));
        assert_eq!(way.to_server(&mut t, &says(b"text")).unwrap(), [says(b"text")], "it knows");

        // What has no room for it goes behind an acknowledgement that has.
        let mut t = way.opened("toa");
        t.hops.mtu = way.leaves_with(1440);
        let long = [7; 1440];
        assert_eq!(way.to_server(&mut t, &says(&long)).unwrap(), [says(b"").with(&option), says(&long)]);
    }
}

#[test]
fn servers_in_another_vlan_get_it_with_their_tag() {
    for way in ACROSS {
        for how in ["toa", "proxy"] {
            let mut t = way.opened(how);
            t.hops.mtu = way.leaves_with(1440);
            t.hops.vlans = [None, Some(20)];
            let frame = says(&[b'x'; 1440]).frame(way.client, way.vip);
            let after = t.forwarded(&frame);
            let made = std::mem::take(&mut t.made);
            assert_eq!(made.len(), 1, "{how}");
            for frame in [&after, &made[0].1] {
                assert_eq!(frame[12..16], [0x81, 0, 0, 20], "{how} {way:?}");
                let bare = [&frame[..12], &frame[16..]].concat();
                way.read(&bare);
            }
        }
    }
}

#[test]
fn the_first_datagram_of_a_flow_has_the_clients_own_addresses() {
    for way in ACROSS {
        let mut t = way.table_of(Protocol::Udp, "proxy");
        let mut header = way.header();
        header[13] += 1;
        let send = |t: &mut Table, text: &[u8]| {
            let (verdict, after) = t.batch(0, &[udp(way.client, way.vip, text)], OUTSIDE).remove(0);
            let to_server = (verdict == Verdict::Transmit(INSIDE)).then(|| {
                assert_eq!(read(&after, INSIDE).to, way.server);
                after[if way.server == R { 42 } else { 62 }..].to_vec()
            });
            to_server.ok_or(after)
        };
        // Too long with it: the client is told what is left, in its own terms, and the next one has it.
        let long = if way.vip == VIP6 { vec![7; 1500 - 48] } else { vec![7; 1500 - 28] };
        let told = send(&mut t, &long).unwrap_err();
        let mtu = if way.vip == VIP6 { &told[14 + 40 + 4..14 + 40 + 8] } else { &told[34 + 4..34 + 8] };
        let left: u32 = if way.vip == VIP6 { 1500 + 20 - 52 } else { 1500 - 20 - 28 };
        assert_eq!(mtu, left.to_be_bytes());
        let fits = usize::try_from(left).unwrap() - if way.vip == VIP6 { 48 } else { 28 };
        let long = vec![7; fits];
        assert_eq!(send(&mut t, &long).unwrap(), [&header[..], &long].concat());
        assert_eq!(send(&mut t, b"odd").unwrap(), b"odd");
    }
}

/// Without a checksum there is none in IPv4; IPv6 has one.
#[test]
fn a_datagram_without_a_checksum_gets_one_over_its_header_too() {
    let way = FOUR_TO_SIX;
    let mut t = way.table_of(Protocol::Udp, "proxy");
    let mut frame = udp(way.client, way.vip, b"odd");
    frame[40..42].fill(0);
    let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!((verdict, after.len()), (Verdict::Transmit(INSIDE), 62 + 28 + 3));
    assert_ne!(after[60..62], [0, 0]);
    read(&after, INSIDE);
}

/// A datagram that may be split is, with its header in the first piece.
#[test]
fn a_datagram_that_may_be_split_has_its_header_in_the_first_piece() {
    let way = FOUR_TO_SIX;
    let mut t = way.table_of(Protocol::Udp, "proxy");
    let mut frame = udp(way.client, way.vip, &[7; 1240]);
    frame[20] = 0;
    mend_ip(&mut frame);
    let (verdict, first) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!((verdict, t.made.len()), (Verdict::Transmit(INSIDE), 1));
    assert!(first.len() <= 14 + 1280 && first[62 + 8..][..12] == HEADER[..12]);
    let payload = |frame: &[u8]| frame.len() - 62;
    assert_eq!(payload(&first) + payload(&t.made[0].1), 8 + 28 + 1240);
    t.made.clear();
}

/// What a router says of a shifted segment is told to the client of its own.
#[test]
fn an_error_about_a_shifted_segment_quotes_the_clients_number_in_its_own_version() {
    let way = SIX_TO_FOUR;
    let mut t = way.opened("proxy");
    way.to_server(&mut t, &says(b"")).unwrap();
    let frame = says(b"a longer text to be quoted").frame(way.client, way.vip);
    let (_, sent) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
    t.made.clear();
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
    icmp.extend(&sent[14..14 + 40]);
    let sum = xvs::packet::checksum::of(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = ip([10, 1, 0, 99].into(), [10, 1, 0, 2].into(), 1, &icmp);
    let (verdict, relayed) = t.batch(0, &[error], INSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
    // Behind both IPv6 headers and the error's own: ports, and the number.
    let quoted = &relayed[14 + 40 + 8 + 40..];
    assert_eq!(quoted[..8], frame[54..62], "its own segment");
}
