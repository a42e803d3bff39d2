//! How servers are told who a connection is from: PROXY headers and the TCP option, segment by segment. Whole streams
//! under loss and disorder are in `streams`.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Pool, Protocol};

use crate::table::*;

pub const C: &str = "192.0.2.7:40000";
pub const VIP: &str = "10.0.0.100:80";
pub const R: &str = "10.1.0.11:8080";
const SERVICE: &str = "tcp:10.0.0.100:80";
const DNS: &str = "10.0.0.100:53";
const DNS_R: &str = "10.1.0.11:5353";

/// Of TCP from the client to the VIP, written by hand.
pub const HEADER: [u8; 28] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12, 192, 0, 2, 7, 10,
    0, 0, 100, 0x9c, 0x40, 0, 80,
];
const OPTION: [u8; 8] = [254, 8, 0x9c, 0x40, 192, 0, 2, 7];
const SACK_KIND: u8 = 5;

/// A segment as one end made it or the other got it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    pub flags: &'static str,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub text: Vec<u8>,
}

impl Segment {
    pub fn new(flags: &'static str, seq: u32, ack: u32, text: &[u8]) -> Self {
        Self { flags, seq, ack, window: 8192, text: text.to_vec(), ..Self::default() }
    }

    pub fn with(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 1);
        self
    }

    pub fn frame(&self, from: &str, to: &str) -> Vec<u8> {
        let mut frame = tcp(from, to, "");
        frame.truncate(34);
        let ports = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap().to_be_bytes();
        let bits = [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('A', 16), ('U', 32)];
        let bits: u8 =
            bits.iter().filter(|(letter, _)| self.flags.contains(*letter)).map(|(_, bit)| bit).sum();
        let offset = u8::try_from(20 + self.options.len()).unwrap() << 2;
        frame.extend([ports(from), ports(to)].concat());
        frame.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
        frame.extend([offset, bits]);
        frame.extend([self.window.to_be_bytes(), [0, 0], self.urgent.to_be_bytes()].concat());
        frame.extend([&self.options[..], &self.text].concat());
        mend(&mut frame);
        frame
    }

    /// As the end that gets it reads it; every checksum is verified.
    pub fn read(frame: &[u8]) -> Self {
        read(frame, 0);
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("no TCP")
        };
        assert_eq!(usize::from(ip.header().total_len()) + 14, frame.len(), "the frame ends with its packet");
        let flags = match (tcp.syn(), tcp.fin(), tcp.rst(), tcp.urg(), tcp.ack()) {
            (true, _, _, _, true) => "SA",
            (true, ..) => "S",
            (_, true, ..) => "FA",
            (_, _, true, _, true) => "RA",
            (_, _, true, ..) => "R",
            (_, _, _, true, _) => "UA",
            _ => "A",
        };
        Self {
            flags,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            window: tcp.window_size(),
            urgent: tcp.urgent_pointer(),
            options: tcp.options().to_vec(),
            text: tcp.payload().to_vec(),
        }
    }
}

/// Makes lengths and checksums those of the whole frame.
pub fn mend(frame: &mut [u8]) {
    let len = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let sum = xvs::packet::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[50..52].fill(0);
    let pseudo = [&frame[26..34], &[0, 6], &(len - 20).to_be_bytes(), &frame[34..]].concat();
    let sum = xvs::packet::checksum::of(&pseudo);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
}

pub fn told(how: &str) -> Pool {
    let mut pool = service(Protocol::Tcp, VIP, Method::Nat, &[(R, 1)]);
    pool.service.switches.set("client_address", how).unwrap();
    pool
}

/// How wrong the transport checksum of an IPv4 packet is; 0 is right.
pub fn error(frame: &[u8]) -> u32 {
    let len = u16::try_from(frame.len() - 34).unwrap();
    let pseudo = [&frame[26..34], &[0, frame[23]], &len.to_be_bytes(), &frame[34..]].concat();
    u32::from(xvs::packet::checksum::of(&pseudo)) % 0xffff
}

fn dns() -> Pool {
    let mut pool = service(Protocol::Udp, DNS, Method::Nat, &[(DNS_R, 1)]);
    pool.service.switches.set("client_address", "proxy").unwrap();
    pool
}

/// What a client's segment becomes, frames made besides it behind it.
pub fn from_client(t: &mut Table, segment: &Segment) -> Result<Vec<Segment>, DropReason> {
    send(t, segment.frame(C, VIP), OUTSIDE)
}

/// What a server's segment becomes.
pub fn from_server(t: &mut Table, segment: &Segment) -> Result<Segment, DropReason> {
    send(t, segment.frame(R, C), INSIDE).map(|mut all| all.remove(0))
}

