//! The switches of a service: what it does otherwise than the kernel.

use toml::Spanned;

use super::reader::Table;
use super::value::{boolean, choice, number, number_or_zero};
use crate::director::name::ServiceKey;
use crate::director::sched::Kind;
use crate::director::switches::{MSS_MAX, SLOW_START_S, Switches, TIMEOUT_S, TcpWhenDown};

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
    };
    warn(table, &switches, key, scheduler);
    Some(switches)
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
