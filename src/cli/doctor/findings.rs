//! From facts to findings: pure, so that every judgement has a test without the hardware for it.

use std::net::IpAddr;

use super::facts::Facts;
use super::mtu::Frames;
use super::{host, interface, power};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be, or of no importance.
    Ok,
    /// Works, but not as it could, or not in every case.
    Warn,
    /// xvs does not work with this.
    Fail,
}

/// The check of a veth's other end, which may be in a namespace where it cannot be seen: a warning then.
pub const OTHER_END: &str = "other end";

/// One thing the doctor looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The interface, or `host`.
    pub subject: String,
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// Why it matters, in one line; empty when there is nothing to say.
    pub why: String,
    /// The command that cures it.
    pub cure: Option<String>,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        subject: &str,
        check: &'static str,
        found: impl Into<String>,
    ) -> Self {
        let (subject, found) = (subject.to_owned(), found.into());
        Self { severity, subject, check, found, why: String::new(), cure: None }
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(super) fn cure(mut self, command: impl Into<String>) -> Self {
        self.cure = Some(command.into());
        self
    }
}

/// All findings: each interface's in the order given, those between interfaces, the host's.
/// `chunk_len` is the configuration's `frame_bytes`, `busy_poll` its key of that name.
pub fn judge(facts: &Facts, vips: &[IpAddr], chunk_len: u32, busy_poll: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let frames = Frames::of(facts, chunk_len);
    for one in &facts.interfaces {
        findings.extend(interface::judge(one, &facts.host, &frames));
        findings.extend(busy_poll.then(|| power::interrupts(one)).flatten());
    }
    findings.extend(interface::queues_agree(&facts.interfaces));
    findings.extend(host::judge(&facts.host));
    findings.extend(power::judge(&facts.host));
    let first = facts.interfaces.first().map_or("eth0", |interface| &interface.name);
    findings.extend(vips.iter().map(|vip| host::vip(*vip, &facts.host.addresses, first)));
    findings
}
