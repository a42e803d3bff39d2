//! Offload at the start and while it runs: which interfaces can be redirected to, and what is done if they cannot.

use std::sync::Arc;

use anyhow::{Context, bail};
use crossbeam_channel::Receiver;

use super::report::Interface;
use crate::control::config::{self, Director as Wanted};
use crate::director::Director;
use crate::director::offload::Offer;
use crate::net::{Mirror, links, xdp_features};
use crate::worker::Clock;
use crate::worker::offload::{Exit, Offload};
use crate::xdp::steer::Steering;

/// Whether frames can be redirected to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Yes,
    No,
    /// The kernel is too old to tell.
    Unknown,
}

impl Takes {
    const fn may(self, wanted: config::Offload) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::Unknown => matches!(wanted, config::Offload::On),
        }
    }
}

/// Whether packets of offloaded connections leave by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Off,
    Yes,
    /// The driver takes no redirected frames at present.
    No,
    /// The kernel does not tell whether it does.
    Unknown,
}

impl Carries {
    const fn of(takes: Takes, wanted: config::Offload) -> Self {
        match takes {
            _ if takes.may(wanted) => Self::Yes,
            Takes::Unknown => Self::Unknown,
            Takes::No | Takes::Yes => Self::No,
        }
    }

    /// As listings say it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// How many flows the steering program is to have room for, if any.
pub(super) fn flows(wanted: &Wanted) -> Option<u32> {
    (wanted.offload != config::Offload::Off).then_some(wanted.offload_flows)
}

/// Lets the steering program carry connections of `director`, if it has room for flows: between the interfaces that can
/// be redirected to. To be started once the workers are.
///
/// # Errors
/// With `offload = "on"`, an interface that cannot be redirected to.
pub(super) async fn prepare(
    wanted: &Wanted,
    interfaces: &mut [Interface],
    steering: &mut Steering,
    director: &Arc<Director>,
    mirror: &Mirror,
    clock: Clock,
) -> anyhow::Result<Option<(Offload, Receiver<Offer>)>> {
    let Some(maps) = steering.offload() else { return Ok(None) };
    let found = look(interfaces).await?;
    let cannot: Vec<_> =
        interfaces.iter().zip(&found).filter(|(_, (_, takes))| !takes.may(wanted.offload)).collect();
    let names = cannot.iter().map(|(interface, _)| interface.name.as_str()).collect::<Vec<_>>().join(" ");
    let cure = "the driver does not take redirected frames at present (NETDEV_XDP_ACT_NDO_XMIT); a veth does once its \
                other end has GRO (`ethtool -K OTHER gro on`) or an XDP program";
    match wanted.offload {
        config::Offload::On if !cannot.is_empty() => {
            bail!("offload = \"on\" is not possible to {names}: {cure}. Or set offload = \"auto\" or \"off\"")
        }
        config::Offload::On => {}
        _ if cannot.len() == interfaces.len()
            && cannot.iter().all(|(_, (_, takes))| *takes == Takes::Unknown) =>
        {
            tracing::info!("offload: off, since this kernel does not tell what drivers can (Linux 6.3 does)");
        }
        _ if !cannot.is_empty() => tracing::info!("offload: not to {names}: {cure}"),
        _ => {}
    }
    for (interface, (_, takes)) in interfaces.iter_mut().zip(&found) {
        interface.offload = Carries::of(*takes, wanted.offload);
    }
    let exits: Vec<_> = found
        .iter()
        .map(|(interface, takes)| Exit { interface: *interface, may_leave: takes.may(wanted.offload) })
        .collect();
    let able: Vec<_> = interfaces
        .iter()
        .zip(&exits)
        .filter(|(_, exit)| exit.may_leave)
        .map(|(i, _)| i.name.as_str())
        .collect();
    if !able.is_empty() {
        tracing::info!("offload: established connections go to {} in the steering program", able.join(" "));
    }
    director.offload().set_after(wanted.offload_after);
    let (offload, offered) = Offload::new(director, maps, &exits, clock)?;
    let follower = offload.clone();
    mirror.show_to(move |snapshot| follower.follow_network(snapshot));
    Ok(Some((offload, offered)))
}

/// Notices interfaces that can be redirected to no more, or again.
pub(super) async fn look_again(
    wanted: config::Offload,
    interfaces: &mut [Interface],
    offload: &Offload,
) -> bool {
    // An interface that is gone ends its worker; anything else is asked again.
    let Ok(found) = look(interfaces).await else { return false };
    let mut has_changed = false;
    for ((port, interface), (_, takes)) in (0..).zip(interfaces).zip(found) {
        let may = takes.may(wanted);
        interface.offload = Carries::of(takes, wanted);
        if offload.set_exit(port, may) {
            has_changed = true;
            let name = &interface.name;
            if may {
                tracing::info!("offload: {name} takes redirected frames now");
            } else {
                tracing::warn!("offload: {name} takes redirected frames no more; what goes there comes up");
            }
        }
    }
    has_changed
}

/// Index of each interface, and whether frames can be redirected to it.
async fn look(interfaces: &[Interface]) -> anyhow::Result<Vec<(u32, Takes)>> {
    let links = links::all().await.context("cannot list the interfaces")?;
    // In the kernel's stack, the generic program sends like any other part of that.
    let is_generic = interfaces.iter().all(|interface| interface.xdp == "generic");
    let mut found = Vec::with_capacity(interfaces.len());
    for interface in interfaces {
        let name = &interface.name;
        let Some(link) = links.iter().find(|link| link.name == *name) else {
            bail!("interface {name} is gone")
        };
        let takes = if is_generic {
            Takes::Yes
        } else {
            match xdp_features::of(link.ifindex).await {
                Ok(Some(features)) if features.takes_redirected => Takes::Yes,
                Ok(Some(_)) => Takes::No,
                Ok(None) => Takes::Unknown,
                Err(error) => bail!("the XDP features of {name} cannot be read: {error}"),
            }
        };
        found.push((link.ifindex, takes));
    }
    Ok(found)
}
