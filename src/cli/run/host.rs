//! What the interfaces must be like before, and still be after, the steering program is attached.

use anyhow::{Context, bail};

use crate::net::links::{self, Link};
use crate::net::queues;

/// The number of receive queues that every interface has.
///
/// # Errors
/// An interface is missing, or the interfaces have different numbers of queues: worker *i* serves queue *i* of
/// all of them.
pub(super) async fn queue_count(interfaces: &[String]) -> anyhow::Result<u32> {
    let links = links::all().await.context("cannot list the interfaces")?;
    let mut counts = Vec::with_capacity(interfaces.len());
    for name in interfaces {
        let Some(link) = links.iter().find(|l| l.name == *name) else {
            bail!("interface {name} does not exist in this network namespace; `ip link` lists those that do");
        };
        counts.push(queues_of(link).await?);
    }
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

async fn queues_of(link: &Link) -> anyhow::Result<queues::Queues> {
    queues::of(link).await.with_context(|| format!("cannot read the queues of {}", link.name))
}
