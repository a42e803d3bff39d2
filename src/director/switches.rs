//! What a service does otherwise than the kernel, where operators suffer from what the kernel does: a closed list of
//! switches, each with the kernel's behaviour as its default.
//!
//! Plain values: what they do is done where the kernel's behaviour is.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::service::{Method, Protocol, UnknownName, by_name};

/// Limits of a service's own timeouts, in seconds, as `ipvsadm --set` has them; 0: the director's.
pub const TIMEOUT_S: RangeInclusive<u32> = 0..=2_678_400;
/// Limits of a slow start in seconds; 0: none.
pub const SLOW_START_S: RangeInclusive<u32> = 0..=86_400;
/// Limits of the largest segment size that may be agreed upon, in bytes: from what every host takes (RFC 9293, 3.7.1) to
/// what fits an IPv4 packet; 0: any.
pub const MSS_MAX: RangeInclusive<u32> = 536..=65_495;
/// Limits of the kind of the TCP option that tells the client's address: those below mean something to every stack
/// (window scale, selective acknowledgements, timestamps), or have no room for a value.
pub const TOA_KIND: RangeInclusive<u8> = 9..=255;
/// The kind that the servers' module `toa` looks for unless it was built for another: one of those for experiments
/// (RFC 4727).
pub const TOA_KIND_DEFAULT: u8 = 254;

/// The switches of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Seconds that an established TCP connection lives without packets; 0: as the director's timeouts say.
    pub timeout_tcp_s: u32,
    /// Seconds that a TCP connection lives after the first FIN; 0: as the director's timeouts say.
    pub timeout_tcp_fin_s: u32,
    /// Seconds that a UDP flow lives without packets; 0: as the director's timeouts say.
    pub timeout_udp_s: u32,
    /// Seconds over which the share of a server that begins to take connections grows to its weight; 0: it has
    /// all of it at once. For lc, wlc, sed, nq and wrr.
    pub slow_start_s: u32,
    /// The next datagram of a flow whose server was removed opens a new flow to another server.
    pub udp_rehome: bool,
    /// What becomes of TCP connections while their server is down.
    pub tcp_when_down: TcpWhenDown,
    /// Both ends of a TCP connection whose server was removed are sent a reset when they next speak.
    pub reset_on_removal: bool,
    /// Any TCP segment but a RST opens a connection; none: as the tunable `sloppy_tcp` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sloppy_tcp: Option<bool>,
    /// The largest segment size in bytes that SYNs of either side may name; a larger one is lowered to it. 0: any.
    pub mss_max: u32,
    /// How servers are told the client's address, from the next connection on.
    pub client_address: ClientAddress,
    /// The kind of the TCP option of `toa`, 9 to 255.
    pub toa_kind: u8,
}

impl Default for Switches {
    /// The kernel's behaviour.
    fn default() -> Self {
        Self {
            timeout_tcp_s: 0,
            timeout_tcp_fin_s: 0,
            timeout_udp_s: 0,
            slow_start_s: 0,
            udp_rehome: false,
            tcp_when_down: TcpWhenDown::default(),
            reset_on_removal: false,
            sloppy_tcp: None,
            mss_max: 0,
            client_address: ClientAddress::default(),
            toa_kind: TOA_KIND_DEFAULT,
        }
    }
}

/// True for a value of [`Switches::mss_max`].
fn is_mss_max(bytes: u32) -> bool {
    bytes == 0 || MSS_MAX.contains(&bytes)
}

/// How servers are told the client's address, besides as the source of its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAddress {
    /// They are not.
    #[default]
    None,
    /// By a header of the PROXY protocol, version 2, in front of the first byte of a TCP stream, or in front of the
    /// first datagram of a UDP flow.
    Proxy,
    /// By a TCP option on the client's segments from the one that ends the handshake until the server's next one.
    Toa,
}

