//! Helpers of applications that say in their text where further connections go (`ip_vs_app`).
//!
//! One trait, one closed list, one file for each helper: it reads text and knows nothing of packets. What follows from
//! it is here, and the same for all: the connection that was announced is entered ahead, so that its packets find their
//! way; the text is rewritten to say the VIP; and what that shifts in the stream is made good in every later packet.
//!
//! | file | owns |
//! | --- | --- |
//! | `ftp` | what clients and servers of FTP say |
//! | `shift` | by how much a stream is longer for its receiver |
//! | `memory` | what is remembered of a connection with a helper |
//! | `expect` | connections that were announced |
//!
//! A connection with a helper is marked in its recipes ([`Slot::aside`]); its packets come through here, all others
//! pay a test of a word that they have read anyway.

mod expect;
mod ftp;
mod memory;
mod shift;

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use arrayvec::ArrayVec;

use self::ftp::Ftp;
pub use self::memory::Apps;
use self::memory::Cell;
use self::shift::{Change, Shift};
use super::client_address::Introduction;
use super::conn::state::State;
use super::conn::{Direction, Found, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PortId};
use super::refusal::Refusal;
use super::server::Destination;
use super::service::{Method, Protocol};
use super::services::FTP;
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;
use crate::packet::segment;

/// An address as a helper writes it.
type Address = ArrayVec<u8, 24>;

/// Where a server says it waits for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meeting {
    address: SocketAddr,
    /// Where in the text that is said, if the address is part of it.
    shown: Option<Range<usize>>,
}

/// Reads what the two ends of a connection say.
trait Helper {
    /// Where the client says it waits for the server, in the version of IP that it speaks. `asked` is what the helper
    /// keeps of what the client asks for.
    fn client_says(&self, text: &[u8], asked: &mut u32, is_v4: bool) -> Option<SocketAddr>;

    /// Where the server says it waits for the client. `server` is the server's own address.
    fn server_says(&self, text: &[u8], asked: u32, server: IpAddr) -> Option<Meeting>;

    /// The text that says `address` in place of a shown one, of which there are none in IPv6.
    fn show(&self, address: SocketAddrV4) -> Address;
}

/// The helper of the connections with this key, given to this server: TCP to port 21 through NAT, as the kernel's
/// `ip_vs_ftp` binds it.
fn is_helped(key: &FlowKey, destination: &Destination) -> bool {
    key.protocol() == Protocol::Tcp as u8
        && key.destination().port() == FTP
        && destination.method == Method::Nat
}

impl<'a, H: NextHops> Work<'a, H> {
    /// What is kept aside of a new connection: something if its server is told the client's address or it has a helper,
    /// 0 otherwise.
    pub(super) fn helper(&self, key: &FlowKey, destination: &Destination) -> Result<u32, DropReason> {
        if let Some(mark) = self.introduction(key, destination.id) {
            return Ok(mark);
        }
        if self.services.tunables.ftp_helper == 0 || !is_helped(key, destination) {
            return Ok(0);
        }
        let apps = &self.director.apps;
        // Without its helper the connection would get to the server, and every transfer would hang.
        apps.take(|stamp| self.director.table.passed(stamp)).ok_or(DropReason::HelperFull)
    }

