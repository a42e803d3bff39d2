//! Which options go with which command, and with which kind of tunnel.

use Opt::*;

use super::options::Tag;
use super::stop::Stop;

/// What ipvsadm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Action {
    AddService, EditService, DeleteService, Clear, List, AddServer, DeleteServer, EditServer, SetTimeouts,
    StartDaemon, StopDaemon, Restore, Save, Zero,
}

impl Action {
    /// The command that an option stands for.
    pub const fn of(tag: Tag) -> Option<Self> {
        Some(match tag {
            Tag::AddService => Self::AddService,
            Tag::EditService => Self::EditService,
            Tag::DeleteService => Self::DeleteService,
            Tag::Clear => Self::Clear,
            Tag::List => Self::List,
            Tag::AddServer => Self::AddServer,
            Tag::DeleteServer => Self::DeleteServer,
            Tag::EditServer => Self::EditServer,
            Tag::Set => Self::SetTimeouts,
            Tag::StartDaemon => Self::StartDaemon,
            Tag::StopDaemon => Self::StopDaemon,
            Tag::Restore => Self::Restore,
            Tag::Save => Self::Save,
            Tag::Zero => Self::Zero,
            _ => return None,
        })
    }

    /// Its name in messages.
    const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::DeleteServer => "delete-server",
            Self::EditServer => "edit-server",
            Self::SetTimeouts => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
        }
    }

    const fn rule(self) -> Rule {
        const NONE: Rule = Rule { needed: &[], allowed: &[], one_of: &[] };
        match self {
            Self::AddService | Self::EditService => Rule {
                needed: &[ServiceAddress],
                allowed: &[Scheduler, Persistent, Netmask, OnePacket, Engine, SchedulerFlags],
                ..NONE
            },
            Self::DeleteService => Rule { needed: &[ServiceAddress], ..NONE },
            Self::AddServer | Self::EditServer => Rule {
                needed: &[ServiceAddress, RealServer],
                allowed: &[
                    Method,
                    Weight,
                    Upper,
                    Lower,
                    TunnelType,
                    TunnelPort,
                    TunnelNoChecksum,
                    TunnelChecksum,
                    TunnelRemoteChecksum,
                ],
                ..NONE
            },
            Self::DeleteServer => Rule { needed: &[ServiceAddress, RealServer], ..NONE },
            Self::List => Rule {
                allowed: &[
                    Numeric,
                    Stats,
                    Rate,
                    Thresholds,
                    PersistentConnections,
                    NoSort,
                    SyncId,
                    Exact,
                    TunnelInfo,
                ],
                one_of: &[Connection, ServiceAddress, Timeout, Daemon],
                ..NONE
            },
            Self::StartDaemon => Rule {
                allowed: &[
                    MulticastInterface,
                    SyncId,
                    MulticastGroup,
                    MulticastPort,
                    MulticastTtl,
                    SyncMaxLen,
                ],
                ..NONE
            },
            Self::StopDaemon => Rule { allowed: &[SyncId], ..NONE },
            Self::Save => Rule { allowed: &[Numeric], ..NONE },
            Self::Zero => Rule { allowed: &[ServiceAddress], ..NONE },
            Self::Clear | Self::SetTimeouts | Self::Restore => NONE,
        }
    }
}

/// Kinds of options: what may be given once. Their order is that in which they are complained about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Opt {
    Numeric, Connection, ServiceAddress, Scheduler, Persistent, Netmask, RealServer, Method, Weight, Upper, Lower,
    MulticastInterface, Timeout, Daemon, Stats, Rate, Thresholds, PersistentConnections, NoSort, SyncId, Exact,
    OnePacket, Engine, SchedulerFlags, MulticastGroup, MulticastPort, MulticastTtl, SyncMaxLen, TunnelInfo, TunnelType,
    TunnelPort, TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum,
}

/// All of them with their names in messages.
const OPTS: &[(Opt, &str)] = &[
    (Numeric, "numeric"),
    (Connection, "connection"),
    (ServiceAddress, "service-address"),
    (Scheduler, "scheduler"),
    (Persistent, "persistent"),
    (Netmask, "netmask"),
    (RealServer, "real-server"),
    (Method, "forwarding-method"),
    (Weight, "weight"),
    (Upper, "u-threshold"),
    (Lower, "l-threshold"),
    (MulticastInterface, "mcast-interface"),
    (Timeout, "timeout"),
    (Daemon, "daemon"),
    (Stats, "stats"),
    (Rate, "rate"),
    (Thresholds, "thresholds"),
    (PersistentConnections, "persistent-conn"),
    (NoSort, "nosort"),
    (SyncId, "syncid"),
    (Exact, "exact"),
    (OnePacket, "ops"),
    (Engine, "pe"),
    (SchedulerFlags, "sched-flags"),
    (MulticastGroup, "mcast-group"),
    (MulticastPort, "mcast-port"),
    (MulticastTtl, "mcast-ttl"),
    (SyncMaxLen, "sync-maxlen"),
    (TunnelInfo, "tun-info"),
    (TunnelType, "tun-type"),
    (TunnelPort, "tun-port"),
    (TunnelNoChecksum, "tun-nocsum"),
    (TunnelChecksum, "tun-csum"),
    (TunnelRemoteChecksum, "tun-remcsum"),
];

