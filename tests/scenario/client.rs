//! The clients: connections and datagrams from client addresses, every wait bounded, every outcome one line.
//!
//! Must not know what is between them and the servers.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::iter::repeat_with;
use std::net::{IpAddr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, TcpHeader};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::lab;
use crate::netns::inside;
use crate::script::{Ask, Transfer};
use crate::server::{ECHO, six_numbers};

/// How long the last packets of a connection may take to the director: nobody waits for them.
const SETTLE: Duration = Duration::from_millis(50);

/// A connection with the name of the server behind it, or a word for why there is none.
type Connected = Result<(TcpStream, String), String>;

/// See the module.
#[derive(Debug)]
pub struct Client {
    netns: String,
    patience: Duration,
    open: HashMap<String, TcpStream>,
}

impl Client {
    /// A client in `netns` that takes no answer within `patience` for none.
    pub fn new(netns: &str, patience: Duration) -> Self {
        Self { netns: netns.to_owned(), patience, open: HashMap::new() }
    }

    /// Does it, and says how it went.
    pub fn ask(&mut self, ask: &Ask) -> String {
        let netns = self.netns.clone();
        let answer = inside(&netns, || self.answer(ask));
        thread::sleep(SETTLE);
        answer
    }

    fn answer(&mut self, ask: &Ask) -> String {
        match ask {
            Ask::Open { id, from, to } => match self.connect(*from, *to) {
                Ok((stream, name)) => {
                    self.open.insert(id.clone(), stream);
                    name
                }
                Err(why) => why,
            },
            Ask::Send(id) => match self.open.get_mut(id) {
                Some(stream) => send(stream),
                None => NOT_OPEN.to_owned(),
            },
            Ask::Close(id) => self.end(id, |stream| {
                finish(stream);
                "done"
            }),
            Ask::Reset(id) => self.end(id, |stream| {
                // Closed without lingering: a reset instead of a FIN.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
                "done"
            }),
            Ask::ServerClose(id) => self.end(id, |mut stream| {
                let closed = stream.write_all(b"quit\n").and_then(|()| stream.read(&mut [0; 64]));
                match closed {
                    Ok(_) => "done",
                    Err(error) if is_timeout(&error) => "timeout",
                    Err(_) => "reset",
                }
            }),
            Ask::Tcp { count, from, to } => joined(*count, || self.once(*from, *to)),
            Ask::Clients { count, to } => {
                let mut clients = lab::clients_to(to.ip());
                joined(*count, || {
                    let from = clients.next().expect("no more clients than the lab has");
                    self.once(SocketAddr::new(from, 0), *to)
                })
            }
            Ask::Segment { flags, from, to } => segment(flags, *from, *to),
            Ask::Ftp { id, how } => match self.open.get_mut(id) {
                Some(control) => transfer(control, *how, self.patience).unwrap_or_else(|error| words(&error)),
                None => NOT_OPEN.to_owned(),
            },
            Ask::Sip { call, from, to } => {
                let call = call.as_ref().map(|call| format!("Call-ID: {call}\r\n")).unwrap_or_default();
                let request = format!("OPTIONS sip:service SIP/2.0\r\n{call}CSeq: 1 OPTIONS\r\n\r\n");
                self.ask_by_datagrams(1, *from, *to, request.as_bytes())
            }
            Ask::Udp { count, from, to } => self.datagrams(*count, *from, *to),
            Ask::UdpBig { bytes, from, to } => self.big_datagram(*bytes, *from, *to),
            Ask::UdpLong { bytes, from, to } => self.long_datagram(*bytes, *from, *to),
            Ask::UdpEach { count, from, to } => joined(*count, || self.datagrams(1, *from, *to)),
        }
    }

    fn end(&mut self, id: &str, how: impl FnOnce(TcpStream) -> &'static str) -> String {
        self.open.remove(id).map_or(NOT_OPEN, how).to_owned()
    }

