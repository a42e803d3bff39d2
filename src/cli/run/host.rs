//! What the interfaces must be like before, and still be after, the steering program is attached.

use anyhow::{Context, bail};

use crate::control::config::{Director, FRAME_BYTES};
use crate::net::Snapshot;
use crate::net::links::{self, Link};
use crate::net::queues::{self, Queues};
use crate::xdp::options::{LONG_MTU_MAX, mtu_max};
use crate::xdp::sockopt::kernel_has_long_frames;

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
        refuse_what_is_above(link, &links)?;
        all.push(queues::of(link).await.with_context(|| format!("cannot read the queues of {name}"))?);
    }
    Ok(all)
}

/// Refuses what has no queues of its own: a frame that arrives at a bond's member never gets to a socket of the bond.
fn refuse_what_is_above(link: &Link, links: &[Link]) -> anyhow::Result<()> {
    let name = &link.name;
    if let Some(below) = link.parent.filter(|_| link.kind.as_deref() == Some("vlan")) {
        let below = links.iter().find(|l| l.ifindex == below && !link.parent_is_elsewhere);
        bail!(
            "interface {name} is a VLAN, whose frames AF_XDP gets by the interface below it: give {} instead, routes \
             by {name} work",
            below.map_or("that one", |l| l.name.as_str())
        );
    }
    if link.kind.as_deref() == Some("team") {
        bail!(
            "interface {name} is a team, and routes by a team are not followed: make it a bond, and give its members"
        );
    }
    if link.is_bond() {
        let members = members(link, links);
        bail!(
            "interface {name} is a bond, and AF_XDP takes frames from the queues of its members: set interfaces = [{}], \
             routes by {name} work",
            if members.is_empty() { "its members".to_owned() } else { members.join(", ") }
        );
    }
    Ok(())
}

/// The names of a bond's members, quoted.
fn members(bond: &Link, links: &[Link]) -> Vec<String> {
    let members = links.iter().filter(|l| l.controller == Some(bond.ifindex));
    members.map(|l| format!("\"{}\"", l.name)).collect()
}

/// Members of bonds that are not among `interfaces` while others of the same bond are: what arrives there is the kernel's.
fn left_out<'l>(interfaces: &[String], links: &'l [Link]) -> Vec<(&'l str, &'l str)> {
    let is_ours = |link: &Link| interfaces.contains(&link.name);
    let bonds = links
        .iter()
        .filter(|bond| bond.is_bond())
        .filter(|bond| links.iter().any(|l| l.controller == Some(bond.ifindex) && is_ours(l)));
    bonds
        .flat_map(|bond| {
            let members = links.iter().filter(|l| l.controller == Some(bond.ifindex) && !is_ours(l));
            members.map(|member| (member.name.as_str(), bond.name.as_str()))
        })
        .collect()
}

/// Says of which bonds only some members are among `interfaces`.
///
/// # Errors
/// The kernel does not tell.
pub(super) async fn warn_of_members_left_out(interfaces: &[String]) -> anyhow::Result<()> {
    let links = links::all().await.context("cannot list the interfaces")?;
    for (member, bond) in left_out(interfaces, &links) {
        tracing::warn!(
            "{member} is a member of {bond} as others of `interfaces` are: what arrives there goes to the kernel, not to \
             services; add it to `interfaces`"
        );
    }
    Ok(())
}

/// Whether frames of an interface may be longer than a chunk, and have to be taken in several.
///
/// # Errors
/// An MTU is too large for `frame_bytes` and a kernel that takes frames in one chunk, or for any: the long ones would be lost
/// in silence.
pub(super) fn has_long_frames(director: &Director, snapshot: &Snapshot) -> anyhow::Result<bool> {
    let most = mtu_max(director.frame_bytes);
    let longest = (0..)
        .zip(&director.interfaces)
        .filter_map(|(index, name)| Some((name.as_str(), u32::from(snapshot.port(index)?.mtu))))
        .max_by_key(|(_, mtu)| *mtu);
    let Some((name, mtu)) = longest.filter(|(_, mtu)| *mtu > most) else { return Ok(false) };
    let several = kernel_has_long_frames().context("cannot ask the kernel for frames of several chunks")?;
    refuse_long_frames(name, mtu, director.frame_bytes, several)?;
    tracing::info!(
        interface = name,
        mtu,
        "frames longer than MTU {most} are put together from several buffers"
    );
    Ok(true)
}

