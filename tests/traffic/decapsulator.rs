//! The far ends of tunnels: takes outer headers off and gives the packets inside to its own host.
//!
//! Kernels for small machines lack the tunnel devices, so this is done with raw sockets. It trusts nobody: what
//! is not well wrapped is counted as such, and tests want none of that.

use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use xvs::packet::checksum;

use crate::netns;

/// The UDP port that GUE is listened for at.
pub const GUE_PORT: u16 = 6080;

const IPIP: u8 = 4;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// Sends packets whose header is written already.
const RAW: u8 = 255;
/// What tunnels are made of.
const CARRIERS: [u8; 4] = [IPIP, IPV6, GRE, UDP];

/// What arrived.
#[derive(Debug, Default)]
pub struct Seen {
    /// Packets taken out, of any tunnel.
    pub packets: AtomicU64,
    /// What was no packet in a packet from the director.
    pub bad: AtomicU64,
    /// The longest outer packet, in bytes.
    pub longest: AtomicU64,
}

/// Ends when dropped.
#[derive(Debug)]
pub struct Decapsulator {
    pub seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Decapsulator {
    /// The end of every tunnel over IPv4 from `director` in `netns`.
    pub fn start(netns: &str, director: Ipv4Addr) -> Self {
        Self::start_each(netns, director, &[Domain::IPV4])
    }

    /// As [`start`](Self::start), and the end of tunnels over IPv6 besides.
    pub fn start_for_both(netns: &str, director: Ipv4Addr) -> Self {
        Self::start_each(netns, director, &[Domain::IPV4, Domain::IPV6])
    }

    fn start_each(netns: &str, director: Ipv4Addr, outer: &[Domain]) -> Self {
        let (seen, stop) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let kinds = outer.iter().flat_map(|outer| CARRIERS.map(|carrier| (*outer, carrier)));
        let start = |(outer, carrier)| {
            let (netns, seen, stop) = (netns.to_owned(), seen.clone(), stop.clone());
            let (ready, wait) = mpsc::channel();
            let thread = thread::spawn(move || {
                netns::enter(&netns);
                let end = End::open(outer, carrier, director);
                ready.send(()).expect("awaited");
                let mut buffer = vec![0; 65_536];
                while !stop.load(Relaxed) {
                    end.take_one(&mut buffer, &seen);
                }
            });
            wait.recv().expect("started");
            thread
        };
        Self { threads: kinds.map(start).collect(), seen: seen.clone(), stop: stop.clone() }
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn raw(domain: Domain, protocol: u8) -> Socket {
    let protocol = Protocol::from(i32::from(protocol));
    Socket::new(domain, Type::RAW, Some(protocol)).expect("raw socket")
}

/// One kind of tunnel.
struct End {
    outer: Domain,
    carrier: u8,
    director: Ipv4Addr,
    from: Socket,
    /// So that nobody says that nobody listens.
    _port: Option<UdpSocket>,
    to: Socket,
    to_six: Socket,
}

impl End {
    fn open(outer: Domain, carrier: u8, director: Ipv4Addr) -> Self {
        // One of UDP's own would take no packet of IPv6 without a checksum, as GUE's may be (RFC 6935).
        let from = raw(outer, carrier);
        from.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
        from.set_recv_buffer_size(4 << 20).expect("buffer");
        let port = (carrier == UDP).then(|| {
            let socket = Socket::new(outer, Type::DGRAM, None).expect("socket");
            if outer == Domain::IPV6 {
                socket.set_only_v6(true).expect("IPv6 alone");
            }
            let any: SocketAddr = if outer == Domain::IPV6 {
                (Ipv6Addr::UNSPECIFIED, GUE_PORT).into()
            } else {
                (Ipv4Addr::UNSPECIFIED, GUE_PORT).into()
            };
            socket.bind(&any.into()).expect("port of GUE");
            UdpSocket::from(socket)
        });
        let (to, to_six) = (raw(Domain::IPV4, RAW), raw(Domain::IPV6, RAW));
        Self { outer, carrier, director, from, _port: port, to, to_six }
    }

    fn take_one(&self, buffer: &mut [u8], seen: &Seen) {
        let Ok(len) = (&self.from).read(buffer) else { return };
        let bytes = &buffer[..len];
        // A socket of IPv6 does not show the header.
        let (header, outer_len) = if self.outer == Domain::IPV4 {
            (usize::from(bytes.first().map_or(0, |first| first & 15)) * 4, len)
        } else {
            (0, len + 40)
        };
        let payload = bytes.get(header..).unwrap_or_default();
        if self.carrier == UDP && payload.get(2..4) != Some(&GUE_PORT.to_be_bytes()) {
            return;
        }
        seen.longest.fetch_max(outer_len as u64, Relaxed);
        let is_ours = self.outer == Domain::IPV6 || self.is_ours(bytes, payload);
        match self.inner_of(payload).filter(|_| is_ours).and_then(|inner| Some((inner, destination(inner)?)))
        {
            Some((inner, destination)) => {
                seen.packets.fetch_add(1, Relaxed);
                let to = if destination.is_ipv4() { &self.to } else { &self.to_six };
                let _full = to.send_to(inner, &SockAddr::from(destination));
            }
            None => drop(seen.bad.fetch_add(1, Relaxed)),
        }
    }

    /// Whether a packet with this payload is the director's and has, if it is UDP's, a right checksum or none.
    fn is_ours(&self, packet: &[u8], payload: &[u8]) -> bool {
        let address = |at: usize| packet.get(at..).and_then(|it| it.first_chunk::<4>()).copied();
        let (Some(source), Some(destination)) = (address(12), address(16)) else { return false };
        let is_right = || checksum::of_transport(source.into(), destination.into(), UDP, payload) == 0;
        let is_summed = self.carrier == UDP && payload.get(6..8) != Some(&[0, 0]);
        source == self.director.octets() && (!is_summed || is_right())
    }

    /// The packet inside, of the IP version that the tunnel says.
    fn inner_of<'b>(&self, payload: &'b [u8]) -> Option<&'b [u8]> {
        let (version, inner) = match (self.carrier, payload) {
            (IPIP, rest) => (4, rest),
            (IPV6, rest) => (6, rest),
            (UDP, [_, _, _, _, _, _, _, _, 0, IPIP, 0, 0, rest @ ..]) => (4, rest),
            (UDP, [_, _, _, _, _, _, _, _, 0, IPV6, 0, 0, rest @ ..]) => (6, rest),
            (GRE, [0, 0, 8, 0, rest @ ..]) => (4, rest),
            (GRE, [0, 0, 0x86, 0xdd, rest @ ..]) => (6, rest),
            (GRE, [0x80, 0, high, low, _, _, 0, 0, rest @ ..]) if checksum::of(payload) == 0 => {
                match (high, low) {
                    (8, 0) => (4, rest),
                    (0x86, 0xdd) => (6, rest),
                    _ => return None,
                }
            }
            _ => return None,
        };
        (inner.first()? >> 4 == version).then_some(inner)
    }
}

/// Where a whole packet goes.
fn destination(packet: &[u8]) -> Option<SocketAddr> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
    if packet.first()? >> 4 == 4 {
        let to = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
        (word(2)? == packet.len()).then_some(SocketAddrV4::new(to, 0).into())
    } else {
        let to = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
        (40 + word(4)? == packet.len()).then_some(SocketAddrV6::new(to, 0, 0, 0).into())
    }
}