    /// One connection from its start to its end.
    fn once(&self, from: SocketAddr, to: SocketAddr) -> String {
        self.connect(from, to).map_or_else(
            |why| why,
            |(stream, name)| {
                finish(stream);
                name
            },
        )
    }

    fn connect(&self, from: SocketAddr, to: SocketAddr) -> Connected {
        let connected = || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), self.patience)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            let name = read_name(&mut stream)?;
            Ok((stream, name))
        };
        // Seldom a socket has no reason for why its attempt is over, by the time that it is asked: another one has.
        let has_no_reason =
            |error: &io::Error| error.raw_os_error().is_none() && error.kind() == ErrorKind::Other;
        let attempt =
            connected().or_else(|error| if has_no_reason(&error) { connected() } else { Err(error) });
        attempt.map_err(|error: io::Error| match error.kind() {
            ErrorKind::ConnectionRefused => "refused".to_owned(),
            ErrorKind::ConnectionReset => "reset".to_owned(),
            _ => words(&error),
        })
    }

    /// Sends it, and then waits for an answer or for what is said of it.
    fn long_datagram(&self, bytes: usize, from: SocketAddr, to: SocketAddr) -> String {
        let told = || {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(self.patience))?;
            socket.send(&vec![b'x'; bytes])?;
            let mut answer = [0; 64];
            let len = socket.recv(&mut answer)?;
            Ok(trimmed(&answer[..len]))
        };
        told().unwrap_or_else(|error: io::Error| words(&error))
    }

    /// Sends it in fragments, and wants it back as it was.
    fn big_datagram(&self, bytes: usize, from: SocketAddr, to: SocketAddr) -> String {
        let told = || {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(self.patience))?;
            // Not all alike, so that pieces in a wrong order are noticed.
            let text = (0..).flat_map(|n: u32| format!("{n} ").into_bytes());
            let query: Vec<u8> = ECHO.iter().copied().chain(text).take(bytes.max(ECHO.len())).collect();
            socket.send(&query)?;
            let mut answer = vec![0; 65_536];
            let len = socket.recv(&mut answer)?;
            let Some(name) = answer[..len].strip_suffix(&query[..]) else {
                return Ok(format!("{len} other bytes"));
            };
            Ok(format!("{} and all of it", trimmed(name)))
        };
        told().unwrap_or_else(|error: io::Error| match error.kind() {
            ErrorKind::ConnectionRefused => "refused".to_owned(),
            _ => words(&error),
        })
    }

    fn datagrams(&self, count: usize, from: SocketAddr, to: SocketAddr) -> String {
        self.ask_by_datagrams(count, from, to, b"who\n")
    }

    fn ask_by_datagrams(&self, count: usize, from: SocketAddr, to: SocketAddr, query: &[u8]) -> String {
        let open = || {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(self.patience))?;
            Ok(socket)
        };
        let socket: UdpSocket = match open() {
            Ok(socket) => socket,
            Err(error) => return words(&error),
        };
        joined(count, || {
            let mut answer = [0; 256];
            match socket.send(query).and_then(|_| socket.recv(&mut answer)) {
                Ok(len) => trimmed(&answer[..len]).lines().next().unwrap_or_default().to_owned(),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
                Err(error) => words(&error),
            }
        })
    }
}

/// Sends a bare segment as a stranger would. Where its answer goes is not the sender's to say.
fn segment(flags: &str, from: SocketAddrV4, to: SocketAddrV4) -> String {
    // As if it all were of one connection.
    let sequence = if flags.contains('S') { 1 } else { 2 };
    let mut tcp = TcpHeader::new(from.port(), to.port(), sequence, 8192);
    for flag in flags.chars() {
        let bit = match flag {
            'S' => &mut tcp.syn,
            'A' => &mut tcp.ack,
            'F' => &mut tcp.fin,
            'R' => &mut tcp.rst,
            _ => &mut tcp.psh,
        };
        *bit = true;
    }
    let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64);
    let mut packet = Vec::new();
    builder.tcp_header(tcp).write(&mut packet, &[]).expect("a Vec");
    let send = || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.set_header_included_v4(true)?;
        socket.send_to(&packet, &SocketAddr::V4(to).into())
    };
    send().map_or_else(|error| words(&error), |_| "sent".to_owned())
}

