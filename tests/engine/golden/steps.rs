//! The packets that a case's ends send, each with its outcome.

use xvs::director::drops::DropReason;
use xvs::director::forward::hops::PortId;
use xvs::director::service::Method;

use super::oracle::{self, Departure};
use super::packet::{Extension, Frame, Packet, SEALED_AH, SEALED_ESP, Transport};
use super::{Case, Kind, Manner, Version};
use crate::table::{CLIENT_MAC, INSIDE, OUTSIDE, OUTSIDE_MAC};

/// What is done with a frame.
#[derive(Clone, Debug)]
pub enum Outcome {
    Sent(Departure),
    /// Its sender may be told of it.
    Refused(DropReason),
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: &'static str,
    /// The interface where it arrives.
    pub port: PortId,
    pub arrival: Frame,
    pub outcome: Outcome,
}

/// Of a tag, beside its VLAN.
const PRIORITY: u16 = 0xa000;
const TTL: u8 = 64;

/// MSS 1460, selective acknowledgements, timestamps, window scaling, and one that nobody knows.
const SYN_OPTIONS: &[u8] =
    b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x01\x02\x03\x04\0\0\0\0\x01\x03\x03\x07\xfd\x04ab";
/// Timestamps, and a selective acknowledgement.
const DATA_OPTIONS: &[u8] =
    b"\x01\x01\x08\x0a\x01\x02\x03\x05\x05\x06\x07\x08\x01\x01\x05\x0a\0\0\x01\0\0\0\x02\0";

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const PSH_ACK: u8 = 0x18;
const ACK_CWR_ECE: u8 = 0xd0;

impl Case {
    /// What opens the connection, and shows more of a connection's life than the [packets](Self::packets) behind.
    pub fn opening(&self) -> Vec<Step> {
        let text = b"of a certain size".to_vec();
        let tcp = |flags, options| Transport::Tcp { flags, options };
        match self.kind {
            _ if self.is_sealed() => {
                let isakmp = Transport::Udp { summed: true };
                vec![
                    self.step("ISAKMP", true, isakmp.clone(), text.clone()),
                    self.step("its answer", false, isakmp, text),
                ]
            }
            Kind::Tcp | Kind::Ah => vec![
                self.step("SYN", true, tcp(SYN, SYN_OPTIONS), vec![]),
                self.step("SYN-ACK", false, tcp(SYN_ACK, SYN_OPTIONS), vec![]),
            ],
            Kind::Sctp => {
                let one = |chunk| Transport::Sctp { chunks: chunk };
                vec![
                    self.step("INIT", true, one(&[(1, b"tag, window")]), text.clone()),
                    self.step("INIT ACK", false, one(&[(2, b"and cookie")]), text.clone()),
                    self.step("COOKIE ECHO, DATA", true, one(&[(10, b"cookie"), (0, b"head")]), text.clone()),
                    self.step(
                        "COOKIE ACK, SACK, DATA",
                        false,
                        one(&[(11, b""), (3, b"gap"), (0, b"head")]),
                        text,
                    ),
                ]
            }
            Kind::Udp | Kind::UdpUnsummed | Kind::Esp => vec![],
        }
    }

    /// Packets that may go on for ever, in both directions, whatever went before.
    pub fn packets(&self) -> Vec<Step> {
        let (there, back) = match self.kind {
            Kind::Esp => (SEALED_ESP, SEALED_ESP),
            Kind::Ah if self.is_sealed() => (SEALED_AH, SEALED_AH),
            Kind::Tcp | Kind::Ah => (
                Transport::Tcp { flags: PSH_ACK, options: DATA_OPTIONS },
                Transport::Tcp { flags: ACK_CWR_ECE, options: DATA_OPTIONS },
            ),
            Kind::Udp => (Transport::Udp { summed: true }, Transport::Udp { summed: true }),
            Kind::UdpUnsummed => (Transport::Udp { summed: false }, Transport::Udp { summed: false }),
            Kind::Sctp => (
                Transport::Sctp { chunks: &[(3, b"gap"), (0, b"one"), (0, b"other")] },
                Transport::Sctp { chunks: &[(0, b"odd"), (5, b"heartbeat"), (0, b"")] },
            ),
        };
        // Read as an AH it is one of 24 bytes, with nothing behind it that has a name.
        let text = |what: &[u8]| [what, b" of an odd size"].concat();
        vec![
            self.step("from the client", true, there, text(b"\x3b\x04\0\0a question")),
            self.step("from the server", false, back, text(b"\x3b\x04\0\0the answer!")),
        ]
    }

