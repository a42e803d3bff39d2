//! Templates of persistence.

use super::{ServerView, Table, connections};

pub(super) struct Persistent;

impl Table for Persistent {
    fn title(&self) -> &'static str {
        concat!(
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n",
            "  -> RemoteAddress:Port"
        )
    }

    fn server(&self, server: &ServerView, _exact: bool) -> String {
        format!(" {:<9} {:<11} {}", server.weight, server.persistent, connections(server))
    }
}
