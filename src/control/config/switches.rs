//! The switches of a service: what it does otherwise than the kernel.

use toml::Spanned;

use super::reader::Table;
use super::value::{boolean, choice, number, number_or_zero};
use crate::director::name::ServiceKey;
use crate::director::sched::Kind;
use crate::director::service::Protocol;
use crate::director::switches::{
    ClientAddress, MSS_MAX, SLOW_START_S, Switches, TIMEOUT_S, TOA_KIND, TOA_KIND_DEFAULT, TcpWhenDown,
};

/// Reads every switch of a service with this key and scheduler, of which `None` is wrong.
pub(super) fn switches(
    table: &mut Table<'_, '_>,
    key: Option<ServiceKey>,
    scheduler: Option<Kind>,
) -> Option<Switches> {
    let seconds = || number(TIMEOUT_S, " seconds");
    let timeout_tcp_s = table.or("timeout_tcp_s", 0, seconds());
    let timeout_tcp_fin_s = table.or("timeout_tcp_fin_s", 0, seconds());
    let timeout_udp_s = table.or("timeout_udp_s", 0, seconds());
    let slow_start_s = table.or("slow_start_s", 0, number(SLOW_START_S, " seconds"));
    let udp_rehome = table.or("udp_rehome", false, boolean);
    let when_down = choice(TcpWhenDown::ALL, TcpWhenDown::name, &[]);
    let tcp_when_down = table.or("tcp_when_down", TcpWhenDown::default(), when_down);
    let reset_on_removal = table.or("reset_on_removal", false, boolean);
    let sloppy_tcp = table.optional("sloppy_tcp", boolean);
    let mss_max = table.or("mss_max", 0, number_or_zero(MSS_MAX, " bytes"));
    let client_address = table.or(
        "client_address",
        ClientAddress::default(),
        choice(ClientAddress::ALL, ClientAddress::name, &[]),
    );
    let kinds = u32::from(*TOA_KIND.start())..=u32::from(*TOA_KIND.end());
    let toa_kind = table.or("toa_kind", u32::from(TOA_KIND_DEFAULT), number(kinds, ""));
    let switches = Switches {
        timeout_tcp_s: timeout_tcp_s?,
        timeout_tcp_fin_s: timeout_tcp_fin_s?,
        timeout_udp_s: timeout_udp_s?,
        slow_start_s: slow_start_s?,
        udp_rehome: udp_rehome?,
        tcp_when_down: tcp_when_down?,
        reset_on_removal: reset_on_removal?,
        sloppy_tcp: sloppy_tcp?.map(Spanned::into_inner),
        mss_max: mss_max?,
        client_address: client_address?,
        toa_kind: u8::try_from(toa_kind?).ok()?,
    };
    refuse(table, switches.client_address, key);
    warn(table, &switches, key, scheduler);
    Some(switches)
}

/// Refuses a way to tell clients' addresses that does not suit what the service balances.
fn refuse(table: &mut Table<'_, '_>, how: ClientAddress, key: Option<ServiceKey>) {
    let Some(key @ ServiceKey::Address { protocol, .. }) = key else { return };
    let span = table.ask("client_address").map(|field| field.span);
    if !how.suits(protocol) {
        let message = format!(
            "client_address = \"{}\" cannot be had with protocol = \"{}\"",
            how.name(),
            protocol.name()
        );
        let cure = match protocol {
            Protocol::Udp => "UDP has no options: use \"proxy\", or leave it out",
            _ => "leave it out: \"proxy\" is for TCP and UDP, \"toa\" for TCP",
        };
        table.problems.error(span, message).cure(cure);
    } else if how != ClientAddress::None && key.is_ftp() {
        table
            .problems
            .error(
                span,
                format!(
                    "client_address = \"{}\" cannot be had with FTP, whose text is changed already",
                    how.name()
                ),
            )
            .cure("leave it out");
    }
}

/// Warns of what has no effect.
fn warn(table: &mut Table<'_, '_>, switches: &Switches, key: Option<ServiceKey>, scheduler: Option<Kind>) {
    if let Some(ServiceKey::Address { protocol, .. }) = key {
        for name in switches.meaningless(protocol) {
            let span = table.ask(name).map(|field| field.span);
            let message = format!("{name} has no effect with protocol = \"{}\"", protocol.name());
            table.problems.warning(span, message).cure("leave it out");
        }
    }
    if switches.toa_kind != TOA_KIND_DEFAULT && switches.client_address != ClientAddress::Toa {
        let span = table.ask("toa_kind").map(|field| field.span);
        table
            .problems
            .warning(span, "toa_kind has no effect without client_address = \"toa\"")
            .cure("leave it out, or add client_address = \"toa\"");
    }
    if let Some(scheduler) = scheduler.filter(|s| switches.slow_start_s > 0 && !s.starts_slowly()) {
        let span = table.ask("slow_start_s").map(|field| field.span);
        let able: Vec<_> =
            Kind::ALL.iter().filter(|kind| kind.starts_slowly()).map(|kind| kind.name()).collect();
        let message = format!("slow_start_s has no effect with scheduler = \"{}\"", scheduler.name());
        table
            .problems
            .warning(span, message)
            .cure(format!("leave it out, or use one of: {}", able.join(", ")));
    }
}
