//! The far ends of tunnels: takes outer headers off and gives the packets inside to its own host.
//!
//! Kernels for small machines lack the tunnel devices, so this is done with raw sockets. It trusts nobody: what
//! is not well wrapped is counted as such, and tests want none of that.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns;

/// The UDP port that GUE is listened for at.
pub const GUE_PORT: u16 = 6080;

const IPIP: i32 = 4;
const IPV6: i32 = 41;
const GRE: i32 = 47;
/// Sends packets whose header is written already.
const RAW: i32 = 255;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ipip,
    /// IPv6 in IPv4, and in IPv6.
    SixInFour,
    SixInSix,
    Gre,
    Gue,
}

impl Decapsulator {
    /// The end of every tunnel from `director` in `netns`.
    pub fn start(netns: &str, director: Ipv4Addr) -> Self {
        Self::start_each(netns, director, None)
    }

    /// As [`start`](Self::start), and the end of tunnels over IPv6 besides.
    pub fn start_for_both(netns: &str, director: Ipv4Addr) -> Self {
        Self::start_each(netns, director, Some(Kind::SixInSix))
    }

    fn start_each(netns: &str, director: Ipv4Addr, six: Option<Kind>) -> Self {
        let (seen, stop) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let threads =
            [Kind::Ipip, Kind::SixInFour, Kind::Gre, Kind::Gue].into_iter().chain(six).map(|kind| {
                let (netns, seen, stop) = (netns.to_owned(), seen.clone(), stop.clone());
                let (ready, wait) = mpsc::channel();
                let thread = thread::spawn(move || {
                    netns::enter(&netns);
                    let end = End::open(kind, director);
                    ready.send(()).expect("awaited");
                    let mut buffer = vec![0; 65_536];
                    while !stop.load(Relaxed) {
                        end.take_one(&mut buffer, &seen);
                    }
                });
                wait.recv().expect("started");
                thread
            });
        Self { threads: threads.collect(), seen: seen.clone(), stop: stop.clone() }
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

/// One kind of tunnel.
struct End {
    kind: Kind,
    director: Ipv4Addr,
    from: Socket,
    to: Socket,
    to_six: Option<Socket>,
}

impl End {
    fn open(kind: Kind, director: Ipv4Addr) -> Self {
        let raw_of = |domain, number| {
            Socket::new(domain, Type::RAW, Some(Protocol::from(number))).expect("raw socket")
        };
        let raw = |number| raw_of(Domain::IPV4, number);
        let from = match kind {
            Kind::Ipip => raw(IPIP),
            Kind::SixInFour => raw(IPV6),
            Kind::SixInSix => raw_of(Domain::IPV6, IPV6),
            Kind::Gre => raw(GRE),
            Kind::Gue => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GUE_PORT)).expect("port of GUE").into(),
        };
        from.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
        from.set_recv_buffer_size(4 << 20).expect("buffer");
        let holds_six = matches!(kind, Kind::SixInFour | Kind::SixInSix);
        let to_six = holds_six.then(|| raw_of(Domain::IPV6, RAW));
        Self { kind, director, from, to: raw(RAW), to_six }
    }

    fn take_one(&self, buffer: &mut [u8], seen: &Seen) {
        let Ok(len) = (&self.from).read(buffer) else { return };
        let bytes = &buffer[..len];
        // A UDP socket does not show the headers, nor does one of IPv6.
        let outer = match self.kind {
            Kind::Gue => len + 28,
            Kind::SixInSix => len + 40,
            Kind::Ipip | Kind::SixInFour | Kind::Gre => len,
        };
        seen.longest.fetch_max(outer as u64, Relaxed);
        if let Some(to_six) = &self.to_six {
            let inner = self.inner_six(bytes);
            match inner.and_then(|inner| Some((inner, *inner.get(24..)?.first_chunk::<16>()?))) {
                Some((inner, destination)) => {
                    seen.packets.fetch_add(1, Relaxed);
                    let to = SocketAddrV6::new(destination.into(), 0, 0, 0);
                    let _full = to_six.send_to(inner, &SockAddr::from(to));
                }
                None => drop(seen.bad.fetch_add(1, Relaxed)),
            }
            return;
        }
        match self.inner_of(bytes).and_then(|inner| Some((inner, *inner.get(16..)?.first_chunk::<4>()?))) {
            Some((inner, destination)) => {
                seen.packets.fetch_add(1, Relaxed);
                let _full = self.to.send_to(inner, &SockAddr::from(SocketAddrV4::new(destination.into(), 0)));
            }
            None => drop(seen.bad.fetch_add(1, Relaxed)),
        }
    }

    /// The IPv6 packet inside.
    fn inner_six<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let inner = match self.kind {
            Kind::SixInSix => bytes,
            _ if bytes.get(12..16)? == self.director.octets() => {
                bytes.get(usize::from(bytes[0] & 15) * 4..)?
            }
            _ => return None,
        };
        let len = 40 + usize::from(u16::from_be_bytes(*inner.get(4..)?.first_chunk()?));
        (inner.first()? >> 4 == 6 && len == inner.len()).then_some(inner)
    }

    /// The IPv4 packet inside.
    fn inner_of<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let payload = match self.kind {
            Kind::Gue => bytes,
            Kind::SixInFour | Kind::SixInSix => return None,
            _ if bytes.get(12..16)? == self.director.octets() => {
                bytes.get(usize::from(bytes[0] & 15) * 4..)?
            }
            _ => return None,
        };
        let inner = match (self.kind, payload) {
            (Kind::Ipip, rest)
            | (Kind::Gue, [0, 4, 0, 0, rest @ ..])
            | (Kind::Gre, [0, 0, 8, 0, rest @ ..]) => rest,
            (Kind::Gre, [0x80, 0, 8, 0, _, _, 0, 0, rest @ ..])
                if xvs::packet::checksum::of(payload) == 0 =>
            {
                rest
            }
            _ => return None,
        };
        let len = usize::from(u16::from_be_bytes(*inner.get(2..)?.first_chunk()?));
        (inner.first()? >> 4 == 4 && len == inner.len()).then_some(inner)
    }
}
