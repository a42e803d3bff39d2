//! Whole streams that a PROXY header begins, through a network that loses, repeats and reorders: two model ends, neither of
//! which knows of the other's numbers or of the director, and what the server gets is the header and the client's
//! stream, byte for byte; with a server of either IP version.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use xvs::director::engine::Verdict;

use crate::segments::Segment;
use crate::table::*;
use crate::told_across::{FOUR, FOUR_TO_SIX, SIX_TO_FOUR, Way};

/// What both may have in one segment, in bytes: as much as fits the MTU if both have the longer header of IPv6.
const MSS: usize = 1440;

fn serial(number: u32, first: u32) -> i64 {
    i64::from(number.wrapping_sub(first).cast_signed())
}

fn number(first: u32, place: usize) -> u32 {
    first.wrapping_add(u32::try_from(place).unwrap())
}

/// One direction as its sender sees it.
struct Sender {
    first: u32,
    stream: Vec<u8>,
    /// Places in the stream, its end counting as a byte: acknowledged, and sent.
    acked: usize,
    sent: usize,
}

impl Sender {
    fn end(&self) -> usize {
        self.stream.len() + 1
    }

    /// A segment from `from` on, of at most `len` bytes.
    fn segment(&mut self, from: usize, len: usize, ack: u32) -> Segment {
        let to = (from + len.min(MSS)).min(self.stream.len());
        let text = &self.stream[from.min(to)..to];
        let ends = to == self.stream.len() && from + text.len() == to && len > text.len();
        self.sent = self.sent.max(to + usize::from(ends));
        Segment::new(if ends { "FA" } else { "A" }, number(self.first, from), ack, text)
    }

    fn acknowledge(&mut self, segment: &Segment) {
        let place = serial(segment.ack, self.first);
        assert!(place <= i64::try_from(self.sent).unwrap(), "acknowledged what was never sent: {place}");
        self.acked = self.acked.max(usize::try_from(place).unwrap_or(0));
        for (first, last) in blocks(segment) {
            let (first, last) = (serial(first, self.first), serial(last, self.first));
            let known = 0..=i64::try_from(self.sent).unwrap();
            assert!(first < last && known.contains(&first) && known.contains(&last), "{first}..{last}");
            assert!(first > place || last <= place, "nothing would be missing before {first}..{last}");
        }
    }
}

fn blocks(segment: &Segment) -> Vec<(u32, u32)> {
    match &segment.options[..] {
        [1, 1, 5, _, blocks @ ..] => {
            let word = |b: &[u8]| u32::from_be_bytes(b.try_into().unwrap());
            blocks.chunks_exact(8).map(|b| (word(&b[..4]), word(&b[4..]))).collect()
        }
        _ => Vec::new(),
    }
}

/// One direction as its receiver sees it.
struct Receiver {
    first: u32,
    /// What is to come, in the end.
    expected: Vec<u8>,
    /// Places received in order, and those beyond.
    next: usize,
    beyond: BTreeMap<usize, usize>,
}

impl Receiver {
    /// Takes at most `room` places more.
    fn take(&mut self, segment: &Segment, room: usize) -> Option<(u32, u32)> {
        let from = serial(segment.seq, self.first);
        let len = segment.text.len() + usize::from(segment.flags.contains('F'));
        for (byte, place) in segment.text.iter().zip(from..) {
            if let Ok(place) = usize::try_from(place) {
                assert_eq!(Some(byte), self.expected.get(place), "byte {place} of {}", self.expected.len());
            }
        }
        if segment.flags.contains('F') {
            assert_eq!(
                from + i64::try_from(len).unwrap(),
                i64::try_from(self.expected.len() + 1).unwrap(),
                "end"
            );
        }
        let from = usize::try_from(from).ok()?;
        let to = (from + len).min(self.next + room);
        let duplicate = (from < self.next && len > 0).then_some((from, self.next.min(from + len)));
        if to > from.max(self.next) {
            self.beyond.entry(from).and_modify(|end| *end = to.max(*end)).or_insert(to);
        }
        while let Some((&from, &to)) = self.beyond.first_key_value()
            && from <= self.next
        {
            self.next = self.next.max(to);
            self.beyond.pop_first();
        }
        duplicate.map(|(from, to)| (number(self.first, from), number(self.first, to)))
    }

    /// An acknowledgement, with blocks, the first of which came twice if there is such a one (RFC 2883).
    fn ack(&self, seq: u32, duplicate: Option<(u32, u32)>) -> Segment {
        let ack = Segment::new("A", seq, number(self.first, self.next), b"");
        let held = self.beyond.iter().map(|(&from, &to)| (number(self.first, from), number(self.first, to)));
        let blocks: Vec<_> = duplicate.into_iter().chain(held).take(3).collect();
        if blocks.is_empty() {
            return ack;
        }
        let mut options = vec![1, 1, 5, u8::try_from(2 + blocks.len() * 8).unwrap()];
        for (from, to) in blocks {
            options.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        }
        ack.with(&options)
    }
}

