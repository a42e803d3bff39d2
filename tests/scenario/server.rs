//! What the real servers say: their names.
//!
//! A connection is greeted with the name, and `ping` is answered with it again. The commands of FTP that
//! lead to a data connection are answered as FTP does, and all the data is the name. At anything else, the end of the
//! stream included, the server closes. Every datagram is answered with the name, and with the Call-ID it has; one
//! that begins with [`ECHO`] with the name and all that it was.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::real_server::Manners;
use crate::wire::Wire;

/// Where a server of FTP connects from: the port below that of its control connection.
const DATA_PORT: u16 = 20;

/// What a datagram begins with that is wanted back.
pub const ECHO: &[u8] = b"echo ";

/// A server of this name.
#[derive(Debug)]
pub struct Named(pub &'static str);

impl Named {
    fn line(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }

    /// Waits for the client to connect to `own` and sends the data.
    async fn passive(&self, wire: &Wire, own: IpAddr, told: impl Fn(u16) -> String) -> io::Result<()> {
        let listener = TcpListener::bind(SocketAddr::new(own, 0)).await?;
        wire.write(told(listener.local_addr()?.port()).as_bytes()).await?;
        self.send(listener.accept().await?.0).await
    }

    /// Connects to the client and sends the data.
    async fn active(&self, wire: &Wire, own: IpAddr, client: Option<SocketAddr>) -> io::Result<()> {
        let Some(client) = client else { return wire.write(b"501 where to?\r\n").await };
        wire.write(b"200 connecting\r\n").await?;
        let socket = if own.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(own, DATA_PORT))?;
        self.send(socket.connect(client).await?).await
    }

    /// The data, and the connection is closed.
    async fn send(&self, data: TcpStream) -> io::Result<()> {
        Wire::new(data).write(&self.line()).await
    }
}

impl Manners for Named {
    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let own = stream.local_addr()?.ip();
        let mut wire = Wire::new(stream);
        wire.write(&self.line()).await?;
        while let Some(line) = wire.line().await? {
            let line = line.trim();
            let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
            match command {
                "ping" => wire.write(&self.line()).await?,
                "PASV" => {
                    let IpAddr::V4(own_v4) = own else { return Ok(()) };
                    let told = |port: u16| {
                        let [a, b, c, d] = own_v4.octets();
                        let [high, low] = port.to_be_bytes();
                        format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low}).\r\n")
                    };
                    self.passive(&wire, own, told).await?;
                }
                "EPSV" => {
                    let told = |port| format!("229 Entering Extended Passive Mode (|||{port}|)\r\n");
                    self.passive(&wire, own, told).await?;
                }
                "PORT" => self.active(&wire, own, six_numbers(argument)).await?,
                "EPRT" => self.active(&wire, own, between_bars(argument)).await?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        if query.starts_with(ECHO) {
            return [&self.line(), query].concat();
        }
        let query = String::from_utf8_lossy(query);
        let call = query.lines().find(|line| line.starts_with("Call-ID:"));
        let headers = call.map(|call| format!("{call}\r\n\r\n")).unwrap_or_default();
        [self.line(), headers.into_bytes()].concat()
    }
}

/// An address as RFC 959 writes it: `10,0,1,1,4,1`.
pub fn six_numbers(text: &str) -> Option<SocketAddr> {
    let numbers: Vec<u8> = text.split(',').map_while(|number| number.parse().ok()).collect();
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

/// An address as RFC 2428 writes it: `|1|10.0.1.1|1025|`, or `|2|fd00::1:1|1025|`.
fn between_bars(text: &str) -> Option<SocketAddr> {
    let parts: Vec<_> = text.split('|').collect();
    let ["", version, address, port, ""] = parts[..] else { return None };
    let address =
        address.parse::<IpAddr>().ok().filter(|ip| version == if ip.is_ipv4() { "1" } else { "2" })?;
    Some((address, port.parse().ok()?).into())
}