fn send(t: &mut Table, frame: Vec<u8>, port: u16) -> Result<Vec<Segment>, DropReason> {
    let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), port).remove(0);
    let made = std::mem::take(&mut t.made);
    match verdict {
        Verdict::Transmit(_) => {
            let frames = [after].into_iter().chain(made.into_iter().map(|(_, frame)| frame));
            Ok(frames.map(|frame| Segment::read(&frame)).collect())
        }
        Verdict::Drop(reason) => {
            assert!(after == frame && made.is_empty(), "a dropped frame is unchanged");
            Err(reason)
        }
        Verdict::Answer(_, reason) => Err(reason),
        Verdict::Keep => panic!("a fragment"),
    }
}

const ISN: u32 = 0xffff_fff0;
const FIRST: u32 = ISN + 1;
const S_ISN: u32 = 5000;
const S_FIRST: u32 = 5001;

fn after(number: u32, bytes: u32) -> u32 {
    number.wrapping_add(bytes)
}

/// Opened up to the server's SYN-ACK, which says it takes segments of `mss` bytes.
fn opened(how: &str, mss: u16) -> Table {
    let mut t = Table::new(&[told(how)]);
    open(&mut t, mss);
    t
}

fn open(t: &mut Table, mss: u16) {
    assert_eq!(from_client(t, &Segment::new("S", ISN, 0, b"")).unwrap()[0].seq, ISN);
    let [high, low] = mss.to_be_bytes();
    let answer = from_server(t, &Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, high, low])).unwrap();
    assert_eq!((answer.seq, answer.ack), (S_ISN, FIRST));
}

fn acks(number: u32) -> Segment {
    Segment::new("A", S_FIRST, number, b"")
}

fn says(text: &[u8]) -> Segment {
    Segment::new("A", FIRST, S_FIRST, text)
}

#[test]
fn the_segment_that_ends_the_handshake_brings_the_header_and_all_numbers_follow() {
    let mut t = opened("proxy", 1460);
    let expected = Segment { text: HEADER.to_vec(), ..says(b"") };
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[..], std::slice::from_ref(&expected)[..]);
    // Again, as if the server had asked by another SYN-ACK.
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [expected]);
    // The request follows bare.
    let request = Segment { seq: after(FIRST, 28), ..says(b"GET / HTTP/1.1") };
    assert_eq!(from_client(&mut t, &says(b"GET / HTTP/1.1")).unwrap(), [request]);
    // The header alone is acknowledged, then the request.
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 28))).unwrap().ack, FIRST);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 42))).unwrap().ack, after(FIRST, 14));
    let reply = Segment::new("A", S_FIRST, after(FIRST, 42), b"200 OK");
    assert_eq!(from_server(&mut t, &reply).unwrap(), Segment { ack: after(FIRST, 14), ..reply });
    let end = Segment::new("FA", after(FIRST, 14), after(S_FIRST, 6), b"");
    assert_eq!(from_client(&mut t, &end).unwrap(), [Segment { seq: after(FIRST, 42), ..end }]);
    let last = Segment::new("FA", after(S_FIRST, 6), after(FIRST, 43), b"");
    assert_eq!(from_server(&mut t, &last).unwrap().ack, after(FIRST, 15));
}

#[test]
fn a_server_that_speaks_first_has_the_header_and_a_silent_client_hears_it() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let banner = Segment::new("A", S_FIRST, after(FIRST, 28), b"220 ready");
    assert_eq!(from_server(&mut t, &banner).unwrap(), Segment { ack: FIRST, ..banner });
    let ack = Segment::new("A", FIRST, after(S_FIRST, 9), b"");
    assert_eq!(from_client(&mut t, &ack).unwrap(), [Segment { seq: after(FIRST, 28), ..ack }]);
    // Keep-alives and window probes ask about the byte before, which is the SYN's here.
    let probe = Segment::new("A", ISN, after(S_FIRST, 9), b"");
    assert_eq!(from_client(&mut t, &probe).unwrap(), [probe]);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 28))).unwrap().ack, FIRST);
}

