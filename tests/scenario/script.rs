//! The scenario language: one line, one thing to do; `#` starts a comment.
//!
//! ```text
//!  ipvsadm ARGUMENTS                   list [ARGUMENTS] | stats | counts | traffic | conns | states | engines
//!  tune NAME=VALUE | tuned NAME | helper NAME   server NAME up|down | wait SECONDS
//!  mark NUMBER tcp|udp VIP:PORT
//!  open ID CLIENT[:PORT] VIP:PORT      send ID | close ID | reset ID | sclose ID
//!  tcp COUNT CLIENT[:PORT] VIP:PORT    clients COUNT VIP:PORT
//!  udp COUNT CLIENT[:PORT] VIP:PORT    udpeach COUNT CLIENT[:PORT] VIP:PORT
//!  sctp HOST CHUNK[+CHUNK...] FROM:PORT TO:PORT    esp HOST FROM TO | ah HOST FROM TO
//!  udplong BYTES CLIENT[:PORT] VIP:PORT    udpbig BYTES CLIENT[:PORT] VIP:PORT
//!  tunnel HOST ipip|gue|gre|gre-csum
//!  mtu HOST DEVICE BYTES               errors
//!  forge HOST udp|long|tcp|syn|rst FROM:PORT TO:PORT
//!  forge HOST error TYPE/CODE ROUTER udp|tcp FROM:PORT TO:PORT
//!  segment FLAGS CLIENT:PORT VIP:PORT
//!  ftp ID pasv|epsv|port|eprt|offer    sip CALL-ID|- CLIENT[:PORT] VIP:PORT
//! ```
//!
//! Addresses are of IPv4, or of IPv6 with brackets around them where a port follows; those of SCTP, AH, ESP and segments are IPv4's.
//!
//! What each means is said at [`Verb`] and [`Ask`]. Must not know how anything is done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use crate::bare::Bare;

/// A line of a scenario.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// As it stands in the file and in the transcript.
    pub text: String,
    /// What it says.
    pub verb: Verb,
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub enum Verb {
    /// ipvsadm with these arguments; a shell's redirections and pipes may follow.
    Ipvsadm(String),
    /// A tunable is set: `NAME=VALUE`.
    Tune(String),
    /// What a tunable is.
    Tuned(String),
    /// Packets of this protocol to this address get this firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// `tcp` or `udp`.
        protocol: String,
        /// Where they go.
        to: SocketAddr,
    },
    /// The services with these further arguments, servers in the director's own order.
    List(String),
    /// All counters.
    Stats,
    /// The connections of each service and server.
    Counts,
    /// All counters of UDP, and of the others the connections and whether there were packets at all.
    Traffic,
    /// The connections.
    Conns,
    /// The connections without the time they have left.
    States,
    /// The connections with what persistence engines know of them.
    Engines,
    /// The helper of an application is there from now on.
    Helper(String),
    /// Nothing happens for a while.
    Wait(Duration),
    /// A server's program is stopped or started.
    Server {
        /// Which.
        name: String,
        /// Whether it runs from now on.
        up: bool,
    },
    /// Traffic.
    Client(Ask),
    /// A host sends a packet without a program.
    Bare {
        /// Which host: cl, lb, r1 to r4.
        host: String,
        /// What it sends.
        packet: Bare,
    },
    /// The largest packet that a host sends from a device.
    Mtu {
        /// Which host: cl, lb, r1 to r4.
        host: String,
        /// Which of its devices.
        device: String,
        /// In bytes, without the Ethernet header.
        bytes: u16,
    },
    /// A server is the end of tunnels of this kind from now on.
    Tunnel {
        /// Which.
        host: String,
        /// The kind.
        kind: Tunnel,
    },
    /// The ICMP errors that clients and servers have got since they were asked last.
    Errors,
    /// A host sends a packet that none of its programs has made.
    Forge {
        /// Which host.
        host: String,
        /// Which packet.
        what: Forged,
    },
}

/// What wraps the packets to a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tunnel {
    /// IP in IP, of either version.
    Ipip,
    /// Generic UDP encapsulation, at port 6080, with a checksum or without.
    Gue,
    /// GRE without a checksum.
    Gre,
    /// GRE with a checksum.
    GreSummed,
}