impl ClientAddress {
    /// Every choice.
    pub const ALL: &[Self] = &[Self::None, Self::Proxy, Self::Toa];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Proxy => "proxy",
            Self::Toa => "toa",
        }
    }

    /// Whether it can be done for packets of this protocol.
    pub const fn suits(self, protocol: Protocol) -> bool {
        match self {
            Self::None => true,
            Self::Proxy => matches!(protocol, Protocol::Tcp | Protocol::Udp),
            Self::Toa => matches!(protocol, Protocol::Tcp),
        }
    }

    /// Whether it can be done for servers that packets reach in this way: the others have the VIP themselves and answer
    /// the client directly, by numbers of their own.
    pub const fn suits_method(self, method: Method) -> bool {
        matches!(self, Self::None) || matches!(method, Method::Nat | Method::FullNat)
    }
}

impl FromStr for ClientAddress {
    type Err = UnknownName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        by_name("choice of client_address", value, Self::ALL, Self::name)
    }
}

/// What becomes of TCP connections while their server is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TcpWhenDown {
    /// The client's packets are dropped and the connection waits for its server, as for a removed one.
    #[default]
    Drop,
    /// They go on.
    Keep,
    /// Both ends are sent a reset when they next speak.
    Reset,
}

impl TcpWhenDown {
    /// Every choice.
    pub const ALL: &[Self] = &[Self::Drop, Self::Keep, Self::Reset];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Keep => "keep",
            Self::Reset => "reset",
        }
    }
}

impl FromStr for TcpWhenDown {
    type Err = UnknownName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        by_name("choice of tcp_when_down", value, Self::ALL, Self::name)
    }
}

/// The value of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number of seconds.
    Seconds(u32),
    /// A number of bytes.
    Bytes(u32),
    /// A number of anything else.
    Number(u32),
    /// On or off.
    Bool(bool),
    /// One of a few words.
    Word(&'static str),
    /// As the director as a whole.
    Unset,
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Seconds(number) | Value::Bytes(number) | Value::Number(number) => write!(f, "{number}"),
            Value::Bool(on) => write!(f, "{on}"),
            Value::Word(word) => f.write_str(word),
            Value::Unset => f.write_str("unset"),
        }
    }
}

/// A switch that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// No switch has this name.
    #[error("there is no switch `{name}` of a service: use one of {}", Switches::NAMES.join(" "))]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The value is outside of the limits.
    #[error("switch {name} = {value}: give {expected}")]
    Value {
        /// The switch.
        name: &'static str,
        /// The value given.
        value: String,
        /// What it takes.
        expected: String,
    },
}

/// A switch and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its name in configuration, commands and listings.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// False if the service does what the kernel does.
    pub is_set: bool,
    /// What it does, and what the kernel does.
    pub help: &'static str,
}

impl Switches {
    /// Every name.
    pub const NAMES: [&str; 11] = [
        "timeout_tcp_s",
        "timeout_tcp_fin_s",
        "timeout_udp_s",
        "slow_start_s",
        "udp_rehome",
        "tcp_when_down",
        "reset_on_removal",
        "sloppy_tcp",
        "mss_max",
        "client_address",
        "toa_kind",
    ];

    /// Every switch, in the order of [`Self::NAMES`].
    pub fn all(&self) -> [Switch; 11] {
        let values = self.values();
        let defaults = Self::default().values();
        let help = [
            "Established TCP; the kernel has one timeout for all services",
            "TCP after the first FIN; the kernel has one timeout for all services",
            "UDP; the kernel has one timeout for all services",
            "Time over which a new server's share grows; the kernel gives it all of it, and lc and wlc flood it",
            "A flow whose server was removed goes to another one at once; the kernel drops it until it times out",
            "Connections of a server that is down; the kernel has no such state",
            "Ends of a connection whose server was removed are told; the kernel drops what the client sends",
            "A segment without a connection opens one; the kernel has one setting for all services",
            "Largest segment size in bytes that either side may ask for; the kernel's IPVS lowers none",
            "Servers are told the client's address by a PROXY header or a TCP option; the kernel changes no text",
            "Kind of the TCP option that toa adds; the kernel adds none",
        ];
        std::array::from_fn(|i| Switch {
            name: Self::NAMES[i],
            value: values[i],
            is_set: values[i] != defaults[i],
            help: help[i],
        })
    }