#[test]
fn text_that_comes_without_a_segment_before_it_has_the_header_in_front() {
    for (options, mss, text_len, is_shared) in [
        (&[][..], 1460, 1432, true),
        (&[], 1460, 1433, false),
        (&[], 1400, 1372, true),
        (&[], 1400, 1373, false),
        (&[1; 12], 1460, 1420, true),
        (&[1; 12], 1460, 1421, false),
    ] {
        let mut t = opened("proxy", mss);
        let text = vec![b'x'; text_len];
        let sent = from_client(&mut t, &says(&text).with(options)).unwrap();
        if is_shared {
            assert_eq!(sent, [Segment { text: [&HEADER[..], &text].concat(), ..says(b"").with(options) }]);
        } else {
            let bare = Segment { seq: after(FIRST, 28), ..says(&text).with(options) };
            assert_eq!(sent, [bare, Segment { text: HEADER.to_vec(), ..says(b"").with(options) }]);
        }
    }
}

#[test]
fn text_that_comes_again_has_the_header_beside_it_until_the_server_has_it() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"one two")).unwrap();
    let header = Segment { text: HEADER.to_vec(), ..says(b"") };
    let bare = |text: &[u8]| Segment { seq: after(FIRST, 28), ..says(text) };
    // In other pieces too, and with the end of the stream.
    for text in [&b"one two"[..], b"one", b"one two three"] {
        assert_eq!(from_client(&mut t, &says(text)).unwrap(), [bare(text), header.clone()]);
    }
    let end = Segment { flags: "FA", ..says(b"one") };
    let expected = Segment { flags: "FA", ..bare(b"one") };
    assert_eq!(from_client(&mut t, &end).unwrap(), [expected.clone(), header.clone()]);
    // A part of the header is none.
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 27))).unwrap().ack, FIRST);
    assert_eq!(from_client(&mut t, &end).unwrap().len(), 2);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 30))).unwrap().ack, after(FIRST, 2));
    assert_eq!(from_client(&mut t, &end).unwrap(), [expected]);
}

#[test]
fn an_end_without_text_comes_behind_the_header() {
    let mut t = opened("proxy", 1460);
    let end = Segment { flags: "FA", ..says(b"") };
    assert_eq!(from_client(&mut t, &end).unwrap(), [Segment { text: HEADER.to_vec(), ..end }]);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 29))).unwrap().ack, after(FIRST, 1));
}

#[test]
fn resets_have_the_number_that_the_server_waits_for() {
    let reset = Segment { flags: "R", ack: 0, ..says(b"") };
    let mut t = opened("proxy", 1460);
    assert_eq!(from_client(&mut t, &reset).unwrap()[0], reset, "before the header");
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let behind = Segment { seq: after(FIRST, 28), ..reset.clone() };
    assert_eq!(from_client(&mut t, &reset).unwrap(), [behind], "behind it");
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    assert_eq!(from_client(&mut t, &reset).unwrap(), [reset], "before the server's answer");
    // The server's refusal.
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    let refusal = Segment { flags: "RA", ..Segment::new("RA", 0, FIRST, b"") };
    assert_eq!(from_server(&mut t, &refusal).unwrap(), refusal);
}

#[test]
fn no_client_can_write_into_the_headers_place() {
    let mut t = opened("proxy", 1460);
    for (seq, text) in [(ISN, &b"ab"[..]), (ISN - 9, &[7; 40])] {
        let forged = Segment { seq, ..says(text) };
        assert_eq!(from_client(&mut t, &forged), Err(DropReason::ClientAddress));
    }
    let forged = Segment { seq: ISN, flags: "FA", ..says(b"a") };
    assert_eq!(from_client(&mut t, &forged), Err(DropReason::ClientAddress), "the end would be in it");
    // A SYN with other numbers moves nothing: the server's answer counts.
    from_client(&mut t, &Segment::new("S", ISN - 28, 0, b"")).unwrap();
    let sent = from_client(&mut t, &says(b"")).unwrap();
    assert_eq!(sent[0].text, HEADER);
    // Urgent data would take a byte out of it.
    let urgent = Segment { flags: "UA", urgent: 20, ..says(b"") };
    assert_eq!(from_client(&mut t, &urgent).unwrap()[0].flags, "A");
    let probe = Segment { seq: ISN, ..urgent.clone() };
    assert_eq!(from_client(&mut t, &probe).unwrap()[0].flags, "A");
    from_server(&mut t, &acks(after(FIRST, 29))).unwrap();
    let later = Segment { seq: after(FIRST, 1), ..urgent };
    assert_eq!(from_client(&mut t, &later).unwrap()[0].flags, "UA", "its own business");
}

#[test]
fn before_the_servers_answer_a_client_says_nothing() {
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::ClientAddress));
    // Nor does a segment open a connection, whatever others may.
    let mut t = Table::new(&[told("proxy")]);
    t.tune("sloppy_tcp", 1);
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::NoConnection));
}