/// What happens next: a number chooses among what can happen.
#[derive(Clone, Copy, Debug)]
struct Event {
    what: u8,
    which: usize,
    size: usize,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any::<u8>(), any::<usize>(), prop_oneof![0..50usize, 0..1500usize]);
    proptest::collection::vec(event.prop_map(|(what, which, size)| Event { what, which, size }), 0..120)
}

struct Lab {
    way: Way,
    table: Table,
    client: Sender,
    client_gets: Receiver,
    /// None until there is a connection.
    is_open: (bool, bool),
    server: Sender,
    server_gets: Receiver,
    to_director: Vec<(bool, Vec<u8>)>,
    to_ends: Vec<(bool, Segment)>,
}

impl Lab {
    fn new(way: Way, isns: (u32, u32), client: Vec<u8>, server: Vec<u8>) -> Self {
        let firsts = (isns.0.wrapping_add(1), isns.1.wrapping_add(1));
        let sender = |first, stream| Sender { first, stream, acked: 0, sent: 0 };
        let receiver = |first, expected| Receiver { first, expected, next: 0, beyond: BTreeMap::default() };
        let mut table = way.table("proxy");
        table.hops.mtu = way.mtu();
        // An old SYN that comes again after the end would begin another connection otherwise, as in the kernel.
        table.tune("conn_reuse_mode", 0);
        Self {
            way,
            table,
            client_gets: receiver(firsts.1, server.clone()),
            server_gets: receiver(firsts.0, [&way.header(), &client[..]].concat()),
            client: sender(firsts.0, client),
            server: sender(firsts.1, server),
            is_open: (false, false),
            to_director: Vec::new(),
            to_ends: Vec::new(),
        }
    }

    fn client_says(&mut self, segment: &Segment) {
        self.to_director.push((true, segment.frame(self.way.client, self.way.vip)));
    }

    fn server_says(&mut self, segment: &Segment) {
        self.to_director.push((false, segment.frame(self.way.server, self.way.local)));
    }

    fn client_ack(&self) -> u32 {
        number(self.client_gets.first, self.client_gets.next)
    }

    fn server_ack(&self) -> u32 {
        number(self.server_gets.first, self.server_gets.next)
    }

    fn syn_ack(&self) -> Segment {
        Segment::new("SA", self.server.first.wrapping_sub(1), self.server_gets.first, b"")
            .with(&[2, 4, 5, 0xa0])
    }

    /// A frame reaches the director.
    fn forward(&mut self, is_client: bool, frame: Vec<u8>) {
        let worker = frame.len() % 2;
        let (verdict, after) =
            self.table.batch(worker, &[frame], if is_client { OUTSIDE } else { INSIDE }).remove(0);
        if let Verdict::Transmit(_) = verdict {
            assert!(after.len() <= 14 + usize::from(self.table.hops.mtu), "the MTU");
            self.to_ends.push((is_client, Segment::read(&after)));
        }
        for (port, made) in std::mem::take(&mut self.table.made) {
            assert!(is_client && port == INSIDE && matches!(verdict, Verdict::Transmit(_)));
            self.to_ends.push((true, Segment::read(&made)));
        }
    }

    /// A segment reaches its end, which has `room` for more.
    fn arrive(&mut self, is_clients: bool, segment: &Segment, room: usize) {
        if is_clients {
            if segment.flags == "S" {
                assert_eq!(segment.seq, self.server_gets.first.wrapping_sub(1));
                let answer = self.syn_ack();
                return self.server_says(&answer);
            }
            // What ends the handshake is a segment of the window (RFC 9293, 3.10.7.4).
            self.is_open.1 |= serial(segment.seq, self.server_gets.first) >= 0;
            if !self.is_open.1 {
                return;
            }
            self.server.acknowledge(segment);
            // No server opens a window too small for the header: nobody would send it again to one that waits for it.
            let header = self.way.header().len().saturating_sub(self.server_gets.next);
            let duplicate = self.server_gets.take(segment, room.max(header));
            if !segment.text.is_empty() || segment.flags != "A" {
                let ack = self.server_gets.ack(number(self.server.first, self.server.sent), duplicate);
                self.server_says(&ack);
            }
        } else if segment.flags == "SA" {
            assert_eq!(
                (segment.ack, segment.seq),
                (self.client.first, self.client_gets.first.wrapping_sub(1))
            );
            self.is_open.0 = true;
            // It may wait for text to go with.
            if !room.is_multiple_of(4) {
                let ack =
                    Segment::new("A", number(self.client.first, self.client.sent), self.client_ack(), b"");
                self.client_says(&ack);
            }
        } else {
            self.client.acknowledge(segment);
            let duplicate = self.client_gets.take(segment, room);
            if !segment.text.is_empty() || segment.flags != "A" {
                let ack = self.client_gets.ack(number(self.client.first, self.client.sent), duplicate);
                self.client_says(&ack);
            }
        }
    }

