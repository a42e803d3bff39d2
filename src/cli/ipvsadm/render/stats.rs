//! Totals: connections, packets and bytes.

use super::{ServerView, ServiceView, Table};
use crate::cli::ipvsadm::numbers::wide;
use crate::control::view::TrafficView;

pub(super) struct Stats;

impl Table for Stats {
    fn title(&self) -> &'static str {
        "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port"
    }

    fn service(&self, name: &str, service: &ServiceView, exact: bool) -> String {
        format!("{name:33}{}", traffic(&service.statistics, exact))
    }

    fn server(&self, server: &ServerView, exact: bool) -> String {
        traffic(&server.statistics.unwrap_or_default(), exact)
    }
}

/// The five numbers, nine columns each.
pub(super) fn traffic(traffic: &TrafficView, exact: bool) -> String {
    let TrafficView { connections, in_packets, out_packets, in_bytes, out_bytes } = *traffic;
    [connections, in_packets, out_packets, in_bytes, out_bytes].map(|number| wide(number, exact)).concat()
}