/// A packet made by hand.
#[derive(Debug, PartialEq)]
pub enum Forged {
    /// With these ends, whether they are the host's or not.
    Packet(Transport, SocketAddr, SocketAddr),
    /// An ICMP error about a packet, to who sent that.
    Error {
        /// Type and code of ICMP, or of ICMPv6; 3/4 and 2/0 with an MTU of 1400.
        kind: (u8, u8),
        /// Who says it.
        router: IpAddr,
        /// The packet that it is about.
        transport: Transport,
        /// Who sent that.
        from: SocketAddr,
        /// To whom.
        to: SocketAddr,
    },
}

/// What a packet made by hand carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transport {
    /// A short datagram.
    Udp,
    /// A datagram of 1,450 bytes.
    Long,
    /// A segment with these flags.
    Tcp {
        /// A connection begins.
        syn: bool,
        /// It acknowledges.
        ack: bool,
        /// The connection is gone.
        rst: bool,
    },
}

/// What a client does. `from` has port 0 where the kernel chooses it.
#[derive(Debug, PartialEq)]
pub enum Ask {
    /// Connects, reads the server's name and keeps the connection as `id`.
    Open { id: String, from: SocketAddr, to: SocketAddr },
    /// A line there and back.
    Send(String),
    /// The client closes.
    Close(String),
    /// The client resets.
    Reset(String),
    /// The server closes first.
    ServerClose(String),
    /// Connections in a row, each closed by the client.
    Tcp { count: usize, from: SocketAddr, to: SocketAddr },
    /// Datagrams in a row from one socket.
    Udp { count: usize, from: SocketAddr, to: SocketAddr },
    /// Datagrams, each from a new socket.
    UdpEach { count: usize, from: SocketAddr, to: SocketAddr },
    /// A datagram of this many bytes, which the client's kernel does not let be fragmented.
    UdpLong { bytes: usize, from: SocketAddr, to: SocketAddr },
    /// A datagram of this many bytes, which may go in fragments, and the same back.
    UdpBig { bytes: usize, from: SocketAddr, to: SocketAddr },
    /// One TCP segment with these flags (of `SAFRP`), whoever the address belongs to: nobody waits for an answer.
    Segment { flags: String, from: SocketAddrV4, to: SocketAddrV4 },
    /// A transfer over a data connection of FTP, asked for on connection `id`.
    Ftp { id: String, how: Transfer },
    /// A request of SIP with this Call-ID, if any, from a new socket.
    Sip { call: Option<String>, from: SocketAddr, to: SocketAddr },
    /// A connection from each of the first client addresses.
    Clients { count: usize, to: SocketAddr },
}

/// How a data connection of FTP comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transfer {
    /// The client connects (RFC 959).
    Pasv,
    /// The client connects (RFC 2428).
    Epsv,
    /// The server connects (RFC 959).
    Port,
    /// The server connects (RFC 2428).
    Eprt,
    /// The client asks where to connect to, and does not.
    Offer,
}

/// Reads a scenario whole. The error names the line.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut script = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        // In an ipvsadm line # may be the shell's.
        let line = if raw.contains("ipvsadm") { raw } else { raw.split('#').next().unwrap_or_default() };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let verb = verb(line).map_err(|error| format!("line {}: `{line}`: {error}", index + 1))?;
        script.push(Line { text: line.to_owned(), verb });
    }
    Ok(script)
}

