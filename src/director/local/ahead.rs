//! The reset that ends a server's TIME_WAIT before a port is used again, ahead of the SYN.
//!
//! The SYN goes by the outbox, which is sent behind the batch, and its frame becomes the reset.

use crate::director::conn::{Found, Slot};
use crate::director::engine::{Packet, Work};
use crate::director::forward::hops::NextHops;
use crate::director::fragments::Fate;
use crate::director::open::Begun;
use crate::director::refusal::Refusal;
use crate::packet::parse::{Parsed, parse};
use crate::packet::reset;

impl<'a, H: NextHops> Work<'a, H> {
    /// Opens a connection behind a reset with this sequence number.
    pub(in crate::director) fn open_behind_reset(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        (slot, found): (&'a Slot, Found),
        number: u32,
    ) -> Result<Begun<'a>, Refusal> {
        let is_counted = self.is_counted(slot);
        self.lower_mss(packet, parsed, slot);
        let port = self.go_on(packet, parsed, (slot, found), is_counted)?;
        let mut room = [0; reset::LEN_MAX];
        let frame = packet.frame();
        // Without a reset the server and the client find out by themselves, only later.
        if parsed.room == 0
            // As it leaves: its headers may be other ones.
            && let Ok(leaving) = parse(frame)
            && let Some(len) = reset::write(frame, &leaving, number, &mut room)
            && self.outbox.write(port, |to| {
                to.get_mut(..frame.len())?.copy_from_slice(frame);
                Some(frame.len())
            })
        {
            frame[..len].copy_from_slice(&room[..len]);
            packet.len = len;
        }
        Ok(Begun::Sent(port, Fate::Connection(parsed.key)))
    }
}
