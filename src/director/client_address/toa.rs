//! The TCP option that tells the client's address, on the client's segments from the one that ends the handshake until the
//! server's next one that shows that it has a connection.
//!
//! The servers' module reads it from the segment that makes the connection, which is the first that arrives behind the
//! SYN; so any of them may be it, until the server says something or has heard something of the client's. A segment with text has it
//! only if no router on the way can find it too long for that, or the first time; text that has no room for it goes
//! behind an acknowledgement that has, if none went before. Never on a SYN. Where the header is full of other options the
//! server is not told. What the client sends of this kind itself is blanked all that time.

use super::stream::Stream;
use super::{Beside, Outcome, Way, is_fragment};
use crate::director::conn::{Direction, Slot};
use crate::director::engine::{Packet, Work};
use crate::director::forward::hops::{Hop, NextHops, PASS};
use crate::director::server::ServerId;
use crate::director::terms::Told;
use crate::packet::parse::{Parsed, TcpFlags};
use crate::packet::toa::{self, Toa};
use crate::packet::{insert, segment};

/// An IP packet that every path takes, in bytes: IPv6's least MTU, and in practice IPv4's.
const SMALL: usize = 1280;

/// The most bytes that a packet grows by when it is readdressed: a tag, and an IPv6 header in place of an IPv4 one.
const GROWS_MAX: usize = 4 + 20;

impl<'a, H: NextHops> Work<'a, H> {
    /// Forwards a segment of a connection whose server may not have been told yet.
    pub(super) fn send_with_option(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
    ) -> Outcome {
        let Way { slot, direction, hop } = way;
        if direction == Direction::Out {
            self.note_server(packet, parsed, slot);
            return self.send_on(packet, parsed, way);
        }
        // Its service may have changed since.
        let Told::Toa(kind) = self.services.terms.of(ServerId(slot.server_id())).told else {
            return self.send_on(packet, parsed, way);
        };
        // Whatever becomes of it: what the client says in our place is never believed.
        toa::blank(packet.frame(), parsed, kind);
        if !hop.is_ok_and(|hop| parsed.ttl > 1 || hop.port == PASS) {
            // Refused as it is.
            return self.send_on(packet, parsed, way);
        }
        let never = TcpFlags::SYN | TcpFlags::RST;
        if parsed.flags.has(never) || is_fragment(packet.frame()) {
            return self.send_on(packet, parsed, way);
        }
        let option = toa::option(kind, &slot.key(Direction::In));
        let (word, text) = (slot.told(), segment::text(packet.frame(), parsed));
        let (stream, has_text) = (Stream::from_word(word), !text.is_empty());
        let is_small = usize::from(parsed.ip_len) + option.len() <= SMALL;
        let may_share = !has_text || is_small || !stream.is_followed();
        let mut sent = stream;
        let mut parsed = *parsed;
        if may_share && way.fits(&parsed, option.len()) {
            if let Some((longer, len)) = toa::add(packet.room, &parsed, &option) {
                (parsed, packet.len) = (longer, len);
                sent = stream.sent(has_text);
            }
        } else if !stream.is_sent()
            && let Ok(hop) = hop
            && self.send_ahead(packet, &parsed, way, hop, &option)
        {
            slot.change_told(word, stream.sent(true).to_word());
            return Ok(hop.port);
        }
        slot.change_told(word, sent.to_word());
        self.send_on(packet, &parsed, way)
    }

    /// Learns from a segment of the server's whether the server has a connection, and so knows the client. An
    /// acknowledgement of the SYN alone does not tell: a server sends that without a connection too, to whatever does not
    /// fit one that is being made.
    fn note_server(&self, packet: &mut Packet<'_>, parsed: &Parsed, slot: &Slot) {
        let (frame, stream) = (packet.frame(), Stream::from_word(slot.told()));
        let acknowledged = segment::acknowledged(frame, parsed);
        if parsed.flags.has(TcpFlags::SYN) {
            if let Some(number) = acknowledged
                && !stream.begins_at(number)
                && segment::is_sound(frame, parsed)
            {
                slot.set_told(Stream::new(number, 0).to_word());
            }
            return;
        }
        let hears_client = acknowledged.is_some_and(|number| stream.is_beyond(number));
        let speaks = !segment::text(frame, parsed).is_empty() || parsed.flags.has(TcpFlags::FIN);
        if !parsed.flags.has(TcpFlags::RST) && (hears_client || speaks) {
            slot.clear_aside();
        }
    }

    /// Makes the segment an acknowledgement with the option, and sends its text behind. False, and nothing has changed,
    /// if that cannot be.
    fn send_ahead(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
        hop: Hop,
        option: &Toa,
    ) -> bool {
        let frame = &*packet.frame();
        let text = segment::text(frame, parsed);
        let has_room = segment::options_len(frame, parsed) + option.len() <= 40
            && text.start + option.len() + GROWS_MAX <= packet.room.len();
        if text.is_empty() || !has_room || !way.fits(parsed, 0) {
            return false;
        }
        let frame = &*packet.frame();
        let beside = Beside { slot: way.slot, hop, identification: self.identifications.next_v4() };
        let is_written = self.outbox.write(hop.port, |to| {
            to.get_mut(..text.end)?.copy_from_slice(frame.get(..text.end)?);
            beside.address(to, (parsed, text.end))
        });
        if !is_written {
            return false;
        }
        let beside = Beside { identification: self.identifications.next_v4(), ..beside };
        let acknowledgement = insert::cut(packet.room, parsed, text.start).and_then(|(bare, _)| {
            segment::clear_flags(packet.room, &bare, TcpFlags::FIN | TcpFlags::URG);
            let (bare, len) = toa::add(packet.room, &bare, option)?;
            beside.address(packet.room, (&bare, len))
        });
        packet.len = acknowledgement.unwrap_or(packet.len);
        true
    }
}
