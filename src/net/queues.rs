//! How many receive queues an interface has.

use std::fs;
use std::path::{Path, PathBuf};

use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolMessage};

use super::error::NetError;
use super::genl;
use super::links::Link;

/// The queues of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues in use: what must be bound.
    pub receive: u32,
    /// The most that the interface can have; equal to `receive` if it cannot be changed.
    pub most: u32,
    /// Whether they are set together with the transmit queues (`ethtool -L X combined N`).
    pub combined: bool,
    /// Whether `ethtool -L` can change them.
    pub adjustable: bool,
}

impl Queues {
    /// The command that sets the number of receive queues of `interface` to `count`.
    pub fn command(&self, interface: &str, count: u32) -> String {
        if self.combined {
            format!("ethtool -L {interface} combined {count}")
        } else {
            format!("ethtool -L {interface} rx {count} tx {count}")
        }
    }
}

/// The queues of `link`, right in every network namespace. Needs a tokio runtime.
///
/// # Errors
/// When the kernel refuses for another reason than that the driver does not tell.
pub async fn of(link: &Link) -> Result<Queues, NetError> {
    let question = EthtoolMessage::new_channel_get(Some(&link.name));
    if let Some(answer) = genl::ask("tell the queues of an interface", question).await? {
        let [mut receive, mut combined, mut receive_most, mut combined_most] = [0; 4];
        for attribute in answer.nlas {
            if let EthtoolAttr::Channel(attribute) = attribute {
                match attribute {
                    EthtoolChannelAttr::RxCount(count) => receive = count,
                    EthtoolChannelAttr::RxMax(count) => receive_most = count,
                    EthtoolChannelAttr::CombinedCount(count) => combined = count,
                    EthtoolChannelAttr::CombinedMax(count) => combined_most = count,
                    _ => {}
                }
            }
        }
        if receive + combined > 0 {
            return Ok(Queues {
                receive: receive + combined,
                most: receive_most.max(combined_most),
                combined: combined > 0,
                adjustable: true,
            });
        }
    }
    let receive = own_sysfs(link).and_then(|path| count_queues(&path)).unwrap_or(link.receive_queues);
    Ok(Queues { receive, most: receive, combined: false, adjustable: false })
}

/// The driver's name; for a software interface what it is. `None` if the kernel does not tell here.
pub fn driver(link: &Link) -> Option<String> {
    let of_device = || {
        let target = fs::read_link(own_sysfs(link)?.join("device/driver")).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    };
    link.kind.clone().or_else(of_device)
}

/// The sysfs directory of `link`, unless `/sys` shows another network namespace's interfaces.
fn own_sysfs(link: &Link) -> Option<PathBuf> {
    let path = Path::new("/sys/class/net").join(&link.name);
    let says = |file: &str| fs::read_to_string(path.join(file)).ok().map(|text| text.trim().to_owned());
    let mac = link.mac.map(|byte| format!("{byte:02x}")).join(":");
    (says("ifindex")? == link.ifindex.to_string() && says("address")? == mac).then_some(path)
}

fn count_queues(path: &Path) -> Option<u32> {
    let entries = fs::read_dir(path.join("queues")).ok()?;
    let receive = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    u32::try_from(receive.count()).ok().filter(|count| *count > 0)
}