    /// Forwards a packet of a connection of which something is kept aside.
    #[cold]
    #[inline(never)]
    pub(super) fn assist(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        (slot, found): (&'a Slot, Found),
        hop: Result<Hop, DropReason>,
    ) -> Result<PortId, Refusal> {
        if let Some(introduction) = Introduction::of_mark(slot.aside()) {
            return self.introduce(introduction, packet, parsed, (slot, found), hop);
        }
        let direction = found.direction;
        let mut parsed = *parsed;
        if let Some(cell) = self.director.apps.cell(slot.aside()) {
            // As in the kernel only what is said on an established connection counts.
            if slot.status().state == State::Established {
                match direction {
                    Direction::In => self.hear_client(packet, &parsed, (slot, found), cell)?,
                    Direction::Out => parsed = self.hear_server(packet, &parsed, (slot, found), cell, hop)?,
                }
            }
            let shift = cell.shift();
            match direction {
                Direction::In => {
                    if let Some(number) = segment::acknowledged(packet.frame(), &parsed) {
                        cell.settle(number);
                    }
                    segment::renumber(packet.frame(), &parsed, |n| n, |n| shift.to_sender(n));
                }
                // Only servers' text is ever rewritten, so what they acknowledge is what clients sent.
                Direction::Out => segment::renumber(packet.frame(), &parsed, |n| shift.to_receiver(n), |n| n),
            }
        }
        let opposite = || slot.key(direction.opposite());
        self.send(packet, &parsed, direction, hop, slot.recipe(direction), opposite)
    }

    /// Learns what the client asks for, and where it waits.
    fn hear_client(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        control: (&'a Slot, Found),
        cell: &Cell,
    ) -> Result<(), DropReason> {
        let frame = packet.frame();
        let text = segment::text(frame, parsed);
        if text.is_empty() || !segment::is_sound(frame, parsed) {
            return Ok(());
        }
        let before = cell.asked();
        let mut asked = before;
        let waits_at = Ftp.client_says(&frame[text], &mut asked, parsed.key.is_v4());
        if asked != before {
            cell.ask(asked);
        }
        match waits_at {
            Some(client) => self.expect_server(control, client),
            None => Ok(()),
        }
    }

    /// Learns where the server waits, and rewrites that to the VIP. The packet as it is then.
    fn hear_server(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        control: (&'a Slot, Found),
        cell: &Cell,
        hop: Result<Hop, DropReason>,
    ) -> Result<Parsed, DropReason> {
        let unchanged = Ok(*parsed);
        let server = parsed.key.source().ip();
        let frame = packet.frame();
        let text = segment::text(frame, parsed);
        let start = text.start;
        if text.is_empty() || cell.asked() == 0 || !segment::is_sound(frame, parsed) {
            return unchanged;
        }
        let Some(Meeting { address, shown }) = Ftp.server_says(&frame[text], cell.asked(), server) else {
            return unchanged;
        };
        if address.is_ipv4() != server.is_ipv4() {
            return unchanged;
        }
        let Some(shown) = shown else {
            self.expect_client(control, address)?;
            return unchanged;
        };
        let IpAddr::V4(vip) = control.0.key(Direction::In).destination().ip() else { return unchanged };
        let by = Ftp.show(SocketAddrV4::new(vip, address.port()));
        // Neither is longer than 23 bytes.
        let step = i8::try_from(by.len()).unwrap_or(0) - i8::try_from(shown.len()).unwrap_or(0);
        let edge = u32::try_from(shown.end).unwrap_or(u32::MAX);
        let edge = segment::sequence(frame, parsed).wrapping_add(edge);
        let longest = hop.map_or(u16::MAX, |hop| hop.mtu);
        let is_too_long = i32::from(parsed.ip_len) + i32::from(step) > i32::from(longest);
        let change = cell.shift().changed(edge, step);
        match change {
            Change::Past => return unchanged,
            // Sent again by the server, and then there may be a way.
            Change::Refused => return Err(DropReason::HelperUnable),
            _ if is_too_long => return Err(DropReason::HelperUnable),
            Change::Again | Change::Shifted(_) => self.expect_client(control, address)?,
        }
        let place = start + shown.start..start + shown.end;
        let (parsed, len) =
            segment::replace(packet.room, parsed, place, &by).ok_or(DropReason::HelperUnable)?;
        packet.len = len;
        if let Change::Shifted(shift) = change {
            cell.set_shift(shift);
        }
        Ok(parsed)
    }
}

/// The server's port of data connections that it opens itself: the one below that of its control connection.
fn data_port(control: SocketAddr) -> u16 {
    control.port().wrapping_sub(1)
}