#[test]
fn text_in_a_syn_is_taken_off_and_the_window_has_room_for_the_header() {
    let mut t = Table::new(&[told("proxy")]);
    let syn = Segment::new("S", ISN, 0, b"odd text!").with(&[34, 6, 1, 2, 3, 4]);
    assert_eq!(from_client(&mut t, &syn).unwrap(), [Segment { text: vec![], ..syn }]);
    let answer = Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, 5, 0xb4]);
    assert_eq!(from_server(&mut t, &answer).unwrap(), Segment { window: 8192 - 28, ..answer });
    assert_eq!(
        from_client(&mut t, &says(b"odd text!")).unwrap()[0].text,
        [&HEADER[..], b"odd text!"].concat()
    );
}

#[test]
fn blocks_received_out_of_order_are_the_clients() {
    let sack =
        |from: u32, to: u32| [&[1, 1, SACK_KIND, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    from_client(&mut t, &says(b"text")).unwrap();
    // To the client nothing would be missing.
    let text = acks(FIRST).with(&sack(after(FIRST, 28), after(FIRST, 32)));
    assert_eq!(from_server(&mut t, &text).unwrap(), acks(FIRST).with(&[1; 12]));
    // The header came twice (RFC 2883).
    let twice = acks(after(FIRST, 28)).with(&sack(FIRST, after(FIRST, 28)));
    assert_eq!(from_server(&mut t, &twice).unwrap(), acks(FIRST).with(&[1; 12]));
    let hole = acks(after(FIRST, 32)).with(&sack(after(FIRST, 40), after(FIRST, 50)));
    let expected = acks(after(FIRST, 4)).with(&sack(after(FIRST, 12), after(FIRST, 22)));
    assert_eq!(from_server(&mut t, &hole).unwrap(), expected);
}

#[test]
fn the_same_ports_again_are_another_stream() {
    let mut t = opened("proxy", 1460);
    t.tune("conn_reuse_mode", 0);
    from_client(&mut t, &says(b"one")).unwrap();
    from_server(&mut t, &acks(after(FIRST, 31))).unwrap();
    from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 3), ..says(b"") }).unwrap();
    from_server(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 32)) }).unwrap();
    from_client(&mut t, &Segment { seq: after(FIRST, 4), ack: S_FIRST + 1, ..says(b"") }).unwrap();
    // The connection is in TIME_WAIT, and the same entry goes on.
    from_client(&mut t, &Segment::new("S", 900_000, 0, b"")).unwrap();
    from_server(&mut t, &Segment::new("SA", 800_000, 900_001, b"").with(&[2, 4, 5, 0xb4])).unwrap();
    let sent = from_client(&mut t, &Segment::new("A", 900_001, 800_001, b"new")).unwrap();
    assert_eq!(sent, [Segment::new("A", 900_001, 800_001, &[&HEADER[..], b"new"].concat())]);
}

#[test]
fn a_wrong_checksum_stays_wrong_and_changes_nothing() {
    let mut t = opened("proxy", 1460);
    let wrong = |t: &mut Table, segment: &Segment, (from, to, port): (&str, &str, u16)| {
        let mut frame = segment.frame(from, to);
        frame[50] ^= 0x55;
        let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), port).remove(0);
        assert!(matches!(verdict, Verdict::Transmit(_)));
        let all = [after].into_iter().chain(std::mem::take(&mut t.made).into_iter().map(|(_, frame)| frame));
        all.for_each(|after| assert_eq!(error(&after), error(&frame)));
    };
    let (client, server) = ((C, VIP, OUTSIDE), (R, C, INSIDE));
    wrong(&mut t, &Segment::new("SA", S_ISN, 77, b""), server);
    for text in [&b""[..], b"a", b"a", b"odd"] {
        wrong(&mut t, &says(text), client);
    }
    wrong(&mut t, &acks(after(FIRST, 40)), server);
    assert_eq!(from_client(&mut t, &says(b"a")).unwrap().len(), 2, "the header is still due");
}

#[test]
fn what_goes_no_further_is_told_as_it_came() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let mut last = says(b"text").frame(C, VIP);
    last[22] = 1;
    mend(&mut last);
    let (verdict, answer) = t.batch(0, &[last.clone()], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TtlExpired));
    assert_eq!(answer[42..][..28], last[14..][..28], "the segment as the client knows it");
    t.hops.macs.remove(&11);
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::Unresolved));
    assert_eq!(
        from_client(&mut t, &Segment { seq: after(FIRST, 4), ..says(b"x") }),
        Err(DropReason::Unresolved)
    );
    assert_eq!(from_client(&mut t, &says(b"")), Err(DropReason::Unresolved));
}

