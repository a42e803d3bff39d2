//! `ipvsadm -L -c`: the connections, each as it comes.

use std::io::{self, Write};

use super::{Columns, Format, Names, address_text};
use crate::control::view::ConnectionView;

/// Writes connections.
pub(crate) struct Connections<'a> {
    pub out: &'a mut dyn Write,
    pub format: Format,
    pub names: &'a mut Names,
}

impl Connections<'_> {
    /// Writes the title.
    pub fn title(&mut self) -> io::Result<()> {
        writeln!(self.out, "IPVS connection entries")?;
        write!(self.out, "pro expire {:11} {:18} {:18} ", "state", "source", "virtual")?;
        match self.format.columns {
            Columns::Persistent => writeln!(self.out, "{:18} {:16} pe_data", "destination", "pe name"),
            _ => writeln!(self.out, "destination"),
        }
    }

    /// Writes one connection.
    pub fn connection(&mut self, connection: &ConnectionView) -> io::Result<()> {
        let protocol = connection.protocol.to_ascii_lowercase().parse().ok();
        let ends = [connection.client, connection.virtual_address, connection.server];
        let [client, vip, server] = ends.map(|end| address_text(end, protocol, self.format, self.names));
        let expires = format!("{:02}:{:02}", connection.expires_s / 60, connection.expires_s % 60);
        let (name, state) = (&connection.protocol, &connection.state);
        write!(self.out, "{name:3} {expires:6} {state:11} {client:18} {vip:18} ")?;
        match (self.format.columns, &connection.engine, &connection.engine_data) {
            (Columns::Persistent, Some(engine), Some(data)) => {
                writeln!(self.out, "{server:18} {engine:16} {data}")
            }
            _ => writeln!(self.out, "{server}"),
        }
    }
}