/// Refuses an MTU above that of frames of one chunk if the kernel does not take `several`, or if it is above that of those too.
fn refuse_long_frames(name: &str, mtu: u32, frame_bytes: u32, several: bool) -> anyhow::Result<()> {
    let cure = |most| format!("run `ip link set dev {name} mtu {most}`");
    if several && mtu > LONG_MTU_MAX {
        bail!("interface {name} has MTU {mtu}, and {LONG_MTU_MAX} is the most: {}", cure(LONG_MTU_MAX));
    }
    if several {
        return Ok(());
    }
    let most = mtu_max(frame_bytes);
    let larger = FRAME_BYTES.into_iter().find(|&bytes| mtu <= mtu_max(bytes));
    let or_else = larger.map_or_else(
        || " (this kernel bounds a frame by a page; since Linux 6.6 it may be longer)".to_owned(),
        |bytes| format!(", or set frame_bytes = {bytes}"),
    );
    bail!(
        "interface {name} has MTU {mtu}, and frames of frame_bytes = {frame_bytes} hold {most} at most: {}{or_else}",
        cure(most)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, kind: Option<&str>) -> Link {
        Link { ifindex, name: name.to_owned(), kind: kind.map(str::to_owned), ..Link::default() }
    }

    fn links() -> Vec<Link> {
        let member = |ifindex, name| Link { controller: Some(4), ..link(ifindex, name, None) };
        let vlan = Link { parent: Some(1), vlan: Some(10), ..link(9, "eth0.10", Some("vlan")) };
        vec![
            link(1, "eth0", None),
            member(2, "eth1"),
            member(3, "eth2"),
            link(4, "bond0", Some("bond")),
            vlan,
        ]
    }

    #[test]
    fn a_bond_and_a_vlan_are_refused_with_what_to_give_instead() {
        let links = links();
        let refusal = |at: usize| refuse_what_is_above(&links[at], &links).map_err(|e| e.to_string());
        assert_eq!(refusal(0), Ok(()));
        assert_eq!(refusal(1), Ok(()), "a member");
        let bond = refusal(3).unwrap_err();
        assert!(bond.contains("bond0") && bond.contains("interfaces = [\"eth1\", \"eth2\"]"), "{bond}");
        let vlan = refusal(4).unwrap_err();
        assert!(vlan.contains("eth0.10 is a VLAN") && vlan.contains("give eth0 instead"), "{vlan}");
    }

    #[test]
    fn an_mtu_whose_frames_would_be_lost_is_refused_with_what_would_do() {
        let refusal = |mtu, frame_bytes, several| {
            refuse_long_frames("eth0", mtu, frame_bytes, several).map_err(|e| e.to_string())
        };
        assert_eq!((refusal(9000, 4096, true), refusal(9216, 2048, true)), (Ok(()), Ok(())));
        for (refused, words) in [
            (refusal(9217, 4096, true), ["MTU 9217", "ip link set dev eth0 mtu 9216"]),
            (refusal(3000, 2048, false), ["ip link set dev eth0 mtu 1710", "frame_bytes = 4096"]),
            (refusal(3759, 4096, false), ["ip link set dev eth0 mtu 3758", "Linux 6.6"]),
            (refusal(9000, 2048, false), ["ip link set dev eth0 mtu 1710", "Linux 6.6"]),
        ] {
            let refused = refused.unwrap_err();
            assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        }
    }

    #[test]
    fn a_member_that_is_left_out_is_named() {
        let of = |interfaces: &[&str]| {
            let interfaces: Vec<String> = interfaces.iter().map(|i| (*i).to_owned()).collect();
            left_out(&interfaces, &links()).iter().map(|(m, b)| format!("{m} {b}")).collect::<Vec<_>>()
        };
        assert_eq!(of(&["eth0", "eth1"]), ["eth2 bond0"]);
        assert!(of(&["eth1", "eth2"]).is_empty() && of(&["eth0"]).is_empty());
    }
}
