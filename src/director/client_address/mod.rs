//! How a server is told who a connection is from, where its service wants that: `client_address`.
//!
//! | file | owns |
//! | --- | --- |
//! | `stream` | where in a TCP stream a PROXY header is, and what that makes of its numbers |
//! | `proxy` | segments of streams with a PROXY header |
//! | `datagram` | a PROXY header in front of a UDP flow's first datagram |
//! | `toa` | the TCP option |
//!
//! A connection that is told of is marked in its recipes ([`Slot::aside`]); its packets come through here: those of a
//! stream with a header all its life, since its numbers are shifted; the others until the server knows, and from then on
//! they pay nothing. What has been told is kept in the connection's slot ([`Slot::told`]). Existing connections keep
//! what they began with, whatever becomes of their service.

mod datagram;
mod proxy;
mod stream;
mod toa;

use arrayvec::ArrayVec;

use self::stream::Stream;
use super::conn::{Direction, Found, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward;
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::forward::recipe::Rewrite;
use super::refusal::Refusal;
use super::server::ServerId;
use super::service::Protocol;
use super::terms::Told;
use crate::packet::flow::FlowKey;
use crate::packet::icmp::{self, Related};
use crate::packet::parse::{Parsed, Reject, TcpFlags, parse};
use crate::packet::translate::{self, Leaving};
use crate::packet::{edit, proxy as proxy_header, room, segment};

/// What is done to the packets of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introduction {
    /// A PROXY header begins its TCP stream.
    Stream,
    /// A PROXY header is yet to be put in front of a datagram.
    Datagram,
    /// A TCP option is put into the client's segments.
    Toa,
}

/// The marks of connections, above those of helpers (`app::memory`).
const MARKS: [(u32, Introduction); 3] = [
    ((1 << 30) - 2, Introduction::Stream),
    ((1 << 30) - 3, Introduction::Datagram),
    ((1 << 30) - 4, Introduction::Toa),
];

impl Introduction {
    pub(super) fn of_mark(mark: u32) -> Option<Self> {
        MARKS.iter().find(|(other, _)| *other == mark).map(|(_, introduction)| *introduction)
    }

    fn mark(self) -> u32 {
        MARKS.iter().find(|(_, other)| *other == self).map_or(0, |(mark, _)| *mark)
    }

    /// What a server that is `told` so gets of a connection of this protocol.
    const fn new(told: Told, protocol: u8) -> Option<Self> {
        match (told, Protocol::from_number(protocol)) {
            (Told::Proxy, Some(Protocol::Tcp)) => Some(Self::Stream),
            (Told::Proxy, Some(Protocol::Udp)) => Some(Self::Datagram),
            (Told::Toa(_), Some(Protocol::Tcp)) => Some(Self::Toa),
            _ => None,
        }
    }
}

impl<'a, H: NextHops> Work<'a, H> {
    /// The mark of a new connection with this key, given to this server, if its client is introduced.
    pub(super) fn introduction(&self, key: &FlowKey, id: ServerId) -> Option<u32> {
        Introduction::new(self.services.terms.of(id).told, key.protocol()).map(Introduction::mark)
    }

    /// A client's SYN goes on in a connection there is already: its server, for which it may be a new one, is told anew.
    pub(super) fn introduce_again(&self, slot: &Slot, parsed: &Parsed) {
        let toa = Introduction::Toa.mark();
        // A tunnel's connection stays one, whatever its server is by now.
        let is_rewritten = matches!(slot.recipe(Direction::In).rewrite, Rewrite::Tuple | Rewrite::Translate);
        let opens = parsed.flags.has(TcpFlags::SYN) && slot.aside() == 0 && is_rewritten;
        if opens && self.introduction(&parsed.key, ServerId(slot.server_id())) == Some(toa) {
            slot.set_told(0);
            slot.set_aside(toa);
            self.director.offload.withdraw(slot);
        }
    }

    /// Forwards a packet of a connection whose client is introduced.
    pub(super) fn introduce(
        &mut self,
        introduction: Introduction,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        (slot, found): (&'a Slot, Found),
        hop: Result<Hop, DropReason>,
    ) -> Result<PortId, Refusal> {
        // What is in another fragment could neither be changed nor looked at.
        if introduction != Introduction::Datagram && !segment::has_header(packet.frame(), parsed) {
            return Err(DropReason::ClientAddress.into());
        }
        let way = Way { slot, direction: found.direction, hop };
        match introduction {
            Introduction::Stream => self.send_in_stream(packet, parsed, way),
            Introduction::Datagram => self.send_datagram(packet, parsed, way),
            Introduction::Toa => self.send_with_option(packet, parsed, way),
        }
    }

    /// Sends a packet of the connection as it is now.
    fn send_on(&mut self, packet: &mut Packet<'_>, parsed: &Parsed, way: Way<'a>) -> Outcome {
        let Way { slot, direction, hop } = way;
        let recipe = slot.recipe(direction);
        if recipe.rewrite.changes_headers() {
            return self.send_otherwise(packet, parsed, direction, hop, slot);
        }
        self.send(packet, parsed, direction, hop, recipe, || slot.key(direction.opposite()))
    }
}

/// Where a packet went, or why not.
type Outcome = Result<PortId, Refusal>;

/// The way of a packet: the connection that it belongs to, its direction, and where it goes next if there is a way.
#[derive(Clone, Copy)]
struct Way<'a> {
    slot: &'a Slot,
    direction: Direction,
    hop: Result<Hop, DropReason>,
}

