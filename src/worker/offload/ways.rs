//! The network as the program is told it: next hops of a snapshot, by interfaces that can be redirected to.

use std::sync::Arc;

use crate::net::Snapshot;
use crate::xdp::steer::SteerError;
use crate::xdp::steer::offload::{NextHop, Ways};

/// An interface that flows leave by, in the order of the port ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its index in this network namespace.
    pub interface: u32,
    /// Whether frames can be redirected to it at present.
    pub may_leave: bool,
}

/// What the program was told.
#[derive(Debug)]
pub(super) struct Network {
    ways: Ways,
    may_leave: Vec<bool>,
    /// The network as it was shown last.
    latest: Option<Arc<Snapshot>>,
}

impl Network {
    pub(super) fn new(mut ways: Ways, exits: &[Exit]) -> Result<Self, SteerError> {
        for (port, exit) in (0..).zip(exits) {
            ways.set_exit(port, exit.interface)?;
        }
        Ok(Self { ways, may_leave: exits.iter().map(|exit| exit.may_leave).collect(), latest: None })
    }

    pub(super) fn set_exit(&mut self, port: u16, may_leave: bool) -> bool {
        let known = self.may_leave.get_mut(usize::from(port));
        known.is_some_and(|known| std::mem::replace(known, may_leave) != may_leave)
    }

    /// Goes by this snapshot from now on, or again by the one before: never by one that was published meanwhile, since the
    /// next may have been shown already.
    pub(super) fn follow(&mut self, snapshot: Option<&Arc<Snapshot>>) -> Result<(), SteerError> {
        if let Some(snapshot) = snapshot {
            self.latest = Some(Arc::clone(snapshot));
        }
        let Self { ways, may_leave, latest: Some(snapshot) } = self else { return Ok(()) };
        let leaves = |port: u16| may_leave.get(usize::from(port)).is_some_and(|may| *may);
        let hop = |hop: &crate::net::Hop| NextHop {
            dst_mac: hop.dst_mac,
            src_mac: hop.src_mac,
            exit: hop.port,
            mtu: hop.mtu,
            vlan: hop.vlan,
        };
        let hops = snapshot.hops().iter().map(|h| h.as_ref().filter(|h| leaves(h.port)).map(hop));
        ways.set_hops(hops).and_then(|()| ways.set_routes(snapshot.generation()))
    }

    /// The network as it was shown last.
    pub(super) fn latest(&self) -> Option<Arc<Snapshot>> {
        self.latest.clone()
    }

    pub(super) fn let_go(&mut self) -> Result<(), SteerError> {
        self.may_leave.fill(false);
        self.ways.set_hops([])
    }

    pub(super) fn follow_services(&mut self, services: u32) -> Result<(), SteerError> {
        self.ways.set_services(services)
    }
}
