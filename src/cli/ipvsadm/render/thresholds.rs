//! Limits of connections.

use super::{ServerView, Table, connections};

pub(super) struct Thresholds;

impl Table for Thresholds {
    fn title(&self) -> &'static str {
        concat!(
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n",
            "  -> RemoteAddress:Port"
        )
    }

    fn server(&self, server: &ServerView, _exact: bool) -> String {
        format!(" {:<10} {:<10} {}", server.upper_threshold, server.lower_threshold, connections(server))
    }
}