/// What has to be given, what may be, and of what only one may be. Anything else may not.
struct Rule {
    needed: &'static [Opt],
    allowed: &'static [Opt],
    one_of: &'static [Opt],
}

/// The options given so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(u64);

impl Seen {
    /// This one is given now.
    ///
    /// # Errors
    /// It was given before.
    pub fn give(&mut self, opt: Opt) -> Result<(), Stop> {
        if self.has(opt) {
            return Err(Stop::wrong(format!("multiple '{}' options specified", OPTS[opt as usize].1)));
        }
        self.0 |= 1 << opt as u32;
        Ok(())
    }

    /// True if it was given.
    pub const fn has(self, opt: Opt) -> bool {
        self.0 & (1 << opt as u32) != 0
    }

    /// True if one of them was given.
    pub fn any(self, opts: &[Opt]) -> bool {
        opts.iter().any(|&opt| self.has(opt))
    }

    /// Checks what was given against what the command takes.
    ///
    /// # Errors
    /// The first that is missing, out of place or in conflict.
    pub fn check(self, action: Action) -> Result<(), Stop> {
        self.check_rule(&action.rule(), OPTS, &format!("'{}' command", action.name()))
    }

    /// Checks the options of a tunnel against what its kind, by this name, takes.
    ///
    /// # Errors
    /// The first that is missing, out of place or in conflict.
    pub fn check_tunnel(self, kind: &str) -> Result<(), Stop> {
        let rule = match kind {
            "gue" => Rule {
                needed: &[TunnelPort],
                allowed: &[],
                one_of: &[TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum],
            },
            "gre" => Rule { needed: &[], allowed: &[], one_of: &[TunnelNoChecksum, TunnelChecksum] },
            _ => Rule { needed: &[], allowed: &[], one_of: &[] },
        };
        self.check_rule(&rule, &OPTS[TunnelPort as usize..], &format!("'{kind}' tunnel type"))
    }

    fn check_rule(self, rule: &Rule, opts: &[(Opt, &str)], with: &str) -> Result<(), Stop> {
        let mut the_one = None;
        for &(opt, name) in opts {
            let complaint = match self.has(opt) {
                false if rule.needed.contains(&opt) => {
                    format!("You need to supply the '{name}' option for the {with}")
                }
                true if rule.one_of.contains(&opt) => match the_one.replace(name) {
                    Some(other) => {
                        format!("The option '{name}' conflicts with the '{other}' option in the {with}")
                    }
                    None => continue,
                },
                true if !rule.needed.contains(&opt) && !rule.allowed.contains(&opt) => {
                    format!("Illegal '{name}' option with the {with}")
                }
                _ => continue,
            };
            return Err(Stop::wrong(complaint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(opts: &[Opt]) -> Seen {
        let mut seen = Seen::default();
        opts.iter().for_each(|&opt| seen.give(opt).unwrap());
        seen
    }

    #[test]
    fn the_names_are_at_their_places() {
        assert!(OPTS.iter().enumerate().all(|(place, (opt, _))| *opt as usize == place));
        assert_eq!(OPTS.len(), TunnelRemoteChecksum as usize + 1);
    }

    #[test]
    fn the_first_complaint_counts() {
        let complaint = |opts: &[Opt], action| given(opts).check(action).map_err(|stop| stop.message);
        assert_eq!(complaint(&[ServiceAddress], Action::AddService), Ok(()));
        assert_eq!(
            complaint(&[Weight], Action::AddService).unwrap_err(),
            "You need to supply the 'service-address' option for the 'add-service' command\n"
        );
        assert_eq!(
            complaint(&[Numeric, Weight], Action::AddService).unwrap_err(),
            "Illegal 'numeric' option with the 'add-service' command\n"
        );
        assert_eq!(
            complaint(&[Daemon, Timeout], Action::List).unwrap_err(),
            "The option 'daemon' conflicts with the 'timeout' option in the 'list' command\n"
        );
        assert_eq!(
            given(&[Weight]).give(Weight).unwrap_err().message,
            "multiple 'weight' options specified\n"
        );
    }
}
