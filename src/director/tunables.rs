//! Settings of the director as a whole, by the names of the kernel's sysctls (`net.ipv4.vs.*`).

/// A setting that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunableError {
    /// No setting has this name.
    #[error("there is no tunable `{name}`: use one of {}", Tunables::NAMES.join(" "))]
    Unknown {
        /// The name given.
        name: String,
    },
    /// It is a setting of the kernel's that a director of its own has no use for.
    #[error("tunable {name} = {value} cannot be: {why}")]
    Unsupported {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: u32,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// The value is outside of the limits.
    #[error("tunable {name} = {value} is outside of {least}..={most}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: u32,
        /// Its least value.
        least: u32,
        /// Its greatest value.
        most: u32,
    },
}

/// Names each setting, with its limits, its default and what it does: the closed list.
macro_rules! tunables {
    ($($name:ident: $least:literal..=$most:literal, $default:literal, $doc:literal;)*) => {
        /// All settings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Tunables { $(#[doc = $doc] pub $name: u32,)* }

        impl Default for Tunables {
            /// The kernel's.
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Tunables {
            /// Every name.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// Every setting with its value, limits, default and what it does.
            pub fn all(&self) -> Vec<Tunable> {
                vec![$(Tunable {
                    name: stringify!($name),
                    value: self.$name,
                    least: $least,
                    most: $most,
                    default: $default,
                    help: $doc.trim(),
                },)*]
            }

            /// Changes one setting.
            ///
            /// # Errors
            /// There is none of this name, or the value is outside of its limits.
            pub fn set(&mut self, name: &str, value: u32) -> Result<(), TunableError> {
                if let Some((name, why)) = unsupported(name).filter(|_| value > 0) {
                    return Err(TunableError::Unsupported { name, value, why });
                }
                match name {
                    $(stringify!($name) => {
                        if !($least..=$most).contains(&value) {
                            return Err(TunableError::OutOfRange {
                                name: stringify!($name), value, least: $least, most: $most,
                            });
                        }
                        self.$name = value;
                        Ok(())
                    })*
                    _ => Err(TunableError::Unknown { name: name.to_owned() }),
                }
            }
        }
    };
}

/// A setting of the kernel's that can only be 0: its name, why, and what to do instead.
pub fn unsupported(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "cache_bypass").then_some((
        "cache_bypass",
        "it would send packets of a service without a server on to their own destination, as transparent caches \
         want it, and xvs forwards to servers only; leave it 0, and give the service a server of last resort with \
         scheduler fo or ovf",
    ))
}

/// One setting and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunable {
    /// The sysctl's name.
    pub name: &'static str,
    /// Its value now.
    pub value: u32,
    /// Its least value.
    pub least: u32,
    /// Its greatest value.
    pub most: u32,
    /// Its value if nobody sets it.
    pub default: u32,
    /// What it does.
    pub help: &'static str,
}

tunables! {
    am_droprate: 0..=2_147_483_647, 10,
        "With drop_packet = 3: one of so many packets that would open a connection is dropped; 0 none";
    amemthresh: 0..=2_147_483_647, 1024,
        "With less free room for connections than this, in pages of 16 connections, the defences set to 1 or 2 are active; more than a quarter of the table counts as a quarter";
    cache_bypass: 0..=0, 0,
        "Always 0: packets of a service without a server are never sent on to their own destination";
    conn_reuse_mode: 0..=3, 1,
        "What a SYN that reuses the ports of a connection does: 0 it goes to the same server; 1 of one in TIME_WAIT or CLOSE it is scheduled anew; 2 and 3 of one in FIN_WAIT whose replies bypass the director, too";
    drop_entry: 0..=3, 0,
        "Ends connections that were opened and not used, 1/32 of the table each second, and as many as are needed when the table is full: 0 never; 1 and 2 when room is short (shown as 1 while it is idle, 2 while it is active); 3 always";
    drop_packet: 0..=3, 0,
        "Drops some of the packets that would open a connection: 0 none; 1 and 2 when room is short, the more the shorter (shown as 1 while it is idle, 2 while it is active); 3 always one of am_droprate";
    expire_nodest_conn: 0..=1, 0,
        "Packets of a connection whose server was removed: 0 they are dropped and the connection waits for the server to come back; 1 the connection ends, and the packet is treated as of none";
    expire_quiescent_template: 0..=1, 0,
        "1: persistence does not lead new connections to a server of weight 0";
    ftp_helper: 0..=1, 1,
        "1: connections to port 21 through NAT have the helper of FTP, as in a kernel with ip_vs_ftp loaded; 0: they do not, as without it. For new connections";
    lblc_expiration: 1..=2_678_400, 86_400,
        "Seconds after which lblc forgets a destination that nobody asked for";
    lblcr_expiration: 1..=2_678_400, 86_400,
        "Seconds after which lblcr forgets a destination that nobody asked for, and takes a server out of a set that did not change";
    nat_icmp_send: 0..=1, 0,
        "1: a packet of a NAT server that belongs to no connection is answered with port unreachable, unless it is a RST, and not routed on";
    pmtu_disc: 0..=1, 1,
        "What becomes of a packet that is too long for a tunnel and must not be fragmented: 1 its sender is told the tunnel's MTU; 0 it is fragmented. Without tunnels it changes nothing";
    schedule_icmp: 0..=1, 0,
        "1: an ICMP error about a packet of no connection begins the connection: it goes to the server that the scheduler chooses";
    secure_tcp: 0..=3, 0,
        "TCP states for floods of SYNs: a connection counts as established only once its server answers, where that is seen: 0 never; 1 and 2 when room is short (shown as 1 while it is idle, 2 while it is active); 3 always";
    sloppy_sctp: 0..=1, 0,
        "1: any SCTP packet that does not begin with an ABORT opens a connection, not only an INIT";
    sloppy_tcp: 0..=1, 0,
        "1: any TCP segment but a RST opens a connection, not only a SYN";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_changes_nothing_and_names_the_limits() {
        let mut tunables = Tunables::default();
        let error = tunables.set("expire_nodest_conn", 2).unwrap_err().to_string();
        assert_eq!(error, "tunable expire_nodest_conn = 2 is outside of 0..=1");
        let error = tunables.set("expire_nodest", 1).unwrap_err().to_string();
        assert!(error.contains("`expire_nodest`") && error.contains("expire_nodest_conn"), "{error}");
        assert_eq!(tunables, Tunables::default());
        let error = tunables.set("cache_bypass", 1).unwrap_err().to_string();
        assert!(
            error.starts_with("tunable cache_bypass = 1 cannot be: ") && error.contains("leave it 0"),
            "{error}"
        );
        assert_eq!(tunables, Tunables::default());
        tunables.set("cache_bypass", 0).unwrap();
        tunables.set("expire_nodest_conn", 1).unwrap();
        assert_eq!(tunables, Tunables { expire_nodest_conn: 1, ..Tunables::default() });
    }

    #[test]
    fn every_default_is_within_its_limits() {
        let mut tunables = Tunables::default();
        for t in Tunables::default().all() {
            tunables.set(t.name, t.default).unwrap();
        }
    }
}