    fn happen(&mut self, Event { what, which, size }: Event) {
        let from = |sender: &Sender| sender.acked + which % (sender.sent - sender.acked + 1);
        match what % 16 {
            0..=3 if !self.to_director.is_empty() => {
                let (is_client, frame) = self.to_director.remove(which % self.to_director.len());
                self.forward(is_client, frame);
            }
            4..=7 if !self.to_ends.is_empty() => {
                let (is_clients, segment) = self.to_ends.remove(which % self.to_ends.len());
                self.arrive(is_clients, &segment, size);
            }
            8 if !self.to_director.is_empty() => {
                drop(self.to_director.remove(which % self.to_director.len()));
            }
            9 if !self.to_ends.is_empty() => drop(self.to_ends.remove(which % self.to_ends.len())),
            10 if !self.to_director.is_empty() => {
                let again = self.to_director[which % self.to_director.len()].clone();
                self.to_director.push(again);
            }
            11 | 12 if self.is_open.0 => {
                let (from, ack) = (from(&self.client), self.client_ack());
                let segment = self.client.segment(from, size, ack);
                self.client_says(&segment);
            }
            13 if self.is_open.0 => {
                // A probe of the byte before, which the other end has.
                let seq = number(self.client.first, self.client.acked).wrapping_sub(1);
                let probe = Segment::new("A", seq, self.client_ack(), b"");
                self.client_says(&probe);
            }
            // What a server says before it has the header would be no server of ours.
            14 if self.is_open.1 && self.server_gets.next >= self.way.header().len() => {
                let (from, ack) = (from(&self.server), self.server_ack());
                let segment = self.server.segment(from, size, ack);
                self.server_says(&segment);
            }
            15 if !self.is_open.0 => {
                let syn = Segment::new("S", self.client.first.wrapping_sub(1), 0, b"");
                self.client_says(&syn);
            }
            _ => {}
        }
    }

    /// A network without faults, and ends that send again what was not acknowledged: all arrives.
    fn settle(&mut self) {
        for _ in 0..40 {
            while !self.to_director.is_empty() || !self.to_ends.is_empty() {
                for (is_client, frame) in std::mem::take(&mut self.to_director) {
                    self.forward(is_client, frame);
                }
                for (is_clients, segment) in std::mem::take(&mut self.to_ends) {
                    self.arrive(is_clients, &segment, 60_001);
                }
            }
            match self.is_open {
                (false, _) => {
                    let syn = Segment::new("S", self.client.first.wrapping_sub(1), 0, b"");
                    self.client_says(&syn);
                }
                (true, false) => {
                    let answer = self.syn_ack();
                    self.server_says(&answer);
                }
                (true, true) => {}
            }
            // The server speaks first, and the client when it has heard that.
            if self.is_open.1
                && self.server_gets.next >= self.way.header().len()
                && self.server.acked < self.server.end()
            {
                let (from, ack) = (self.server.acked, self.server_ack());
                let segment = self.server.segment(from, MSS, ack);
                self.server_says(&segment);
            }
            let has_heard = self.client_gets.next > self.client_gets.expected.len();
            let is_waiting = self.client.sent == 0 && !has_heard;
            if self.is_open.0 && !is_waiting && self.client.acked < self.client.end() {
                let (from, ack) = (self.client.acked, self.client_ack());
                let segment = self.client.segment(from, MSS, ack);
                self.client_says(&segment);
            }
        }
        assert_eq!(
            self.server_gets.next,
            self.server_gets.expected.len() + 1,
            "all of the client's, and its end"
        );
        assert_eq!(
            self.client_gets.next,
            self.client_gets.expected.len() + 1,
            "all of the server's, and its end"
        );
        assert_eq!((self.client.acked, self.server.acked), (self.client.end(), self.server.end()));
    }
}

fn bytes(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 7 + n / 256 + salt) % 251).to_le_bytes()[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn the_server_gets_the_header_and_then_what_the_client_sent(
        way in select(&[FOUR, SIX_TO_FOUR, FOUR_TO_SIX][..]),
        isns in (prop_oneof![any::<u32>(), u32::MAX - 1600..u32::MAX], any::<u32>()),
        (client, server) in (0..4000usize, 0..2000usize),
        events in events(),
    ) {
        let mut lab = Lab::new(way, isns, bytes(client, 1), bytes(server, 100));
        events.into_iter().for_each(|event| lab.happen(event));
        lab.settle();
    }
}
