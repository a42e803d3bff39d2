//! Leaving interfaces without a program in the middle of its work there.
//!
//! A veth that was given GRO polls on while a program is detached from it, and its receive queues lose their interface
//! meanwhile (`veth_disable_xdp`, since Linux 5.13, waits for nobody): a program that is just running and asks which interface
//! it runs on takes the kernel down with it. The steering program asks that of every frame. So another takes its place
//! first, which asks nothing and lets all pass; when nobody can be running the old one any more, that one is detached.
//!
//! A process that is killed cannot do that: the kernel detaches what it had.
#![allow(unsafe_code)]

use std::thread::sleep;
use std::time::Duration;

use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;

use super::Steering;
use super::attach::Attachment;

/// How long a program may go on after it was replaced, where the kernel does not tell: more than one poll takes.
const LAST_RUN: Duration = Duration::from_millis(100);

impl Steering {
    /// Detaches from these interfaces.
    pub(super) fn leave(&mut self, attachments: impl IntoIterator<Item = Attachment>) {
        let Ok(quiet) = self.quiet() else { return };
        let links: Vec<_> = attachments.into_iter().filter_map(|gone| replace(quiet, gone.link)).collect();
        if !links.is_empty() {
            await_last_run();
        }
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let attachments = std::mem::take(&mut self.attachments);
        self.leave(attachments.into_values());
    }
}

/// The link with the other program, or nothing if the kernel refused: then it is gone at once.
fn replace(quiet: &mut Xdp, link: FdLink) -> Option<XdpLink> {
    let id = quiet.attach_to_link(XdpLink::try_from(link).ok()?).ok()?;
    quiet.take_link(id).ok()
}

/// Waits until every CPU has left what it was running when this was called.
fn await_last_run() {
    // `MEMBARRIER_CMD_GLOBAL` waits for a grace period of RCU, as which each run of a program counts. SAFETY: it has no
    // arguments that point anywhere.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    // Not with nohz_full.
    if waited != 0 {
        sleep(LAST_RUN);
    }
}