fn verb(line: &str) -> Result<Verb, String> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    // Those that take the rest of the line as it is; the others take words.
    match name {
        "ipvsadm" => return Ok(Verb::Ipvsadm(rest.to_owned())),
        "list" => return Ok(Verb::List(rest.to_owned())),
        _ => {}
    }
    let mut words = Words(rest.split_whitespace());
    let verb = match name {
        "tune" => Verb::Tune(words.text("NAME=VALUE")?),
        "tuned" => Verb::Tuned(words.text("a name")?),
        "stats" => Verb::Stats,
        "mark" => Verb::Mark {
            mark: words.value("a number", |word| word.parse().ok())?,
            protocol: words
                .value("tcp or udp", |word| matches!(word, "tcp" | "udp").then(|| word.to_owned()))?,
            to: words.service()?,
        },
        "counts" => Verb::Counts,
        "traffic" => Verb::Traffic,
        "conns" => Verb::Conns,
        "states" => Verb::States,
        "engines" => Verb::Engines,
        "helper" => Verb::Helper(words.text("a helper")?),
        "wait" => Verb::Wait(words.value("a number of seconds", seconds)?),
        "server" => Verb::Server { name: words.text("a server")?, up: words.value("up or down", up)? },
        "open" => {
            Verb::Client(Ask::Open { id: words.text("an id")?, from: words.client()?, to: words.service()? })
        }
        "send" => Verb::Client(Ask::Send(words.text("an id")?)),
        "close" => Verb::Client(Ask::Close(words.text("an id")?)),
        "reset" => Verb::Client(Ask::Reset(words.text("an id")?)),
        "sclose" => Verb::Client(Ask::ServerClose(words.text("an id")?)),
        "tcp" => {
            Verb::Client(Ask::Tcp { count: words.count()?, from: words.client()?, to: words.service()? })
        }
        "udp" => {
            Verb::Client(Ask::Udp { count: words.count()?, from: words.client()?, to: words.service()? })
        }
        "udpeach" => {
            Verb::Client(Ask::UdpEach { count: words.count()?, from: words.client()?, to: words.service()? })
        }
        "sctp" => {
            let host = words.text("a host")?;
            let (chunks, damaged) = words.value("chunks", Bare::chunks)?;
            let packet = Bare::Sctp { chunks, damaged, from: words.service_v4()?, to: words.service_v4()? };
            Verb::Bare { host, packet }
        }
        "esp" | "ah" => {
            let host = words.text("a host")?;
            let (from, to) = (words.address()?, words.address()?);
            Verb::Bare { host, packet: Bare::ipsec(name, from, to) }
        }
        "udplong" => {
            let bytes = words.count()?;
            Verb::Client(Ask::UdpLong { bytes, from: words.client()?, to: words.service()? })
        }
        "udpbig" => {
            let bytes = words.count()?;
            Verb::Client(Ask::UdpBig { bytes, from: words.client()?, to: words.service()? })
        }
        "tunnel" => Verb::Tunnel {
            host: words.text("a host")?,
            kind: words.value("ipip, gue, gre or gre-csum", tunnel)?,
        },
        "mtu" => Verb::Mtu {
            host: words.text("a host")?,
            device: words.text("a device")?,
            bytes: words.value("a number of bytes", |word| word.parse().ok())?,
        },
        "errors" => Verb::Errors,
        "forge" => Verb::Forge { host: words.text("a host")?, what: forged(&mut words)? },
        "segment" => Verb::Client(Ask::Segment {
            flags: words.value("some of SAFRP", flags)?,
            from: words.service_v4()?,
            to: words.service_v4()?,
        }),
        "ftp" => Verb::Client(Ask::Ftp {
            id: words.text("an id")?,
            how: words.value("pasv, epsv, port, eprt or offer", transfer)?,
        }),
        "sip" => Verb::Client(Ask::Sip {
            call: Some(words.text("a Call-ID")?).filter(|call| call != "-"),
            from: words.client()?,
            to: words.service()?,
        }),
        "clients" => Verb::Client(Ask::Clients { count: words.count()?, to: words.service()? }),
        _ => return Err("there is no such verb".to_owned()),
    };
    match words.0.next() {
        Some(word) => Err(format!("`{word}` is one word too many")),
        None => Ok(verb),
    }
}

fn forged(words: &mut Words<'_>) -> Result<Forged, String> {
    if words.0.clone().next() != Some("error") {
        let transport = words.value("udp, long, tcp, syn, rst or error", transport)?;
        return Ok(Forged::Packet(transport, words.service()?, words.service()?));
    }
    words.text("error")?;
    let kind = |word: &str| {
        let (kind, code) = word.split_once('/')?;
        Some((kind.parse().ok()?, code.parse().ok()?))
    };
    Ok(Forged::Error {
        kind: words.value("TYPE/CODE", kind)?,
        router: words.value("an address", |word| word.parse().ok())?,
        transport: words.value("udp, long, tcp, syn or rst", transport)?,
        from: words.service()?,
        to: words.service()?,
    })
}

fn transport(word: &str) -> Option<Transport> {
    match word {
        "udp" => Some(Transport::Udp),
        "long" => Some(Transport::Long),
        "tcp" => Some(Transport::Tcp { syn: false, ack: true, rst: false }),
        "syn" => Some(Transport::Tcp { syn: true, ack: false, rst: false }),
        "rst" => Some(Transport::Tcp { syn: false, ack: false, rst: true }),
        _ => None,
    }
}

struct Words<'a>(SplitWhitespace<'a>);

