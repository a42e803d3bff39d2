//! Why a change is refused, in words that name the thing, the limit and the cure.

use std::net::SocketAddr;

use crate::director::name::ServiceKey;

/// Why a command is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("service {0} exists already: edit it, or delete it first")]
    ServiceExists(ServiceKey),
    #[error("there is no service {0}: add it first; `xvs show services` lists those there are")]
    NoService(ServiceKey),
    #[error("server {server} is in service {service} already: edit it, or delete it first")]
    ServerExists { service: ServiceKey, server: SocketAddr },
    #[error(
        "there is no server {server} in service {service}: add it first; `xvs show servers` lists those there are"
    )]
    NoServer { service: ServiceKey, server: SocketAddr },
    #[error("{what} {value} is outside of {least}..={most}")]
    OutOfRange { what: &'static str, value: u32, least: u32, most: u32 },
    #[error(
        "lower threshold {lower} is above upper threshold {upper} of server {server}: give at most the upper one"
    )]
    Thresholds { server: SocketAddr, upper: u32, lower: u32 },
    #[error("server {0} is not one host's address: give the address of a machine")]
    NotUnicast(SocketAddr),
    #[error(
        "server {server} has another port than service {service}, and packets are not changed on the way to it: use the service's port, or NAT"
    )]
    Port { service: ServiceKey, server: SocketAddr },
    #[error("server {server} and service {service} have different address families: only tunnels may")]
    Family { service: ServiceKey, server: SocketAddr },
    #[error(
        "server {server} is to have FULLNAT, and service {service} has no local address of its IP version: give it local_addresses"
    )]
    NoLocalAddress { service: ServiceKey, server: SocketAddr },
    #[error(
        "server {server} of service {service} is this host, and FULLNAT does not reach it: use NAT for it, or another machine"
    )]
    FullNatHere { service: ServiceKey, server: SocketAddr },
    #[error(
        "service {0} schedules packets one by one, and the replies of servers with FULLNAT find their way by a connection: use NAT, or do without one_packet"
    )]
    OnePacketFullNat(ServiceKey),
    #[error("service {0} has port 0, which stands for all ports and needs persistence")]
    ZeroPort(ServiceKey),
    #[error(
        "service {0} cannot schedule packets one by one: only UDP services and those of firewall marks can"
    )]
    OnePacket(ServiceKey),
    #[error(
        "service {service} has {servers} servers, and scheduler mh has room for {slots}: delete some, or use sh"
    )]
    Maglev { service: ServiceKey, servers: usize, slots: usize },
    #[error(
        "client_address = {how} cannot be had for service {service}: PROXY headers are for TCP and UDP, the TCP option for TCP, and neither is for FTP; set client_address=none"
    )]
    ClientAddress { service: ServiceKey, how: &'static str },
    #[error(
        "client_address = {how} of service {service} cannot be done for server {server}, which answers clients directly: use NAT or FULLNAT for the server, or set client_address=none"
    )]
    ClientAddressMethod { service: ServiceKey, server: SocketAddr, how: &'static str },
    #[error("{0} services are all there may be: delete one first")]
    TooManyServices(usize),
    #[error(
        "{0} servers are all there may be, removed ones with connections among them: delete some, or wait for their connections to end"
    )]
    TooManyServers(usize),
}
