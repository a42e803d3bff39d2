//! Segments of streams that a PROXY header begins.
//!
//! The header goes with the segment that ends the handshake, as its text: then the server has it with the handshake or
//! has neither, and what makes the handshake right after a loss, the server's repeated SYN-ACK, makes the header right
//! too. Servers that speak first have it without a word of the client's. Until the server has acknowledged the header,
//! what begins with the client's first byte brings it again:
//!
//! - a segment without text becomes the header;
//! - the first one with text goes as it is if the header went ahead. If it did not (the client's acknowledgement came with
//!   its text), the header is put in front of the text if that fits the MTU and the server's largest segment;
//! - when such text comes again, or with no room for the header, the header goes in a segment of its own beside it: what was
//!   sent again may have been too long for the way.
//!
//! Text in a SYN (TCP Fast Open) is taken off: the client sends it again (RFC 7413, 4.2.1), behind the header. The
//! window of the SYN-ACK is smaller by the header. What the server says of blocks received out of order is left out until it
//! has the header, since to the client nothing would be missing. Urgent data is none until then: a byte of the header
//! could be taken out of the stream by it.

use super::stream::Stream;
use super::{Beside, Kept, Outcome, Way, is_fragment};
use crate::director::conn::Direction;
use crate::director::drops::DropReason;
use crate::director::engine::{Packet, Work};
use crate::director::forward::hops::{Hop, NextHops};
use crate::packet::parse::{Parsed, TcpFlags};
use crate::packet::proxy::{self, Header};
use crate::packet::{insert, segment};

/// The longest segment that who does not say so takes, in bytes (RFC 9293, 3.7.1).
const MSS_DEFAULT: u16 = 536;

/// A header, and how many bytes it has.
struct Head {
    header: Header,
    len: u32,
}

impl<'a, H: NextHops> Work<'a, H> {
    /// Forwards a segment of a stream that a header begins.
    pub(super) fn send_in_stream(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
    ) -> Outcome {
        let header = proxy::header(&way.slot.key(Direction::In)).ok_or(DropReason::ClientAddress)?;
        let len = u32::try_from(header.len()).unwrap_or(0);
        let head = Head { header, len };
        match way.direction {
            Direction::In if parsed.flags.has(TcpFlags::SYN) => self.send_syn(packet, parsed, way),
            Direction::In => self.send_to_server(packet, parsed, way, &head),
            Direction::Out => self.send_to_client(packet, parsed, way, &head),
        }
    }

    /// A client's SYN, without its text.
    fn send_syn(&mut self, packet: &mut Packet<'_>, parsed: &Parsed, way: Way<'a>) -> Outcome {
        let frame = packet.frame();
        if is_fragment(frame) {
            return Err(DropReason::ClientAddress.into());
        }
        let text = segment::text(frame, parsed);
        if text.is_empty() {
            return self.send_on(packet, parsed, way);
        }
        let bare = Parsed { ip_len: parsed.ip_len - u16::try_from(text.len()).unwrap_or(0), ..*parsed };
        if !way.fits(&bare, 0) {
            // Refused, for whatever reason there is.
            return self.send_on(packet, parsed, way);
        }
        let (parsed, len) = insert::cut(frame, parsed, text.start).ok_or(DropReason::ClientAddress)?;
        packet.len = len;
        self.send_on(packet, &parsed, way)
    }

    /// Any other segment of the client's.
    fn send_to_server(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
        head: &Head,
    ) -> Outcome {
        let Way { slot, hop, .. } = way;
        let (frame, word) = (packet.frame(), slot.told());
        let (stream, is_reset) = (Stream::from_word(word), parsed.flags.has(TcpFlags::RST));
        let is_piece = is_fragment(frame);
        if !stream.is_known() {
            // Before its server has answered, a client may only give up.
            let gives_up = is_reset && segment::text(frame, parsed).is_empty() && !is_piece;
            return if gives_up {
                self.send_on(packet, parsed, way)
            } else {
                Err(DropReason::ClientAddress.into())
            };
        }
        let number = segment::sequence(frame, parsed);
        let text = segment::text(frame, parsed);
        let has_text = !text.is_empty();
        let numbers = text.len() + usize::from(parsed.flags.has(TcpFlags::FIN));
        let collides = stream.collides(number, u32::try_from(numbers).unwrap_or(u32::MAX));
        if collides || (is_piece && stream.is_early(number)) {
            return Err(DropReason::ClientAddress.into());
        }
        if is_reset || !stream.wants_header(number) {
            // Where nothing is known to have arrived, the server waits for the first byte still.
            let is_first = is_reset && stream.begins_at(number) && !stream.is_sent() && !stream.is_acked();
            return self.send_shifted(packet, parsed, way, if is_first { 0 } else { head.len });
        }

        let size = segment::options_len(frame, parsed) + text.len() + head.header.len();
        let may_share = !has_text
            || (!stream.is_sent() && size <= usize::from(stream.mss()) && !parsed.flags.has(TcpFlags::URG));
        if may_share && !is_piece && way.fits(parsed, head.header.len()) {
            let end = parsed.l3 + usize::from(parsed.ip_len);
            if end + head.header.len() > packet.room.len() {
                return Err(DropReason::ClientAddress.into());
            }
            segment::clear_flags(packet.room, parsed, TcpFlags::URG);
            let (parsed, len) = insert::insert(packet.room, parsed, end - text.len(), &head.header)
                .ok_or(DropReason::ClientAddress)?;
            packet.len = len;
            slot.change_told(word, stream.sent(has_text).to_word());
            return self.send_on(packet, &parsed, way);
        }
        if !has_text {
            // Refused, for whatever reason there is; with none there is no room.
            return if way.fits(parsed, 0) {
                Err(DropReason::ClientAddress.into())
            } else {
                self.send_on(packet, parsed, way)
            };
        }
        if is_piece {
            // The segment that ended the handshake brought it, and does so again if the server asks.
            if !stream.is_sent() {
                return Err(DropReason::ClientAddress.into());
            }
        } else if (!stream.is_sent() || stream.is_followed())
            && let Ok(hop) = hop
        {
            self.send_header(packet, parsed, way, hop, head)?;
        }
        let port = self.send_shifted(packet, parsed, way, head.len)?;
        slot.change_told(word, stream.sent(true).to_word());
        Ok(port)
    }