impl Words<'_> {
    fn value<T>(&mut self, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let word = self.0.next().ok_or_else(|| format!("{what} is missing"))?;
        read(word).ok_or_else(|| format!("`{word}` is not {what}"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        self.value(what, |word| Some(word.to_owned()))
    }

    fn count(&mut self) -> Result<usize, String> {
        self.value("a number", |word| word.parse().ok())
    }

    fn client(&mut self) -> Result<SocketAddr, String> {
        let port_0 = |word: &str| IpAddr::from_str(word).ok().map(|address| SocketAddr::new(address, 0));
        self.value("ADDRESS or ADDRESS:PORT", |word| word.parse().ok().or_else(|| port_0(word)))
    }

    fn address(&mut self) -> Result<Ipv4Addr, String> {
        self.value("an address", |word| word.parse().ok())
    }

    fn service(&mut self) -> Result<SocketAddr, String> {
        self.value("ADDRESS:PORT", |word| word.parse().ok())
    }

    fn service_v4(&mut self) -> Result<SocketAddrV4, String> {
        self.value("ADDRESS:PORT", |word| word.parse().ok())
    }
}

fn seconds(word: &str) -> Option<Duration> {
    word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn transfer(word: &str) -> Option<Transfer> {
    Some(match word {
        "pasv" => Transfer::Pasv,
        "epsv" => Transfer::Epsv,
        "port" => Transfer::Port,
        "eprt" => Transfer::Eprt,
        "offer" => Transfer::Offer,
        _ => return None,
    })
}

fn tunnel(word: &str) -> Option<Tunnel> {
    Some(match word {
        "ipip" => Tunnel::Ipip,
        "gue" => Tunnel::Gue,
        "gre" => Tunnel::Gre,
        "gre-csum" => Tunnel::GreSummed,
        _ => return None,
    })
}

fn up(word: &str) -> Option<bool> {
    match word {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    }
}

fn flags(word: &str) -> Option<String> {
    word.chars().all(|flag| "SAFRP".contains(flag)).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Verb {
        parse(line).expect("understood").pop().expect("a line").verb
    }

    #[test]
    fn every_verb_is_understood() {
        let at = |text: &str| text.parse::<SocketAddrV4>().expect("address and port");
        let (from_v4, to_v4) = (at("10.0.1.1:0"), at("10.0.0.100:80"));
        let (from, to) = (SocketAddr::from(from_v4), SocketAddr::from(to_v4));
        assert_eq!(one("ipvsadm -Sn | wc -l"), Verb::Ipvsadm("-Sn | wc -l".into()));
        assert_eq!(one("tune a=1"), Verb::Tune("a=1".into()));
        assert_eq!(one("tuned a"), Verb::Tuned("a".into()));
        assert_eq!(one("list"), Verb::List(String::new()));
        assert_eq!(one("list -t 10.0.0.100:80"), Verb::List("-t 10.0.0.100:80".into()));
        assert_eq!([one("stats"), one("counts"), one("conns")], [Verb::Stats, Verb::Counts, Verb::Conns]);
        assert_eq!(one("states"), Verb::States);
        assert_eq!(one("traffic"), Verb::Traffic);
        assert_eq!(one("mark 7 tcp 10.0.0.100:80"), Verb::Mark { mark: 7, protocol: "tcp".into(), to });
        assert_eq!(one("wait 2.5"), Verb::Wait(Duration::from_millis(2500)));
        assert_eq!(one("server r2 down"), Verb::Server { name: "r2".into(), up: false });
        assert_eq!(one("server r2 up"), Verb::Server { name: "r2".into(), up: true });
        let open = Ask::Open { id: "a".into(), from: at("10.0.1.1:5001").into(), to };
        assert_eq!(one("open a 10.0.1.1:5001 10.0.0.100:80"), Verb::Client(open));
        assert_eq!(one("send a"), Verb::Client(Ask::Send("a".into())));
        assert_eq!(one("close a"), Verb::Client(Ask::Close("a".into())));
        assert_eq!(one("reset a"), Verb::Client(Ask::Reset("a".into())));
        assert_eq!(one("sclose a"), Verb::Client(Ask::ServerClose("a".into())));
        assert_eq!(one("tcp 3 10.0.1.1 10.0.0.100:80"), Verb::Client(Ask::Tcp { count: 3, from, to }));
        assert_eq!(one("udp 3 10.0.1.1 10.0.0.100:80"), Verb::Client(Ask::Udp { count: 3, from, to }));
        assert_eq!(
            one("udpeach 3 10.0.1.1 10.0.0.100:80"),
            Verb::Client(Ask::UdpEach { count: 3, from, to })
        );
        let (host, damaged) = ("cl".to_owned(), false);
        let packet = Bare::Sctp { chunks: vec![10, 6], damaged, from: at("10.0.1.1:7"), to: to_v4 };
        assert_eq!(one("sctp cl cookie-echo+abort 10.0.1.1:7 10.0.0.100:80"), Verb::Bare { host, packet });
        let packet = Bare::ipsec("ah", *from_v4.ip(), *to_v4.ip());
        assert_eq!(one("ah r1 10.0.1.1 10.0.0.100"), Verb::Bare { host: "r1".to_owned(), packet });
        let (bytes, long) = (1400, "udplong 1400 10.0.1.1 10.0.0.100:80");
        assert_eq!(one(long), Verb::Client(Ask::UdpLong { bytes, from, to }));
        assert_eq!(
            one("mtu lb lb1 1400"),
            Verb::Mtu { host: "lb".into(), device: "lb1".into(), bytes: 1400 }
        );
        let big = "udpbig 8192 10.0.1.1 10.0.0.100:80";
        assert_eq!(one(big), Verb::Client(Ask::UdpBig { bytes: 8192, from, to }));
        let (host, kind) = ("r1".into(), Tunnel::GreSummed);
        assert_eq!(one("tunnel r1 gre-csum"), Verb::Tunnel { host, kind });
        assert_eq!(one("errors"), Verb::Errors);
        let (rip, rst) = (at("10.1.0.11:80").into(), Transport::Tcp { syn: false, ack: false, rst: true });
        let what = Forged::Packet(rst, rip, to);
        assert_eq!(one("forge r1 rst 10.1.0.11:80 10.0.0.100:80"), Verb::Forge { host: "r1".into(), what });
        let router = Ipv4Addr::new(10, 9, 9, 9).into();
        let what = Forged::Error { kind: (3, 4), router, transport: Transport::Udp, from: rip, to };
        let line = "forge r1 error 3/4 10.9.9.9 udp 10.1.0.11:80 10.0.0.100:80";
        assert_eq!(one(line), Verb::Forge { host: "r1".into(), what });
        let segment = Ask::Segment { flags: "SA".into(), from: at("10.0.2.1:7"), to: to_v4 };
        assert_eq!(one("segment SA 10.0.2.1:7 10.0.0.100:80"), Verb::Client(segment));
        assert_eq!([one("engines"), one("helper ftp")], [Verb::Engines, Verb::Helper("ftp".into())]);
        let transfer = Ask::Ftp { id: "a".into(), how: Transfer::Eprt };
        assert_eq!(one("ftp a eprt"), Verb::Client(transfer));
        let sip = |call: Option<&str>| Verb::Client(Ask::Sip { call: call.map(String::from), from, to });
        assert_eq!(one("sip x@y 10.0.1.1 10.0.0.100:80"), sip(Some("x@y")));
        assert_eq!(one("sip - 10.0.1.1 10.0.0.100:80"), sip(None));
        assert_eq!(one("clients 24 10.0.0.100:80"), Verb::Client(Ask::Clients { count: 24, to }));
        let (from, to) =
            ("[fd00::1:1]:0".parse().expect("an address"), "[fd00::100]:80".parse().expect("an address"));
        assert_eq!(one("tcp 3 fd00::1:1 [fd00::100]:80"), Verb::Client(Ask::Tcp { count: 3, from, to }));
    }

    #[test]
    fn comments_go_and_what_is_left_keeps_its_text() {
        let script =
            parse("# What ipvsadm says\n\n  list -x # all\nipvsadm -C # none\n").expect("understood");
        let texts: Vec<_> = script.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["list -x", "ipvsadm -C # none"]);
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (line, error) in [
            ("frob", "there is no such verb"),
            ("tcp x 10.0.1.1 10.0.0.100:80", "`x` is not a number"),
            ("open a 10.0.1.1", "ADDRESS:PORT is missing"),
            ("open a 10.0.1.1 10.0.0.100", "`10.0.0.100` is not ADDRESS:PORT"),
            ("server r2 sideways", "`sideways` is not up or down"),
            ("forge r1 gre 10.1.0.11:80 10.0.0.100:80", "`gre` is not udp, long, tcp, syn, rst or error"),
            ("ftp a sideways", "`sideways` is not pasv, epsv, port, eprt or offer"),
            ("conns all", "`all` is one word too many"),
            ("segment SX 10.0.2.1:7 10.0.0.100:80", "`SX` is not some of SAFRP"),
            ("mark 7 sctp 10.0.0.100:80", "`sctp` is not tcp or udp"),
            ("tunnel r1 sit", "`sit` is not ipip, gue, gre or gre-csum"),
            ("wait -1", "`-1` is not a number of seconds"),
        ] {
            assert_eq!(parse(&format!("list\n{line}")), Err(format!("line 2: `{line}`: {error}")));
        }
    }
}