#[test]
fn an_error_about_a_shifted_segment_quotes_the_clients_number() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    for quoted_len in [28, 40, 60] {
        let frame = says(b"a longer text to be quoted").frame(C, VIP);
        let (_, sent) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
        t.made.clear();
        let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
        icmp.extend(&sent[14..14 + quoted_len]);
        let sum = xvs::packet::checksum::of(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let error = ip([10, 1, 0, 99].into(), [192, 0, 2, 7].into(), 1, &icmp);
        let (verdict, relayed) = t.batch(0, &[error], INSIDE).remove(0);
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
        assert_eq!(xvs::packet::checksum::of(&relayed[34..]), 0, "ICMP checksum");
        let mut expected = frame[14..14 + quoted_len].to_vec();
        // The TTL it had when it was too long.
        (expected[8], expected[10], expected[11]) = (relayed[50], relayed[52], relayed[53]);
        assert_eq!(relayed[42..], expected, "its own packet, {quoted_len} bytes of it");
    }
}

/// Fragments that a datagram, or a segment, of these bytes behind the IP header comes in.
fn fragments(frame: &[u8], len: usize) -> Vec<Vec<u8>> {
    let payload = &frame[34..];
    let piece = |(n, part): (usize, &[u8])| {
        let mut piece = [&frame[..34], part].concat();
        let more = n * len + part.len() < payload.len();
        let field = u16::try_from(n * len / 8).unwrap() | if more { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&u16::try_from(20 + part.len()).unwrap().to_be_bytes());
        piece[20..22].copy_from_slice(&field.to_be_bytes());
        piece[24..26].fill(0);
        let sum = xvs::packet::checksum::of(&piece[14..34]);
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    payload.chunks(len).enumerate().map(piece).collect()
}

#[test]
fn nothing_is_put_into_fragments() {
    let mut t = opened("proxy", 1460);
    let pieces = fragments(&says(&[7; 60]).frame(C, VIP), 40);
    assert_eq!(t.batch(0, &pieces[..1], OUTSIDE)[0].0, Verdict::Drop(DropReason::ClientAddress));
    from_client(&mut t, &says(b"")).unwrap();
    let mut other = says(&[7; 60]).frame(C, VIP);
    other[18] = 9;
    let sent = t.batch(0, &fragments(&other, 40), OUTSIDE);
    assert!(sent.iter().all(|(verdict, _)| *verdict == Verdict::Transmit(INSIDE)));
    assert_eq!(sent[0].1[38..42], after(FIRST, 28).to_be_bytes(), "shifted, and no more");
    assert_eq!(sent[0].1.len() + sent[1].1.len(), 34 + 40 + 34 + 40);

    let mut t = Table::new(&[dns()]);
    let sent = t.batch(0, &fragments(&udp(C, DNS, &[7; 60]), 40), OUTSIDE);
    assert!(sent.iter().all(|(verdict, _)| *verdict == Verdict::Drop(DropReason::ClientAddress)));
    let payload = |frame: &[u8]| frame[42..].to_vec();
    assert_eq!(payload(&t.batch(0, &[udp(C, DNS, b"?")], OUTSIDE)[0].1).len(), 29, "the next has it");
}

fn datagram(t: &mut Table, frame: Vec<u8>) -> Vec<u8> {
    let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(INSIDE));
    assert_eq!(read(&after, INSIDE).to, DNS_R);
    after[42..].to_vec()
}

fn dns_header() -> Vec<u8> {
    let mut header = HEADER;
    (header[13], header[27]) = (0x12, 53);
    header.to_vec()
}

#[test]
fn the_first_datagram_of_a_flow_has_the_header() {
    let mut t = Table::new(&[dns()]);
    assert_eq!(datagram(&mut t, udp(C, DNS, b"odd")), [&dns_header()[..], b"odd"].concat());
    assert_eq!(datagram(&mut t, udp(C, DNS, b"odd")), b"odd");
    let mut reply = udp(DNS_R, C, b"answer");
    (reply[40], reply[41]) = (0, 0);
    assert_eq!(t.batch(0, &[reply], INSIDE)[0].1[40..], *b"\0\0answer");
    // Without a checksum there is none afterwards; a wrong one stays wrong.
    let other = "192.0.2.7:40001";
    let mut frame = udp(other, DNS, b"question");
    frame[40..42].fill(0);
    let sent = t.batch(0, &[frame], OUTSIDE).remove(0).1;
    assert_eq!((sent.len(), &sent[40..42]), (42 + 28 + 8, &[0, 0][..]));
    let mut frame = udp("192.0.2.7:40002", DNS, b"question");
    frame[40] ^= 0x55;
    let sent = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0).1;
    assert_eq!((sent.len(), error(&sent)), (42 + 28 + 8, error(&frame)));
}

