//! A network interface as the kernel describes it.

use rtnetlink::packet_route::link::{
    BondPortState, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoVlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, LinkXdp, VlanProtocol, XdpAttached,
};

use super::addresses::Address;
use super::error::NetError;
use super::netlink;

/// How an XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack, after the kernel has built its packet buffer (skb).
    Generic,
    /// On the card itself.
    Offloaded,
    /// Several at once, in different modes.
    Multiple,
}

/// An XDP program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// The program's id (`bpftool prog show id N`), if the kernel tells.
    pub program_id: Option<u32>,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, unique in its network namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// Its MAC address; zeros if it has none.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier: a cable, or a peer that is up.
    pub carrier: bool,
    /// What a software interface is (`veth`, `vlan`, `bond`, ...); `None` for a hardware driver's.
    pub kind: Option<String>,
    /// The interface below it (VLAN), or its peer (veth), by number.
    pub parent: Option<u32>,
    /// Whether `parent` counts in another network namespace.
    pub parent_is_elsewhere: bool,
    /// The bond, bridge or the like that it is a member of, by number.
    pub controller: Option<u32>,
    /// It is a bond's member that must not send now: the other ones of active-backup, and one that 802.3ad leaves out.
    pub is_backup: bool,
    /// 802.1Q VLAN id of a VLAN interface. 802.1ad is left out.
    pub vlan: Option<u16>,
    /// Receive queues it was made with: at least as many as it uses.
    pub receive_queues: u32,
    /// The XDP program attached to it.
    pub xdp: Option<AttachedXdp>,
}

impl Link {
    /// Reads the kernel's description.
    pub(crate) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Link {
            ifindex: message.header.index,
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(parent) => link.parent = Some(*parent),
                LinkAttribute::Controller(controller) => {
                    link.controller = Some(*controller).filter(|c| *c != 0)
                }
                LinkAttribute::LinkNetNsId(_) => link.parent_is_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => link.read_kind(infos),
                LinkAttribute::NumRxQueues(count) => link.receive_queues = *count,
                LinkAttribute::Xdp(xdp) => link.xdp = read_xdp(xdp),
                _ => {}
            }
        }
        link
    }

    /// Whether frames sent to it have a chance to leave.
    pub fn is_running(&self) -> bool {
        self.up && self.carrier
    }

    /// Whether it is a bond: frames come and go by its members.
    pub fn is_bond(&self) -> bool {
        self.kind.as_deref() == Some("bond")
    }

    fn read_kind(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(InfoKind::Other(kind)) => self.kind = Some(kind.clone()),
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::Vlan(vlan)) => {
                    let plain = vlan
                        .iter()
                        .all(|v| !matches!(v, InfoVlan::Protocol(p) if *p != VlanProtocol::Ieee8021Q));
                    let id =
                        vlan.iter().find_map(|v| if let InfoVlan::Id(id) = v { Some(*id) } else { None });
                    self.vlan = id.filter(|_| plain);
                }
                LinkInfo::PortData(InfoPortData::BondPort(port)) => {
                    self.is_backup = port
                        .iter()
                        .any(|p| matches!(p, InfoBondPort::BondPortState(s) if *s != BondPortState::Active));
                }
                _ => {}
            }
        }
    }
}

fn read_xdp(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let mode = attributes.iter().find_map(|a| match a {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Offloaded),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(XdpMode::Multiple),
        _ => None,
    })?;
    let program_id =
        attributes.iter().find_map(|a| if let LinkXdp::ProgId(id) = a { Some(*id) } else { None });
    Some(AttachedXdp { mode, program_id })
}

/// All interfaces of the calling thread's network namespace. Needs a tokio runtime.
///
/// # Errors
/// When the kernel refuses or does not answer.
pub async fn all() -> Result<Vec<Link>, NetError> {
    netlink::Requests::open()?.links().await
}

/// All addresses of the calling thread's network namespace. Needs a tokio runtime.
///
/// # Errors
/// When the kernel refuses or does not answer.
pub async fn addresses() -> Result<Vec<Address>, NetError> {
    netlink::Requests::open()?.addresses().await
}
