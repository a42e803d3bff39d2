//! Segments as one end makes them and the other gets them, to and from a server that is told who a connection is from.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Pool, Protocol};

use crate::table::*;

pub const C: &str = "192.0.2.7:40000";
pub const VIP: &str = "10.0.0.100:80";
pub const R: &str = "10.1.0.11:8080";
pub const SERVICE: &str = "tcp:10.0.0.100:80";
/// Of TCP from the client to the VIP, written by hand.
pub const HEADER: [u8; 28] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12, 192, 0, 2, 7, 10,
    0, 0, 100, 0x9c, 0x40, 0, 80,
];
pub const OPTION: [u8; 8] = [254, 8, 0x9c, 0x40, 192, 0, 2, 7];

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
        frame.truncate(l4(&frame));
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
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("no TCP") };
        let ip_len = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => usize::from(ip.header().total_len()),
            Some(NetSlice::Ipv6(ip)) => usize::from(ip.header().payload_length()) + 40,
            _ => panic!("no IP"),
        };
        assert_eq!(ip_len + 14, frame.len(), "the frame ends with its packet");
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

/// Where the packet of TCP begins behind an IP header without options or extensions.
pub fn l4(frame: &[u8]) -> usize {
    if frame[14] >> 4 == 4 { 34 } else { 54 }
}

/// Makes lengths and checksums those of the whole frame.
pub fn mend(frame: &mut [u8]) {
    let l4 = l4(frame);
    let len = u16::try_from(frame.len() - l4).unwrap();
    if l4 == 34 {
        frame[16..18].copy_from_slice(&(len + 20).to_be_bytes());
        mend_ip(frame);
    } else {
        frame[18..20].copy_from_slice(&len.to_be_bytes());
    }
    frame[l4 + 16..l4 + 18].fill(0);
    let addresses = if l4 == 34 { 26..34 } else { 22..54 };
    let pseudo = [&frame[addresses], &[0, 6], &len.to_be_bytes(), &frame[l4..]].concat();
    let sum = xvs::packet::checksum::of(&pseudo);
    frame[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
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

/// What a client's segment becomes, frames made besides it behind it.
pub fn from_client(t: &mut Table, segment: &Segment) -> Result<Vec<Segment>, DropReason> {
    send(t, segment.frame(C, VIP), OUTSIDE)
}

/// What a server's segment becomes.
pub fn from_server(t: &mut Table, segment: &Segment) -> Result<Segment, DropReason> {
    send(t, segment.frame(R, C), INSIDE).map(|mut all| all.remove(0))
}

pub fn send(t: &mut Table, frame: Vec<u8>, port: u16) -> Result<Vec<Segment>, DropReason> {
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

pub const ISN: u32 = 0xffff_fff0;
pub const FIRST: u32 = ISN + 1;
pub const S_ISN: u32 = 5000;
pub const S_FIRST: u32 = 5001;

pub fn after(number: u32, bytes: u32) -> u32 {
    number.wrapping_add(bytes)
}

/// Opened up to the server's SYN-ACK, which says it takes segments of `mss` bytes.
pub fn opened(how: &str, mss: u16) -> Table {
    let mut t = Table::new(&[told(how)]);
    open(&mut t, mss);
    t
}

pub fn open(t: &mut Table, mss: u16) {
    assert_eq!(from_client(t, &Segment::new("S", ISN, 0, b"")).unwrap()[0].seq, ISN);
    let [high, low] = mss.to_be_bytes();
    let answer = from_server(t, &Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, high, low])).unwrap();
    assert_eq!((answer.seq, answer.ack), (S_ISN, FIRST));
}

pub fn acks(number: u32) -> Segment {
    Segment::new("A", S_FIRST, number, b"")
}

pub fn says(text: &[u8]) -> Segment {
    Segment::new("A", FIRST, S_FIRST, text)
}