#[test]
fn each_datagram_that_is_scheduled_by_itself_has_the_header() {
    let mut pool = dns();
    pool.service.one_packet = true;
    let mut t = Table::new(&[pool]);
    for _ in 0..2 {
        assert_eq!(datagram(&mut t, udp(C, DNS, b"?")), [&dns_header()[..], b"?"].concat());
    }
}

#[test]
fn a_datagram_that_is_too_long_with_the_header_is_split_or_its_client_told() {
    let mut t = Table::new(&[dns()]);
    t.hops.mtu = 600;
    let mut frame = udp(C, DNS, &[7; 560]);
    let (verdict, answer) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(answer[34..42][4..], [0, 0, 2, 0x3c], "572 bytes are left of 600");
    // It may be split: the header is in the first piece.
    frame[20] = 0;
    frame[24..26].fill(0);
    let sum = xvs::packet::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let (verdict, first) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(INSIDE));
    let pieces = [first[34..].to_vec(), t.made[0].1[34..].to_vec()].concat();
    assert_eq!((pieces.len(), &pieces[8..36]), (8 + 28 + 560, &dns_header()[..]));
    t.made.clear();
    assert_eq!(datagram(&mut t, udp(C, DNS, b"?")), b"?");
}

#[test]
fn the_option_is_on_the_clients_segments_until_the_server_speaks() {
    let mut t = opened("toa", 1460);
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    for (flags, text) in [("A", &b""[..]), ("A", b""), ("A", b"text"), ("A", b"text"), ("FA", b"")] {
        let segment = Segment { flags, ..says(text) }.with(&timestamps);
        let expected = segment.clone().with(&[&OPTION[..], &timestamps].concat());
        assert_eq!(from_client(&mut t, &segment).unwrap(), [expected]);
    }
    let reset = Segment { flags: "R", ..says(b"") };
    assert_eq!(from_client(&mut t, &reset).unwrap(), [reset]);
    let mut t = opened("toa", 1460);
    assert_eq!(from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap().options, [0u8; 0]);
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[0].options, OPTION);
    // It says so without a connection too, to what does not fit one that is being made.
    assert_eq!(from_server(&mut t, &acks(FIRST)).unwrap(), acks(FIRST));
    assert_eq!(from_client(&mut t, &says(b"text")).unwrap()[0].options, OPTION);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 4))).unwrap(), acks(after(FIRST, 4)));
    assert_eq!(from_client(&mut t, &says(b"text")).unwrap(), [says(b"text")], "it knows");
    t.director.table.list(|slot| assert_eq!(slot.aside(), 0, "the plain way from now on"));
    // The same ports again, in the same entry, are another connection.
    t.tune("conn_reuse_mode", 0);
    from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 4), ..says(b"") }).unwrap();
    from_server(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 5)) }).unwrap();
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[0].options, OPTION);
    // Who speaks first knows.
    from_server(&mut t, &Segment { text: b"220".to_vec(), ..acks(FIRST) }).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [says(b"")]);
}

#[test]
fn the_option_has_the_kind_that_the_service_wants_and_nobody_elses_is_believed() {
    let mut t = Table::new(&[told("toa")]);
    t.switch(SERVICE, "toa_kind", "200");
    let forged = [200, 8, 0, 80, 8, 8, 8, 8];
    let syn = Segment::new("S", ISN, 0, b"").with(&forged);
    assert_eq!(from_client(&mut t, &syn).unwrap(), [syn.with(&[1; 8])]);
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    let sent = from_client(&mut t, &says(b"").with(&forged)).unwrap();
    assert_eq!(sent[0].options, [&[200][..], &OPTION[1..], &[1; 8]].concat());
    // No room: the server is not told, and not lied to.
    let full = [&forged[..], &[1; 32]].concat();
    assert_eq!(from_client(&mut t, &says(b"").with(&full)).unwrap()[0].options, [1; 40]);
}

#[test]
fn an_option_never_makes_a_segment_too_long() {
    let mut t = opened("toa", 1460);
    let long = [7; 1460];
    // Without an acknowledgement before it: one is made.
    let ahead = says(b"").with(&OPTION);
    assert_eq!(from_client(&mut t, &says(&long)).unwrap(), [ahead, says(&long)]);
    assert_eq!(from_client(&mut t, &says(&long)).unwrap(), [says(&long)]);
    // The first time it may share the segment, if that fits the MTU; a router may have found that too long.
    let mut t = opened("toa", 1460);
    let fitting = [7; 1452];
    assert_eq!(from_client(&mut t, &says(&fitting)).unwrap(), [says(&fitting).with(&OPTION)]);
    assert_eq!(from_client(&mut t, &says(&fitting)).unwrap(), [says(&fitting)]);
    let small = [7; 1232];
    assert_eq!(from_client(&mut t, &says(&small)).unwrap(), [says(&small).with(&OPTION)]);
}

