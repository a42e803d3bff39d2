//! What ipvsadm says: its version, its help, and the kernel's refusals in its words.

use crate::control::command::{Code, Command, Refusal};

/// `ipvsadm -v`.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// First line of a listing of all services. The size is that of the kernel's table of connections by default, kept
/// because scripts compare the line; how many connections xvs has room for, its own commands say.
pub(super) const BANNER: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

/// No daemons synchronise connections: what the kernel says of an operation it was built without. What it is really
/// called, `EOPNOTSUPP`, ipvsadm would print as `Operation not supported with IPv6`.
pub(super) const NO_DAEMONS: &str = "Protocol not available";

/// There is nothing to stop.
pub(super) const NO_DAEMON_RUNS: &str = "No daemon is running";

pub(super) const NO_SUCH_SERVICE: &str = "No such service";
pub(super) const SERVICE_EXISTS: &str = "Service already exists";
pub(super) const NO_SCHEDULER: &str = "Scheduler or persistence engine not found";

/// `ipvsadm -h`.
pub(super) fn help(program: &str) -> String {
    format!("{VERSION}{}", include_str!("help.txt").replace("{program}", program))
}

/// A refusal of this command.
pub(super) fn refusal<'a>(command: &Command, refusal: &'a Refusal) -> &'a str {
    let about_server = matches!(
        command,
        Command::AddServer { .. } | Command::EditServer { .. } | Command::DeleteServer { .. }
    );
    match refusal.code {
        Code::ServiceExists => SERVICE_EXISTS,
        Code::NoService if about_server => "Service not defined",
        Code::NoService => NO_SUCH_SERVICE,
        Code::ServerExists => "Destination already exists",
        Code::NoServer => "No such destination",
        Code::NoScheduler => NO_SCHEDULER,
        Code::OutOfRange => "Numerical result out of range",
        Code::Invalid => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        Code::Family => "Operation not supported with specified address family",
        Code::Full => "Memory allocation problem",
        Code::NotFound | Code::Host => &refusal.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_service_is_told_by_what_was_to_be_done() {
        let no_service = Refusal::new(Code::NoService, "there is no service");
        let service = "tcp:10.0.0.1:80".parse().unwrap();
        let delete = Command::DeleteService { service };
        assert_eq!(refusal(&delete, &no_service), "No such service");
        let delete = Command::DeleteServer { service, server: "10.1.0.1:80".parse().unwrap() };
        assert_eq!(refusal(&delete, &no_service), "Service not defined");
        let host = Refusal::new(Code::Host, "the host says no");
        assert_eq!(refusal(&delete, &host), "the host says no");
    }
}
