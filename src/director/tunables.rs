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
    conn_reuse_mode: 0..=3, 1,
        "What a SYN that reuses the ports of a connection does: 0 it goes to the same server; 1 of one in TIME_WAIT or CLOSE it is scheduled anew; 2 and 3 of one in FIN_WAIT whose replies bypass the director, too";
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