    /// Sends the header in a segment of its own, made of this one of the client's.
    fn send_header(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
        hop: Hop,
        head: &Head,
    ) -> Result<(), DropReason> {
        let frame = &*packet.frame();
        let text = segment::text(frame, parsed);
        let bare = Parsed { ip_len: parsed.ip_len - u16::try_from(text.len()).unwrap_or(0), ..*parsed };
        if !way.fits(&bare, head.header.len()) {
            // The text will not get there either: it is refused for the same reason.
            return Ok(());
        }
        let beside = Beside { slot: way.slot, hop, identification: self.identifications.next_v4() };
        if self.outbox.free() == 0 {
            return Err(DropReason::OutboxFull);
        }
        let is_written = self.outbox.write(hop.port, |to| {
            to.get_mut(..text.end)?.copy_from_slice(frame.get(..text.end)?);
            let (bare, _) = insert::cut(to, parsed, text.start)?;
            segment::clear_flags(to, &bare, TcpFlags::FIN | TcpFlags::URG);
            let (whole, len) = insert::insert(to, &bare, text.start, &head.header)?;
            beside.address(to, (&whole, len))
        });
        if is_written { Ok(()) } else { Err(DropReason::ClientAddress) }
    }

    /// Sends a segment of the client's under the numbers that the server knows, `by` so many more.
    fn send_shifted(&mut self, packet: &mut Packet<'_>, parsed: &Parsed, way: Way<'a>, by: u32) -> Outcome {
        let stream = Stream::from_word(way.slot.told());
        let kept = Kept::of(packet.frame(), parsed);
        segment::renumber(packet.frame(), parsed, |n| stream.to_server(n, by), |n| n);
        if !stream.is_acked() && parsed.flags.has(TcpFlags::URG) {
            segment::clear_flags(packet.frame(), parsed, TcpFlags::URG);
        }
        let sent = self.send_on(packet, parsed, way);
        if sent.is_err() {
            kept.put_back(packet.frame(), parsed);
        }
        sent
    }

    /// A segment of the server's.
    fn send_to_client(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
        head: &Head,
    ) -> Outcome {
        let slot = way.slot;
        let (frame, word) = (packet.frame(), slot.told());
        let mut stream = Stream::from_word(word);
        let acknowledged = segment::acknowledged(frame, parsed);
        let kept = Kept::of(frame, parsed);
        let is_open = slot.status().state.is_established();
        match acknowledged {
            Some(number) if parsed.flags.has(TcpFlags::SYN) && (!is_open || stream.begins_at(number)) => {
                // One that comes again, or is damaged, begins nothing.
                if !stream.begins_at(number) && segment::is_sound(frame, parsed) {
                    let mss = segment::mss(frame, parsed).unwrap_or(MSS_DEFAULT);
                    slot.set_told(Stream::new(number, mss).to_word());
                }
                segment::shrink_window(frame, parsed, u16::try_from(head.len).unwrap_or(0));
            }
            Some(number) if stream.is_known() => {
                let after = stream.acknowledged(number, head.len);
                if after != stream && segment::is_sound(frame, parsed) {
                    slot.change_told(word, after.to_word());
                    stream = after;
                }
                // Nor is the client told that the header arrived twice (RFC 2883).
                let is_ours = |first, _| stream.is_in_header(first, head.len);
                if !stream.is_acked() || segment::has_block(frame, parsed, is_ours) {
                    segment::blank_blocks(frame, parsed);
                }
                segment::renumber(frame, parsed, |n| n, |n| stream.to_client(n, head.len));
            }
            _ => {}
        }
        let sent = self.send_on(packet, parsed, way);
        if sent.is_err() {
            kept.put_back(packet.frame(), parsed);
        }
        sent
    }
}