#[test]
fn a_wrong_checksum_stays_wrong_with_the_option() {
    let mut t = opened("toa", 1460);
    for text in [&b""[..], b"odd", &[7; 1460]] {
        let mut frame = says(text).frame(C, VIP);
        frame[50] ^= 0x55;
        let (_, sent) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
        assert_eq!(error(&sent), error(&frame));
        t.made.drain(..).for_each(|(_, made)| assert_eq!(error(&made), error(&frame)));
    }
}

#[test]
fn connections_keep_what_they_began_with() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    t.switch(SERVICE, "client_address", "none");
    assert_eq!(from_client(&mut t, &says(b"x")).unwrap()[0].seq, after(FIRST, 28));
    let mut t = opened("none", 1460);
    t.switch(SERVICE, "client_address", "proxy");
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [says(b"")]);
}

#[test]
fn a_tagged_frame_has_its_header_too_whatever_the_servers_tag() {
    for inside in [Some(7), None, Some(20)] {
        let mut t = Table::new(&[dns()]);
        t.hops.vlans = [Some(7), inside];
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC)
            .single_vlan(etherparse::VlanId::try_new(7).unwrap())
            .ipv4([192, 0, 2, 7], [10, 0, 0, 100], 64)
            .udp(40000, 53)
            .write(&mut frame, b"?")
            .unwrap();
        let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
        let text = if inside.is_some() { 46 } else { 42 };
        let expected = [&dns_header()[..], b"?"].concat();
        assert_eq!((verdict, &after[text..]), (Verdict::Transmit(INSIDE), &expected[..]));
        read(&after, INSIDE);
    }
}

#[test]
fn servers_in_another_vlan_are_told_and_no_forged_option_reaches_them() {
    let mut t = Table::new(&[told("toa")]);
    open(&mut t, 1460);
    t.hops.vlans = [None, Some(20)];
    let lie = [254, 8, 0, 80, 9, 9, 9, 9];
    let (_, after) = t.batch(0, &[says(b"").with(&lie).frame(C, VIP)], OUTSIDE).remove(0);
    let options = &after[18 + 20 + 20..];
    assert!(
        options.windows(8).any(|it| it == OPTION) && !options.windows(8).any(|it| it == lie),
        "{options:?}"
    );
    // The header's own segment has the servers' tag as well.
    let mut t = opened("proxy", 60);
    t.hops.vlans = [None, Some(20)];
    t.batch(0, &[says(&[b'x'; 50]).frame(C, VIP)], OUTSIDE);
    let made = std::mem::take(&mut t.made);
    let tags: Vec<_> = made.iter().map(|(_, frame)| frame[12..16].to_vec()).collect();
    assert_eq!(tags, [[0x81, 0, 0, 20]]);
}

const C6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[2001:db8:f::100]:80";
const R6: &str = "[fd00:1::11]:8080";

/// A pool at the IPv6 VIP.
fn told_v6(protocol: Protocol, how: &str) -> Pool {
    let mut pool = service(protocol, VIP6, Method::Nat, &[(R6, 1)]);
    pool.service.switches.set("client_address", how).unwrap();
    pool
}

/// A segment or datagram of IPv6.
fn v6(from: &str, to: &str, tcp: Option<(&str, u32, u32)>, text: &[u8]) -> Vec<u8> {
    use std::net::SocketAddrV6;
    let (from, to): (SocketAddrV6, SocketAddrV6) = (from.parse().unwrap(), to.parse().unwrap());
    let ip = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC).ipv6(from.ip().octets(), to.ip().octets(), 64);
    let mut frame = Vec::new();
    match tcp {
        None => ip.udp(from.port(), to.port()).write(&mut frame, text).unwrap(),
        Some((flags, seq, ack)) => {
            let mut segment = ip.tcp(from.port(), to.port(), seq, 8192);
            if flags.contains('S') {
                segment = segment.syn();
            }
            if flags.contains('A') {
                segment = segment.ack(ack);
            }
            segment.write(&mut frame, text).unwrap();
        }
    }
    frame
}

