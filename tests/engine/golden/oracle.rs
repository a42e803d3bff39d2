//! What has to leave when a frame arrives: the rules of the methods on descriptions, one field after the other.

use xvs::director::drops::DropReason;
use xvs::director::forward::hops::PortId;
use xvs::director::service::{Method, Tunnel};

use super::packet::{Extension, Frame, Outer, Packet, SEALED_AH, Transport};
use super::{Case, Outcome, Version};
use crate::table::*;

const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];
/// From this length on a packet that has become IPv4 is not to be fragmented (RFC 7915, 5.1).
const FRAGMENTED_MAX: usize = 1260;
/// Ports that flows are spread over behind GUE: `ip_local_port_range`.
const GUE_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A frame that leaves, but for what is free in it.
#[derive(Clone, Debug)]
pub struct Departure {
    pub port: PortId,
    pub frame: Frame,
    /// The identification of an IPv4 header that the director has made, of a packet that may be fragmented.
    pub is_id_free: bool,
}

impl Departure {
    /// The frame as it has to be, given what `sent` has where it is free to choose: an [identification](Self::is_id_free),
    /// and the source port of GUE, as long as it is one that it may be.
    pub fn like(&self, sent: &[u8]) -> Vec<u8> {
        let ip = if self.frame.tag.is_some() { 18 } else { 14 };
        let word = |at: usize| sent.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        let mut frame = self.frame.clone();
        let id = if self.is_id_free { word(ip + 4) } else { 0 };
        match &mut frame.outer {
            Some(outer) => {
                outer.id = id;
                if let Tunnel::Gue { .. } = outer.tunnel {
                    outer.source_port = word(ip + if outer.source.is_ipv4() { 20 } else { 40 });
                    assert!(GUE_PORTS.contains(&outer.source_port), "source port {}", outer.source_port);
                }
            }
            None if self.is_id_free => frame.packet.id = id,
            None => {}
        }
        frame.bytes()
    }
}

/// What is done with a frame that arrives at `port`.
pub fn outcome(case: &Case, port: PortId, arrival: &Frame) -> Outcome {
    let is_inward = port == OUTSIDE;
    let is_across = case.is_across() && case.method == Method::FullNat;
    if !is_inward && !case.has_replies() {
        // They go from the server straight to the client; who sends them here is a stranger.
        return Outcome::Refused(DropReason::NoService);
    }
    match arrival.packet.transport {
        // AH is an extension header there: what it holds is of no protocol that is forwarded.
        SEALED_AH if arrival.packet.source.is_ipv6() => return Outcome::Refused(DropReason::Protocol),
        _ if arrival.packet.extension == Extension::Authentication && is_across => {
            return Outcome::Refused(DropReason::Untranslatable);
        }
        Transport::Sealed { .. } if is_across => return Outcome::Refused(DropReason::Untranslatable),
        _ => {}
    }
    let mut packet = arrival.packet.clone();
    packet.ttl -= 1;
    match (case.method, is_inward) {
        (Method::Nat, true) => packet.destination = case.server(),
        (Method::Nat, false) => packet.source = case.vip(),
        (Method::FullNat, true) => (packet.source, packet.destination) = (case.local(), case.server()),
        (Method::FullNat, false) => (packet.source, packet.destination) = (case.vip(), case.client()),
        (Method::Dr | Method::Tun(_), _) => {}
    }
    if is_across {
        translate(&mut packet);
    }
    let outer = match case.method {
        Method::Tun(tunnel) => Some(wrapping(case, tunnel, &packet)),
        _ => None,
    };
    let is_id_free = match &outer {
        Some(outer) => outer.source.is_ipv4() && !outer.df,
        None => is_across && packet.source.is_ipv4() && !packet.df,
    };
    let (port, to, from) = match is_inward {
        true => (INSIDE, SERVER_MAC, INSIDE_MAC),
        false => (OUTSIDE, ROUTER_MAC, OUTSIDE_MAC),
    };
    // A tag that is written over keeps its priority; a tunnel's frame is a new one.
    let priority = arrival.tag.filter(|_| outer.is_none()).map_or(0, |tag| tag & 0xf000);
    let tag = case.vlans[usize::from(port)].map(|vlan| priority | vlan);
    Outcome::Sent(Departure { port, frame: Frame { to, from, tag, outer, packet }, is_id_free })
}

/// The packet with a header of the version that its addresses are of (RFC 7915, 4.1 and 5.1).
fn translate(packet: &mut Packet) {
    packet.extension = Extension::None;
    (packet.flow_label, packet.id, packet.df) = (0, 0, false);
    if packet.source.is_ipv4() {
        packet.df = packet.bytes().len() > FRAGMENTED_MAX;
    } else if let Transport::Udp { summed } = &mut packet.transport {
        *summed = true;
    }
}

/// What a packet is wrapped into, as it is when it leaves.
fn wrapping(case: &Case, tunnel: Tunnel, inner: &Packet) -> Outer {
    let source = match case.server {
        Version::V4 => INSIDE_ADDRESS.into(),
        Version::V6 => INSIDE_ADDRESS_V6.into(),
    };
    // Congestion experienced becomes able to tell it (RFC 3168, 9.1.1).
    let class = if inner.class & 3 == 3 { inner.class - 1 } else { inner.class };
    let df = case.server == Version::V4 && inner.df;
    let destination = case.server().ip();
    Outer { tunnel, source, destination, class, ttl: inner.ttl, id: 0, df, source_port: 0 }
}
