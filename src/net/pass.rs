//! The device by which packets go back up to the kernel, as the kernel's network has it: up, with settings that let it
//! take them; and the way back for what servers on the director itself answer.
//!
//! A program here whose answers have to be rewritten sends them by the host's routes, where nobody would see them. So for
//! each such server there is a rule (`ip rule`): what is sent from its address and port goes by this device; and one for
//! what the host says in its place (ICMP: nobody listens). Rules and
//! routes of ours carry our protocol number; the kernel takes the route away with the device, and a rule to an empty
//! table does nothing, should this process be killed.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use super::error::NetError;
use super::links::Link;
use super::netlink::{PROTOCOL_XVS, Requests, limited, refused};

/// The routing table of answers of servers on the director itself: "xvs".
pub const RETURN_TABLE: u32 = 0x78_7673;
/// The priority of the rules that lead there: behind that of the local table, in front of what operators set.
pub const RETURN_PRIORITY: u32 = 99;

/// A server on the director itself: its protocol's number, its address and port.
pub type LocalServer = (u8, SocketAddr);

/// The numbers of ICMP and ICMPv6, and where a rule about "destination unreachable" finds it: the type and code are where
/// a flow's destination port is (`union flowi_uli`).
const ICMP: u8 = 1;
const UNREACHABLE: RulePortRange = RulePortRange { start: 0x0300, end: 0x030f };
const ICMPV6: u8 = 58;
const UNREACHABLE_V6: RulePortRange = RulePortRange { start: 0x0100, end: 0x010f };

/// The device.
#[derive(Debug)]
pub struct PassDevice {
    /// Its MAC address.
    pub mac: [u8; 6],
    wanted: watch::Sender<BTreeSet<LocalServer>>,
    task: JoinHandle<()>,
}

impl PassDevice {
    /// Sets up the device `name`, made already, in the network namespace of the calling thread. `mtu` in bytes is
    /// that of the narrowest interface. Needs a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses or does not answer.
    pub async fn set_up(name: &str, mtu: u32) -> Result<Self, NetError> {
        let requests = Requests::open()?;
        // Its own addresses would be ones that nobody has given it, and neighbours it has none.
        configure(name, "ipv6", "addr_gen_mode", "1");
        configure(name, "ipv6", "accept_ra", "0");
        // Where new devices have no IPv6, others may have it all the same.
        configure(name, "ipv6", "disable_ipv6", "0");
        // Any source: they have come by other interfaces. And to a server at a loopback address, from nowhere else.
        configure(name, "ipv4", "rp_filter", "0");
        configure(name, "ipv4", "route_localnet", "1");
        let what = "set up the device for what goes back to the kernel";
        let link = LinkUnspec::new_with_name(name).arp(false).multicast(false).mtu(mtu).up().build();
        limited(what, async {
            requests.handle.link().set(link).execute().await.map_err(|e| refused(what, &e))
        })
        .await?;
        let link = requests.links().await?.into_iter().find(|link| link.name == name);
        let Link { mac, ifindex, .. } =
            link.ok_or_else(|| NetError::Refused { what, reason: format!("{name} is gone"), errno: 0 })?;
        for rule in requests.rules().await?.into_iter().filter(is_ours) {
            requests.change_rule(rule, false).await?;
        }
        let (wanted, changes) = watch::channel(BTreeSet::new());
        let task = tokio::spawn(follow(requests, ifindex, changes));
        Ok(Self { mac, wanted, task })
    }

    /// These servers on the director itself answer by the device from now on, and no others.
    pub fn answer(&self, mut servers: BTreeSet<LocalServer>) {
        let errors =
            |(_, at): &LocalServer| (if at.is_ipv4() { ICMP } else { ICMPV6 }, SocketAddr::new(at.ip(), 0));
        let errors: Vec<_> = servers.iter().map(errors).collect();
        servers.extend(errors);
        self.wanted.send_if_modified(|now| {
            let differs = *now != servers;
            *now = servers;
            differs
        });
    }

    /// Takes all rules away.
    pub async fn stop(self) {
        drop(self.wanted);
        let _ended = self.task.await;
    }
}

/// Switches the reverse path filter of the device `name` off again, if somebody has switched it on: systemd-sysctl sets
/// every new device a moment after it was made.
pub fn keep_open(name: &str) {
    if rp_filter(name).is_some_and(|value| value != "0") {
        configure(name, "ipv4", "rp_filter", "0");
    }
}

