//! What an interface's driver can do with XDP, as the kernel tells over the `netdev` family (Linux 6.3).

use netlink_packet_generic::{GenlFamily, GenlHeader};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NlasIterator, ParseableParametrized, parse_u32, parse_u64,
};

use super::error::NetError;
use super::genl;

/// `NETDEV_CMD_DEV_GET` of the kernel's `netdev` family (`Documentation/netlink/specs/netdev.yaml`).
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const FEATURES: u16 = 3;
const ZC_MAX_SEGMENTS: u16 = 4;

const BASIC: u64 = 1;
const REDIRECT: u64 = 2;
const NDO_XMIT: u64 = 4;
const ZERO_COPY: u64 = 8;
const RX_SG: u64 = 32;

/// What a driver can do with XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// A program can run in the driver and hand packets to AF_XDP sockets.
    pub native: bool,
    /// Packets can be redirected to it from a driver. Of a veth: its other end takes them, by a program of its own or by
    /// GRO.
    pub takes_redirected: bool,
    /// A program in the driver sees packets of several buffers too.
    pub several_buffers: bool,
    /// AF_XDP without a copy.
    pub zero_copy: bool,
    /// Most frames a packet may consist of without a copy; 0 or 1: only whole ones.
    pub zero_copy_segments: u32,
}

/// The XDP features of the interface with this number; `None` if the kernel is too old to tell. Needs
/// a tokio runtime.
///
/// # Errors
/// When the kernel refuses, for instance because there is no such interface.
pub async fn of(ifindex: u32) -> Result<Option<XdpFeatures>, NetError> {
    let question = Device { ifindex, ..Device::default() };
    let answer = genl::ask("tell the XDP features of an interface", question).await?;
    Ok(answer.map(|device| XdpFeatures {
        native: device.features & (BASIC | REDIRECT) == BASIC | REDIRECT,
        takes_redirected: device.features & NDO_XMIT != 0,
        several_buffers: device.features & RX_SG != 0,
        zero_copy: device.features & ZERO_COPY != 0,
        zero_copy_segments: device.segments,
    }))
}

/// The message, question and answer, as far as it is of interest.
#[derive(Debug, Default)]
struct Device {
    ifindex: u32,
    features: u64,
    segments: u32,
}

impl Device {
    fn question(&self) -> DefaultNla {
        DefaultNla::new(IFINDEX, self.ifindex.to_ne_bytes().to_vec())
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.question().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.question().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Device::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.ifindex = parse_u32(attribute.value())?,
                FEATURES => device.features = parse_u64(attribute.value())?,
                ZC_MAX_SEGMENTS => device.segments = parse_u32(attribute.value())?,
                _ => {}
            }
        }
        Ok(device)
    }
}
