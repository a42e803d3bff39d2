//! Method, weight, connections.

use super::{ServerView, Table, connections};
use crate::control::command::Forward;

pub(super) struct Plain;

impl Table for Plain {
    fn title(&self) -> &'static str {
        "Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"
    }

    fn server(&self, server: &ServerView, _exact: bool) -> String {
        format!(" {:7} {:<6} {}", method(server.forward), server.weight, connections(server))
    }
}

/// The method's name in listings; that of FULLNAT is from DPVS, whose ipvsadm has it.
pub(super) const fn method(forward: Forward) -> &'static str {
    match forward {
        Forward::Nat => "Masq",
        Forward::Dr => "Route",
        Forward::Tun => "Tunnel",
        Forward::FullNat => "FullNat",
    }
}
