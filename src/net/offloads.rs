//! Which offloads of an interface are on: the ones that change what AF_XDP gets to see.

use std::collections::BTreeSet;

use ethtool::{EthtoolAttr, EthtoolFeatureAttr, EthtoolMessage};

use super::error::NetError;
use super::genl;

/// The features that are on, by the kernel's names (`ethtool -k` shows some of them under other ones).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    active: BTreeSet<String>,
    /// Those that can be switched.
    switchable: BTreeSet<String>,
}

/// An offload that matters here, with the kernel's names of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Packets merged by the card.
    Lro,
    /// The same, so that they can be split again.
    GroHardware,
    /// Packets merged by the kernel.
    Gro,
    /// Large TCP packets cut by the card.
    Tso,
    /// Large packets cut by the kernel.
    Gso,
    /// Checksums left to the card, or left out on a virtual interface.
    TxChecksum,
    /// Checksums verified by the card, or believed to be right on a virtual interface.
    RxChecksum,
    /// VLAN tags taken out of received frames.
    RxVlan,
    /// VLAN tags put in by the card.
    TxVlan,
}

impl Offload {
    /// The word for `ethtool -K`.
    pub fn word(self) -> &'static str {
        match self {
            Offload::Lro => "lro",
            Offload::GroHardware => "rx-gro-hw",
            Offload::Gro => "gro",
            Offload::Tso => "tso",
            Offload::Gso => "gso",
            Offload::TxChecksum => "tx",
            Offload::RxChecksum => "rx",
            Offload::RxVlan => "rxvlan",
            Offload::TxVlan => "txvlan",
        }
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Offload::Lro => &["rx-lro"],
            Offload::GroHardware => &["rx-gro-hw"],
            Offload::Gro => &["rx-gro"],
            Offload::Tso => &["tx-tcp-segmentation", "tx-tcp6-segmentation"],
            Offload::Gso => &["tx-generic-segmentation"],
            Offload::TxChecksum => {
                &["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp"]
            }
            Offload::RxChecksum => &["rx-checksum"],
            Offload::RxVlan => &["rx-vlan-hw-parse"],
            Offload::TxVlan => &["tx-vlan-hw-insert"],
        }
    }
}

impl Offloads {
    /// Features by their kernel names: those that are on.
    pub fn with_active(active: &[&str]) -> Self {
        let active: BTreeSet<String> = active.iter().map(|name| name.to_string()).collect();
        Self { switchable: active.clone(), active }
    }

    /// Whether any part of `offload` is on.
    pub fn is_on(&self, offload: Offload) -> bool {
        offload.features().iter().any(|feature| self.active.contains(*feature))
    }

    /// Whether what is on of `offload` can be switched off.
    pub fn can_change(&self, offload: Offload) -> bool {
        let mut on = offload.features().iter().filter(|feature| self.active.contains(**feature));
        on.all(|feature| self.switchable.contains(*feature))
    }

    /// Those of `offloads` that are on.
    pub fn on_of(&self, offloads: &[Offload]) -> Vec<Offload> {
        offloads.iter().copied().filter(|offload| self.is_on(*offload)).collect()
    }
}

/// The offloads of the interface; `None` if its driver does not tell. Needs a tokio runtime.
///
/// # Errors
/// When the kernel refuses, for instance because there is no such interface.
pub async fn of(interface: &str) -> Result<Option<Offloads>, NetError> {
    let question = EthtoolMessage::new_feature_get(Some(interface));
    let Some(answer) = genl::ask("tell the offloads of an interface", question).await? else {
        return Ok(None);
    };
    let mut offloads = Offloads::default();
    for attribute in answer.nlas {
        let (set, bits) = match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => (&mut offloads.active, bits),
            EthtoolAttr::Feature(EthtoolFeatureAttr::Hw(bits)) => (&mut offloads.switchable, bits),
            _ => continue,
        };
        set.extend(bits.into_iter().filter(|bit| bit.value).map(|bit| bit.name));
    }
    Ok(Some(offloads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_is_on_is_enough() {
        let offloads = Offloads::with_active(&["tx-tcp6-segmentation", "rx-gro"]);
        let on = offloads.on_of(&[Offload::Tso, Offload::Gso, Offload::Gro, Offload::Lro]);
        assert_eq!(on, [Offload::Tso, Offload::Gro]);
    }
}