    fn values(&self) -> [Value; 11] {
        [
            Value::Seconds(self.timeout_tcp_s),
            Value::Seconds(self.timeout_tcp_fin_s),
            Value::Seconds(self.timeout_udp_s),
            Value::Seconds(self.slow_start_s),
            Value::Bool(self.udp_rehome),
            Value::Word(self.tcp_when_down.name()),
            Value::Bool(self.reset_on_removal),
            self.sloppy_tcp.map_or(Value::Unset, Value::Bool),
            Value::Bytes(self.mss_max),
            Value::Word(self.client_address.name()),
            Value::Number(self.toa_kind.into()),
        ]
    }

    /// Changes one switch by its name; a value is written as [`Value`] shows it, and on and off also as 1 and 0.
    ///
    /// # Errors
    /// There is none of this name, or the value is not one it takes.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SwitchError> {
        let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) else {
            return Err(SwitchError::Unknown { name: name.to_owned() });
        };
        let wrong = |expected: String| SwitchError::Value { name, value: value.to_owned(), expected };
        let seconds = |limits: RangeInclusive<u32>| {
            let within = value.parse().ok().filter(|seconds| limits.contains(seconds));
            within.ok_or_else(|| wrong(format!("{} to {} seconds", limits.start(), limits.end())))
        };
        let on = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong("true or false".to_owned())),
        };
        match name {
            "timeout_tcp_s" => self.timeout_tcp_s = seconds(TIMEOUT_S)?,
            "timeout_tcp_fin_s" => self.timeout_tcp_fin_s = seconds(TIMEOUT_S)?,
            "timeout_udp_s" => self.timeout_udp_s = seconds(TIMEOUT_S)?,
            "slow_start_s" => self.slow_start_s = seconds(SLOW_START_S)?,
            "udp_rehome" => self.udp_rehome = on()?,
            "tcp_when_down" => {
                self.tcp_when_down = value.parse().map_err(|_| wrong("drop, keep or reset".to_owned()))?;
            }
            "reset_on_removal" => self.reset_on_removal = on()?,
            "mss_max" => {
                let within = value.parse().ok().filter(|bytes| is_mss_max(*bytes));
                self.mss_max = within.ok_or_else(|| {
                    wrong(format!("{} to {} bytes, or 0 for any", MSS_MAX.start(), MSS_MAX.end()))
                })?;
            }
            "client_address" => {
                self.client_address = value.parse().map_err(|_| wrong("none, proxy or toa".to_owned()))?;
            }
            "toa_kind" => {
                let within = value.parse().ok().filter(|kind| TOA_KIND.contains(kind));
                self.toa_kind =
                    within.ok_or_else(|| wrong(format!("{} to {}", TOA_KIND.start(), TOA_KIND.end())))?;
            }
            _ => self.sloppy_tcp = if value == "unset" { None } else { Some(on()?) },
        }
        Ok(())
    }

    /// The first value outside of its limits: name, value, limits.
    pub fn beyond(&self) -> Option<(&'static str, u32, RangeInclusive<u32>)> {
        let seconds = [
            (self.timeout_tcp_s, TIMEOUT_S),
            (self.timeout_tcp_fin_s, TIMEOUT_S),
            (self.timeout_udp_s, TIMEOUT_S),
            (self.slow_start_s, SLOW_START_S),
        ];
        let kind = (u32::from(self.toa_kind), u32::from(*TOA_KIND.start())..=u32::from(*TOA_KIND.end()));
        let all = Self::NAMES.into_iter().zip(seconds).chain([("toa_kind", kind)]);
        let mut beyond = all.filter(|(_, (value, limits))| !limits.contains(value));
        let mss_max = ("mss_max", self.mss_max, MSS_MAX);
        let beyond = beyond.next().map(|(name, (value, limits))| (name, value, limits));
        beyond.or_else(|| (!is_mss_max(self.mss_max)).then_some(mss_max))
    }

    /// The names of those that mean nothing to a service of this protocol although they are set.
    pub fn meaningless(&self, protocol: Protocol) -> impl Iterator<Item = &'static str> {
        let fits = move |name: &str| {
            let owner = match name {
                // What of these cannot be is refused.
                "slow_start_s" | "client_address" => return true,
                "timeout_udp_s" | "udp_rehome" => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            owner == protocol
        };
        self.all().into_iter().filter(move |s| s.is_set && !fits(s.name)).map(|s| s.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_set_by_what_is_shown_of_it_and_is_off_by_default() {
        let mut all = Switches::default();
        assert!(all.all().iter().all(|s| !s.is_set));
        let values = ["7", "8", "9", "10", "true", "reset", "1", "false", "1380", "toa", "253"];
        for (name, value) in Switches::NAMES.into_iter().zip(values) {
            all.set(name, value).unwrap();
        }
        let expected = Switches {
            timeout_tcp_s: 7,
            timeout_tcp_fin_s: 8,
            timeout_udp_s: 9,
            slow_start_s: 10,
            udp_rehome: true,
            tcp_when_down: TcpWhenDown::Reset,
            reset_on_removal: true,
            sloppy_tcp: Some(false),
            mss_max: 1380,
            client_address: ClientAddress::Toa,
            toa_kind: 253,
        };
        assert_eq!(all, expected);
        let mut again = Switches::default();
        for switch in expected.all() {
            assert!(switch.is_set);
            again.set(switch.name, &switch.value.to_string()).unwrap();
        }
        assert_eq!(again, expected);
        again.set("sloppy_tcp", "unset").unwrap();
        assert_eq!(again.sloppy_tcp, None);
    }

    #[test]
    fn what_is_refused_says_what_it_takes_and_changes_nothing() {
        let mut all = Switches::default();
        let mut error = |name, value| all.set(name, value).unwrap_err().to_string();
        assert_eq!(error("slow_start_s", "86401"), "switch slow_start_s = 86401: give 0 to 86400 seconds");
        assert_eq!(error("udp_rehome", "yes"), "switch udp_rehome = yes: give true or false");
        assert_eq!(error("tcp_when_down", "hang"), "switch tcp_when_down = hang: give drop, keep or reset");
        for wrong in ["535", "65496", "large"] {
            let said = format!("switch mss_max = {wrong}: give 536 to 65495 bytes, or 0 for any");
            assert_eq!(error("mss_max", wrong), said);
        }
        assert_eq!(error("client_address", "pp"), "switch client_address = pp: give none, proxy or toa");
        assert_eq!(error("toa_kind", "8"), "switch toa_kind = 8: give 9 to 255");
        assert_eq!(error("toa_kind", "256"), "switch toa_kind = 256: give 9 to 255");
        assert!(error("slow_start", "1").contains("slow_start_s"));
        assert_eq!(all, Switches::default());
        assert_eq!(
            Switches { timeout_udp_s: 2_678_401, ..all }.beyond(),
            Some(("timeout_udp_s", 2_678_401, 0..=2_678_400))
        );
        assert_eq!(Switches { toa_kind: 8, ..all }.beyond(), Some(("toa_kind", 8, 9..=255)));
        assert_eq!(all.beyond(), None);
        for mss_max in [1, 535, 65_496] {
            assert_eq!(Switches { mss_max, ..all }.beyond(), Some(("mss_max", mss_max, 536..=65_495)));
        }
    }

    #[test]
    fn a_switch_of_another_protocol_means_nothing() {
        let all =
            Switches { udp_rehome: true, reset_on_removal: true, slow_start_s: 1, ..Switches::default() };
        assert_eq!(all.meaningless(Protocol::Tcp).collect::<Vec<_>>(), ["udp_rehome"]);
        assert_eq!(all.meaningless(Protocol::Udp).collect::<Vec<_>>(), ["reset_on_removal"]);
    }
}