impl Way<'_> {
    /// True if the client's packet may go on in one piece when it is `more` bytes longer.
    fn fits(&self, parsed: &Parsed, more: usize) -> bool {
        let is_translated = self.slot.recipe(Direction::In).rewrite == Rewrite::Translate;
        let len = if is_translated { translate::len(parsed) } else { usize::from(parsed.ip_len) };
        let Ok(ip_len) = u16::try_from(len + more) else { return false };
        self.hop.is_ok_and(|hop| forward::may_go(&Parsed { ip_len, ..*parsed }, &hop).is_ok())
    }
}

/// A way out that a packet made beside another one takes, in one piece.
struct Beside<'s> {
    slot: &'s Slot,
    hop: Hop,
    /// For one of IPv6 that becomes one of IPv4.
    identification: u16,
}

impl Beside<'_> {
    /// Makes the client's packet at the start of `room` what its server gets. The frame's length comes back, without any
    /// room in front; none if `room` is too small.
    fn address(&self, room: &mut [u8], (parsed, mut len): (&Parsed, usize)) -> Option<usize> {
        let Self { slot, hop, identification } = self;
        let (recipe, tuple) = (slot.recipe(Direction::In), slot.key(Direction::Out));
        let mut sent = *parsed;
        if recipe.rewrite == Rewrite::Translate {
            sent.key = tuple.reversed();
            let leaving = Leaving { tuple: &sent.key, l4: recipe.l4 };
            len = translate::whole(room, parsed, leaving, *identification).ok()?;
            edit::set_macs(room, hop.dst_mac, hop.src_mac);
        } else {
            forward::apply(room, parsed, recipe, || tuple, hop);
        }
        if hop.port == PASS {
            // Where `sent` has it: before the room in front is closed.
            edit::restore_ttl(room, &sent);
            return Some(room::close(room, len));
        }
        let len = room::close(room, len);
        if parsed.vlan == hop.vlan { Some(len) } else { edit::set_vlan(room, len, hop.vlan) }
    }
}

/// Where a client's sequence number is to the server.
pub(super) fn at_server(slot: &Slot, number: u32) -> u32 {
    let (stream, len) = (Stream::from_word(slot.told()), header_len(slot));
    if stream.is_known() { len.map_or(number, |len| stream.to_server(number, len)) } else { number }
}

/// Bytes of the header that begins the connection's stream, if one does.
fn header_len(slot: &Slot) -> Option<u32> {
    (Introduction::of_mark(slot.aside()) == Some(Introduction::Stream)).then_some(())?;
    u32::try_from(proxy_header::header(&slot.key(Direction::In))?.len()).ok()
}

/// Has an error about a client's segment quote the number that the client gave it, if the server knows another.
pub(super) fn renumber(frame: &mut [u8], error: &Related, slot: &Slot) {
    let stream = Stream::from_word(slot.told());
    if let Some(len) = header_len(slot)
        && stream.is_known()
    {
        icmp::renumber(frame, error, |number| stream.to_client(number, len));
    }
}

/// The longest TCP header in bytes.
const TCP_HEADER_MAX: usize = 60;

/// A TCP header as it came, to be put back if the packet goes no further: what its sender is told quotes it.
struct Kept(ArrayVec<u8, TCP_HEADER_MAX>);

impl Kept {
    fn of(frame: &[u8], parsed: &Parsed) -> Self {
        let end = (parsed.l4 + TCP_HEADER_MAX).min(frame.len());
        Self(frame.get(parsed.l4..end).unwrap_or_default().iter().copied().collect())
    }

    fn put_back(&self, frame: &mut [u8], parsed: &Parsed) {
        if let Some(header) = frame.get_mut(parsed.l4..).and_then(|f| f.get_mut(..self.0.len())) {
            header.copy_from_slice(&self.0);
        }
    }
}

/// True for a first fragment: nothing can be put into it, since the others would have to move.
fn is_fragment(frame: &[u8]) -> bool {
    matches!(parse(frame), Err(Reject::Fragment))
}

#[cfg(test)]
mod tests {
    use super::super::app::Apps;
    use super::*;

    #[test]
    fn marks_are_nobody_elses() {
        for (mark, introduction) in MARKS {
            assert_eq!(Introduction::of_mark(mark), Some(introduction));
            assert_eq!(introduction.mark(), mark);
            assert!(mark < 1 << 30 && !Apps::is_followed(mark));
            Apps::new().forget(mark, || panic!("nothing is kept there"));
        }
        assert_eq!([0, 1, (1 << 30) - 1].map(Introduction::of_mark), [None; 3]);
    }

    #[test]
    fn what_does_not_suit_is_forwarded_as_it_is() {
        use Introduction::{Datagram, Stream, Toa};
        let of = |told| [6, 17, 132].map(|protocol| Introduction::new(told, protocol));
        assert_eq!(of(Told::Not), [None; 3]);
        assert_eq!(of(Told::Proxy), [Some(Stream), Some(Datagram), None]);
        assert_eq!(of(Told::Toa(254)), [Some(Toa), None, None]);
    }
}
