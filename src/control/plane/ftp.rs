//! Where FTP's data connections come up: at ports that nobody knows before a control connection names them.
//!
//! For a service of FTP whose clients stay together, since its data connections follow their client; for one by NAT, whose
//! helper expects them; and for as long as connections are left that began when it was so.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::roster::Roster;
use crate::director::server::Counts;
use crate::director::service::{Method, Protocol};
use crate::director::services::{FTP, FTP_DATA, Services};

/// TCP packets to these, and from these if it says so, at the ports of FTP's data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FtpData {
    /// One address, or the network of a mark.
    pub destination: IpNet,
    /// The clients' network, if the mark is for those alone.
    pub source: Option<IpNet>,
}

/// What has to come up, of services and of these rules of marks, after what came up `before`.
pub(super) fn ftp_data(
    services: &Services,
    roster: &Roster,
    counts: &Counts,
    marks: &[MarkRule],
    before: &BTreeSet<FtpData>,
) -> BTreeSet<FtpData> {
    let may_help = services.tunables.ftp_helper > 0;
    let at = |key: &ServiceKey| key.vip().map(|vip| FtpData { destination: vip.into(), source: None });
    let wanted = services.all().filter(|s| s.takes_ftp_data(may_help)).filter_map(|s| at(&s.service.key));
    let mut all: BTreeSet<FtpData> = wanted.collect();

    let by_nat = |key: &ServiceKey| {
        services.get(key).is_some_and(|s| s.destinations.iter().any(|d| d.method == Method::Nat))
    };
    let lives = |key: &ServiceKey| {
        services.get(key).is_some_and(|s| s.destinations.iter().any(|d| counts.any(d.id)))
            || roster.removed().any(|(of, removed)| of == *key && counts.any(removed.id))
    };
    let left = services.all().map(|s| s.service.key).chain(roster.removed().map(|(key, _)| key));
    let left = left.filter(ServiceKey::is_ftp).filter_map(|key| Some((at(&key)?, key)));
    all.extend(left.filter(|(data, key)| before.contains(data) && lives(key)).map(|(data, _)| data));

    for rule in marks.iter().filter(|rule| takes_control(rule)) {
        let key = ServiceKey::Mark { mark: rule.mark, v6: rule.destination.addr().is_ipv6() };
        let data = FtpData { destination: rule.destination.trunc(), source: rule.source };
        if (may_help && by_nat(&key)) || (before.contains(&data) && lives(&key)) {
            all.insert(data);
        }
    }
    all
}

/// True if what the rule marks may be FTP's control connections, and not their data connections already.
fn takes_control(rule: &MarkRule) -> bool {
    let ports = rule.port_first..=rule.port_last;
    let takes_all = rule.port_first <= FTP_DATA && rule.port_last == u16::MAX;
    rule.protocol == Protocol::Tcp && ports.contains(&FTP) && !takes_all
}