fn rp_filter(of: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter")).ok()?;
    Some(text.trim().to_owned())
}

/// Whether the host's settings keep the kernel from taking what comes by the device `name`; says why, and the cure.
pub fn hindrance(name: &str) -> Option<String> {
    // The stricter of both counts (`IN_DEV_RPFILTER`), and without an address the loose mode is as strict.
    let strict = ["all", name].into_iter().find(|of| rp_filter(of).is_some_and(|value| value != "0"))?;
    Some(format!(
        "net.ipv4.conf.{strict}.rp_filter is on, so the kernel drops what comes by {name}: run `sysctl -w \
         net.ipv4.conf.{strict}.rp_filter=0`, and set it for the interfaces one by one where it is wanted"
    ))
}

fn configure(name: &str, family: &str, key: &str, value: &str) {
    let path = format!("/proc/sys/net/{family}/conf/{name}/{key}");
    match fs::write(&path, value) {
        Ok(()) => {}
        // Without IPv6 there is nothing to set.
        Err(_) if family == "ipv6" => {}
        Err(error) => warn!("{path} cannot be set to {value}: {error}"),
    }
}

/// Keeps the rules as they are wanted, until nobody wants any more.
async fn follow(requests: Requests, ifindex: u32, mut changes: watch::Receiver<BTreeSet<LocalServer>>) {
    let mut there = BTreeSet::new();
    loop {
        let is_open = changes.changed().await.is_ok();
        let wanted = if is_open { changes.borrow_and_update().clone() } else { BTreeSet::new() };
        for is_v4 in [true, false] {
            let is_used =
                |servers: &BTreeSet<LocalServer>| servers.iter().any(|(_, at)| at.is_ipv4() == is_v4);
            if is_used(&wanted)
                && !is_used(&there)
                && let Err(error) = requests.add_route(route(ifindex, is_v4)).await
            {
                warn!("servers on this host cannot answer through xvs: {error}");
            }
        }
        let gone: Vec<_> = there.difference(&wanted).copied().collect();
        for server in gone {
            tell(server, requests.change_rule(rule(server), false).await);
            there.remove(&server);
        }
        for &server in &wanted {
            if !there.contains(&server) && tell(server, requests.change_rule(rule(server), true).await) {
                there.insert(server);
            }
        }
        if !is_open {
            return;
        }
    }
}

fn tell((_, address): LocalServer, outcome: Result<(), NetError>) -> bool {
    if let Err(error) = &outcome {
        warn!("the answers of server {address}, which is this host, do not come through xvs: {error}");
    }
    outcome.is_ok()
}

/// To everywhere, by the device.
fn route(ifindex: u32, is_v4: bool) -> RouteMessage {
    let protocol = RouteProtocol::from(PROTOCOL_XVS);
    if is_v4 {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().scope(RouteScope::Link);
        v4.output_interface(ifindex).protocol(protocol).table_id(RETURN_TABLE).build()
    } else {
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new();
        v6.output_interface(ifindex).protocol(protocol).table_id(RETURN_TABLE).build()
    }
}

fn rule((protocol, address): LocalServer) -> RuleMessage {
    let mut rule = RuleMessage::default();
    let (family, bits) =
        if address.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.header.src_len = bits;
    rule.attributes = vec![
        RuleAttribute::Source(address.ip()),
        // What this host sends itself.
        RuleAttribute::Iifname("lo".to_owned()),
        RuleAttribute::IpProtocol(IpProtocol::from(i32::from(protocol))),
        match protocol {
            ICMP => RuleAttribute::DestinationPortRange(UNREACHABLE),
            ICMPV6 => RuleAttribute::DestinationPortRange(UNREACHABLE_V6),
            _ => RuleAttribute::SourcePortRange(RulePortRange { start: address.port(), end: address.port() }),
        },
        RuleAttribute::Table(RETURN_TABLE),
        RuleAttribute::Priority(RETURN_PRIORITY),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL_XVS)),
    ];
    rule
}

/// Whether a rule was made by xvs, in this run or an earlier one.
pub(super) fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL_XVS)))
}

/// Whether answers of a server at this address and port of the host can be told from other traffic and brought back: it
/// has a port of its own, and is not at ::1, which the kernel lets nothing reach that came by a device (RFC 4291, 2.5.3).
pub fn can_answer(address: SocketAddr) -> bool {
    address.ip() != IpAddr::V6(Ipv6Addr::LOCALHOST) && address.port() != 0
}
