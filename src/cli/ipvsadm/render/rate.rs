//! What there was in a second lately.
//!
//! A server's connections and packets are never cut to thousands, its bytes are: that is how ipvsadm does it.

use super::stats::traffic;
use super::{ServerView, ServiceView, Table};
use crate::cli::ipvsadm::numbers::wide;

pub(super) struct Rate;

impl Table for Rate {
    fn title(&self) -> &'static str {
        "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port"
    }

    fn service(&self, name: &str, service: &ServiceView, exact: bool) -> String {
        format!("{name:33}{}", traffic(&service.rates, exact))
    }

    fn server(&self, server: &ServerView, exact: bool) -> String {
        let rates = server.rates.unwrap_or_default();
        let counts = format!(" {:8} {:8} {:8}", rates.connections, rates.in_packets, rates.out_packets);
        counts + &wide(rates.in_bytes, exact) + &wide(rates.out_bytes, exact)
    }
}