/// Sends a frame to whichever side it belongs: what comes out, behind its IP header, checksums verified.
fn through(t: &mut Table, frame: Vec<u8>, port: u16) -> Vec<u8> {
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    assert_eq!(verdict, Verdict::Transmit(if port == OUTSIDE { INSIDE } else { OUTSIDE }));
    read(&after, 0);
    assert_eq!(usize::from(u16::from_be_bytes([after[18], after[19]])) + 54, after.len(), "its length");
    after[54..].to_vec()
}

fn header_v6(transport: u8) -> Vec<u8> {
    let mut header = HEADER[..12].to_vec();
    header.extend([0x21, 0x20 | transport, 0, 36]);
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    header.extend([0x9c, 0x40, 0, 80]);
    header
}

#[test]
fn clients_of_ipv6_are_told_too() {
    let mut t = Table::new(&[told_v6(Protocol::Udp, "proxy")]);
    assert_eq!(
        through(&mut t, v6(C6, VIP6, None, b"odd"), OUTSIDE)[8..],
        [&header_v6(2)[..], b"odd"].concat()
    );
    assert_eq!(through(&mut t, v6(C6, VIP6, None, b"odd"), OUTSIDE)[8..], *b"odd");

    for how in ["proxy", "toa"] {
        let mut t = Table::new(&[told_v6(Protocol::Tcp, how)]);
        through(&mut t, v6(C6, VIP6, Some(("S", ISN, 0)), b""), OUTSIDE);
        through(&mut t, v6(R6, C6, Some(("SA", S_ISN, FIRST)), b""), INSIDE);
        let sent = through(&mut t, v6(C6, VIP6, Some(("A", FIRST, S_FIRST)), b""), OUTSIDE);
        if how == "proxy" {
            assert_eq!(sent[20..], header_v6(1));
            let reply = v6(R6, C6, Some(("A", S_FIRST, after(FIRST, 52))), b"220");
            assert_eq!(through(&mut t, reply, INSIDE)[8..12], FIRST.to_be_bytes());
            let sent = through(&mut t, v6(C6, VIP6, Some(("A", FIRST, S_FIRST)), b"x"), OUTSIDE);
            assert_eq!(sent[4..8], after(FIRST, 52).to_be_bytes());
        } else {
            let expected = [&[254, 20, 0x9c, 0x40][..], &header_v6(1)[16..32]].concat();
            assert_eq!((sent[12], &sent[20..]), (10 << 4, &expected[..]));
        }
    }
}

/// Where servers know clients by these words alone.
#[test]
fn servers_of_fullnat_are_told_who_is_behind_the_local_address() {
    use xvs::director::local::Locals;
    const LOCAL: &str = "10.1.0.2:5000";
    for how in ["proxy", "toa"] {
        let mut pool = service(Protocol::Tcp, VIP, Method::FullNat, &[(R, 1)]);
        pool.service.switches.set("client_address", how).unwrap();
        pool.service.locals = Locals::new(&["10.1.0.2".parse().unwrap()], "5000".parse().unwrap()).unwrap();
        let mut t = Table::new(&[pool]);
        let back = |t: &mut Table, segment: &Segment| {
            send(t, segment.frame(R, LOCAL), INSIDE).map(|mut all| all.remove(0))
        };
        from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
        back(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
        let (_, sent) = t.batch(0, &[says(b"").frame(C, VIP)], OUTSIDE).remove(0);
        assert_eq!((read(&sent, 0).from, read(&sent, 0).to), (LOCAL.to_owned(), R.to_owned()));
        let sent = Segment::read(&sent);
        if how == "toa" {
            assert_eq!(sent.options, OPTION);
            continue;
        }
        assert_eq!(sent.text, HEADER);
        assert_eq!(from_client(&mut t, &says(b"text")).unwrap()[0].seq, after(FIRST, 28));
        assert_eq!(back(&mut t, &acks(after(FIRST, 32))).unwrap().ack, after(FIRST, 4));
        // Its port is needed again while the server remembers it: the reset that goes ahead has the server's number.
        back(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 32)) }).unwrap();
        from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 4), ack: S_FIRST + 1, ..says(b"") })
            .unwrap();
        back(&mut t, &Segment { seq: S_FIRST + 1, ..acks(after(FIRST, 33)) }).unwrap();
        let syn = Segment::new("S", 900, 0, b"").frame("192.0.2.8:1", VIP);
        let (_, reset) = t.batch(0, &[syn], OUTSIDE).remove(0);
        let reset = Segment::read(&reset);
        assert!(reset.flags.contains('R') && reset.seq == after(FIRST, 33), "{reset:?}");
        t.made.clear();
    }
}