const NOT_OPEN: &str = "not-open";

fn joined(count: usize, one: impl FnMut() -> String) -> String {
    repeat_with(one).take(count).collect::<Vec<_>>().join(" ")
}

fn send(stream: &mut TcpStream) -> String {
    stream.write_all(b"ping\n").and_then(|()| read_name(stream)).unwrap_or_else(|error| words(&error))
}

/// Fetches the server's name over a data connection: where from, and the name.
fn transfer(control: &mut TcpStream, how: Transfer, patience: Duration) -> io::Result<String> {
    let own = control.local_addr()?.ip();
    let vip = control.peer_addr()?.ip();
    let mut command = |line: String| {
        control.write_all(line.as_bytes())?;
        read_name(control)
    };
    let (told, is_waiting) = match how {
        Transfer::Pasv | Transfer::Offer => {
            let answer = command("PASV\r\n".to_owned())?;
            let text = answer.split(['(', ')']).nth(1).unwrap_or_default();
            (six_numbers(text).ok_or_else(|| io::Error::other(answer.clone()))?, None)
        }
        Transfer::Epsv => {
            let answer = command("EPSV\r\n".to_owned())?;
            let port = answer.split('|').nth(3).and_then(|port| port.parse().ok());
            (SocketAddr::new(vip, port.ok_or_else(|| io::Error::other(answer.clone()))?), None)
        }
        Transfer::Port | Transfer::Eprt => {
            let listener = TcpListener::bind(SocketAddr::new(own, 0))?;
            let port = listener.local_addr()?.port();
            let [high, low] = port.to_be_bytes();
            let line = match how {
                Transfer::Eprt => format!("EPRT |{}|{own}|{port}|\r\n", if own.is_ipv4() { 1 } else { 2 }),
                _ => format!("PORT {},{high},{low}\r\n", own.to_string().replace('.', ",")),
            };
            command(line)?;
            (SocketAddr::new(vip, 0), Some(listener))
        }
    };
    let by = |address: IpAddr| if address == vip { "by the VIP".to_owned() } else { format!("by {address}") };
    let mut data = match is_waiting {
        _ if how == Transfer::Offer => return Ok(format!("offered {}", by(told.ip()))),
        None => {
            let socket = Socket::new(Domain::for_address(told), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(own, 0).into())?;
            socket.connect_timeout(&told.into(), patience)?;
            TcpStream::from(socket)
        }
        Some(listener) => accept(&listener, patience)?,
    };
    data.set_read_timeout(Some(patience))?;
    let from = data.peer_addr()?;
    let port = if how == Transfer::Port || how == Transfer::Eprt {
        format!(":{}", from.port())
    } else {
        String::new()
    };
    let name = read_name(&mut data)?;
    finish(data);
    Ok(format!("{name} {}{port}", by(from.ip())))
}

/// The next connection, if it comes in time.
fn accept(listener: &TcpListener, patience: Duration) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if is_timeout(&error) && start.elapsed() < patience => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

fn read_name(stream: &mut TcpStream) -> io::Result<String> {
    let mut name = [0; 64];
    let len = stream.read(&mut name)?;
    Ok(if len == 0 { "closed".to_owned() } else { trimmed(&name[..len]) })
}

/// Closes in the orderly way, client first. How that went is for the director to show.
fn finish(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write).and_then(|()| stream.read(&mut [0; 64]));
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// An error as one word: `connection-reset-by-peer`.
fn words(error: &io::Error) -> String {
    if is_timeout(error) {
        return "timeout".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase().replace(' ', "-")
}
