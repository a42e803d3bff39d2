//! What the interfaces must be like before, and still be after, the steering program is attached.

use anyhow::{Context, bail};

use crate::control::config::{Director, FRAME_BYTES};
use crate::net::Snapshot;
use crate::net::links;
use crate::net::queues::{self, Queues};
use crate::xdp::options::mtu_max;

/// The number of receive queues that every interface has.
///
/// # Errors
/// An interface is missing, or the interfaces have different numbers of queues: worker *i* serves queue *i* of
/// all of them.
pub(super) async fn queue_count(interfaces: &[String]) -> anyhow::Result<u32> {
    let counts = queues(interfaces).await?;
    let Some(least) = counts.iter().map(|q| q.receive).min() else { bail!("no interface is configured") };
    let differing = interfaces.iter().zip(&counts).find(|(_, q)| q.receive != least);
    if let Some((name, queues)) = differing {
        let all: Vec<String> =
            interfaces.iter().zip(&counts).map(|(name, q)| format!("{name} {}", q.receive)).collect();
        bail!(
            "the interfaces have different numbers of receive queues ({}), and a worker serves the same queue of \
             all of them: run `{}`",
            all.join(", "),
            queues.command(name, least)
        );
    }
    Ok(least)
}

/// The queues of each interface.
///
/// # Errors
/// An interface is missing, or the kernel does not tell.
pub(super) async fn queues(interfaces: &[String]) -> anyhow::Result<Vec<Queues>> {
    let links = links::all().await.context("cannot list the interfaces")?;
    let mut all = Vec::with_capacity(interfaces.len());
    for name in interfaces {
        let Some(link) = links.iter().find(|l| l.name == *name) else {
            bail!("interface {name} does not exist in this network namespace; `ip link` lists those that do");
        };
        all.push(queues::of(link).await.with_context(|| format!("cannot read the queues of {name}"))?);
    }
    Ok(all)
}

/// Refuses interfaces whose frames do not all fit a chunk: the kernel would drop the long ones in silence.
///
/// # Errors
/// An MTU is too large for `frame_bytes`.
pub(super) fn check_mtus(director: &Director, snapshot: &Snapshot) -> anyhow::Result<()> {
    let most = mtu_max(director.frame_bytes);
    for (index, name) in (0..).zip(&director.interfaces) {
        let Some(port) = snapshot.port(index).filter(|port| u32::from(port.mtu) > most) else { continue };
        let larger = FRAME_BYTES.into_iter().find(|&bytes| u32::from(port.mtu) <= mtu_max(bytes));
        let or_else = larger.map_or_else(String::new, |bytes| format!(", or set frame_bytes = {bytes}"));
        bail!(
            "interface {name} has MTU {}, and frames of frame_bytes = {} hold {most} at most: run `ip link set dev \
             {name} mtu {most}`{or_else}",
            port.mtu,
            director.frame_bytes
        );
    }
    Ok(())
}