    /// The [packets](Self::packets) at a length that is not to be fragmented any more; those that are would be.
    pub fn long(&self) -> Vec<Step> {
        let all = self
            .packets()
            .into_iter()
            .filter(|step| step.arrival.packet.df || !step.arrival.packet.source.is_ipv4());
        all.map(|step| self.changed(step, |packet| packet.payload.resize(1300, 0x5a))).collect()
    }

    /// The [packets](Self::packets) with a payload that has changed since they were summed.
    pub fn damaged(&self) -> Vec<Step> {
        let all = self.packets().into_iter().filter(|step| step.arrival.packet.has_checksum());
        all.map(|step| self.changed(step, |packet| packet.damaged = true)).collect()
    }

    /// The [packets](Self::packets) with a payload for which a checksum comes out as zero: the one they arrive with, and
    /// the one they leave with.
    pub fn edges(&self) -> Vec<Step> {
        let is_internet_sum = |step: &Step| {
            matches!(step.arrival.packet.transport, Transport::Tcp { .. } | Transport::Udp { summed: true })
        };
        let all: Vec<_> = self.packets().into_iter().filter(is_internet_sum).collect();
        let mut edges = Vec::new();
        for step in all {
            let with = |checksum: [u8; 2]| {
                self.with_payload(step.clone(), &[b"sums up to nothing..", &checksum[..]].concat())
            };
            let blank = with([0; 2]);
            let mut of = vec![blank.arrival.packet.checksum()];
            if let Outcome::Sent(departure) = &blank.outcome {
                of.push(departure.frame.packet.checksum());
            }
            edges.extend(of.into_iter().map(|checksum| with(checksum.to_be_bytes())));
        }
        edges
    }

    /// The step with another payload.
    pub fn with_payload(&self, step: Step, payload: &[u8]) -> Step {
        self.changed(step, |packet| packet.payload = payload.into())
    }

    fn changed(&self, mut step: Step, how: impl FnOnce(&mut Packet)) -> Step {
        how(&mut step.arrival.packet);
        step.outcome = oracle::outcome(self, step.port, &step.arrival);
        step
    }

    fn step(&self, name: &'static str, is_inward: bool, transport: Transport, payload: Vec<u8>) -> Step {
        let (port, version) = if is_inward { (OUTSIDE, self.client) } else { (INSIDE, self.server) };
        // A server behind DR or TUN answers the client as the virtual address.
        let version = if self.has_replies() { version } else { self.client };
        let (source, destination) = match (is_inward, self.method) {
            (true, _) => (self.client(), self.vip()),
            (false, Method::Nat) => (self.server(), self.client()),
            (false, Method::FullNat) => (self.server(), self.local()),
            (false, Method::Dr | Method::Tun(_)) => (self.vip(), self.client()),
        };
        let (class, df, options) = match self.manner {
            Manner::Plain => (0xb9, true, Extension::None),
            Manner::Optional => (0x2b, false, Extension::Options),
        };
        let is_ah = self.kind == Kind::Ah && !self.is_sealed() && version == Version::V6;
        let is_v4 = version == Version::V4;
        let packet = Packet {
            source,
            destination,
            class,
            ttl: TTL,
            flow_label: if is_v4 { 0 } else { 0xabcde },
            id: if is_v4 { 0x1234 } else { 0 },
            df: is_v4 && df,
            extension: if is_ah { Extension::Authentication } else { options },
            transport,
            payload,
            damaged: false,
        };
        let tag = self.vlans[usize::from(port)].map(|vlan| PRIORITY | vlan);
        let arrival = Frame { to: OUTSIDE_MAC, from: CLIENT_MAC, tag, outer: None, packet };
        let outcome = oracle::outcome(self, port, &arrival);
        Step { name, port, arrival, outcome }
    }
}
