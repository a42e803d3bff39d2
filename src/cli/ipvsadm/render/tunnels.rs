//! What packets to a tunnelling server are wrapped into.

use super::plain::method;
use super::{ServerView, Table, connections};
use crate::control::command::{ChecksumSpec, TunnelSpec};

/// Longest description of a tunnel, in bytes.
const LONGEST: usize = 15;

pub(super) struct Tunnels;

impl Table for Tunnels {
    fn title(&self) -> &'static str {
        "Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn"
    }

    fn server(&self, server: &ServerView, _exact: bool) -> String {
        let (method, tunnel) = (method(server.forward), described(server.tunnel));
        format!(" {method:7} {tunnel:13} {:<6} {}", server.weight, connections(server))
    }
}

fn described(tunnel: Option<TunnelSpec>) -> String {
    let mut text = match tunnel {
        None => "n/a".to_owned(),
        Some(TunnelSpec::Ipip) => "ipip".to_owned(),
        Some(TunnelSpec::Gue { port, checksum }) => format!("gue:{port}:{}", summed(checksum)),
        Some(TunnelSpec::Gre { checksum }) => format!("gre:{}", summed(checksum)),
    };
    text.truncate(LONGEST);
    text
}

const fn summed(checksum: ChecksumSpec) -> &'static str {
    match checksum {
        ChecksumSpec::None => "-c",
        ChecksumSpec::Full => "+c",
        ChecksumSpec::Remote => "r+c",
    }
}
