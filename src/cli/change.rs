//! Commands for people that change a running director: `set`, `mark`, `drain`, `down`, `up`, `reload`, `save`.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use ipnet::IpNet;

use super::client::{EXIT_STATUS, Socket, print};
use crate::control::client::Client;
use crate::control::command::Command;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::service::{Protocol, ServerState};

/// All of them or none.
fn all(client: &mut Client, commands: &[Command]) -> anyhow::Result<()> {
    client.apply_all(commands)?.map_err(|(_, refusal)| refusal.into())
}

/// Sets tunables of a running director, or with --service switches of a service
///
/// Tunables have the names of the kernel's sysctls: `xvs show tunables` lists
/// them. Switches say what a service does otherwise than the kernel:
/// `xvs show switches --all` lists them. They are set until the end, or until a
/// reload sets them to what the configuration says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct SetArgs {
    #[command(flatten)]
    socket: Socket,
    /// Switches of this service are set, for example of tcp:192.0.2.10:80
    #[arg(long)]
    service: Option<ServiceKey>,
    /// What is set, and to what
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = assignment)]
    assignments: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The number that `value` is; a wrong one is a wrong command line.
fn number(value: &str) -> Result<u32, clap::Error> {
    value.parse().map_err(|_| {
        let why = format!("`{value}` is not a number from 0 to {}\n", u32::MAX);
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, why)
    })
}

/// `xvs set`.
///
/// # Errors
/// There is no such tunable or switch, or the value is outside of its limits: nothing is set then.
pub fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let set = |(name, value): &(String, String)| {
        let name = name.clone();
        Ok(match args.service {
            Some(service) => Command::SetSwitch { service, name, value: value.clone() },
            None => Command::SetTunable { name, value: number(value)? },
        })
    };
    let commands = args.assignments.iter().map(set).collect::<Result<Vec<_>, clap::Error>>();
    let commands = commands.unwrap_or_else(|error| error.exit());
    all(&mut args.socket.connect()?, &commands)?;
    Ok(ExitCode::SUCCESS)
}

/// Gives packets a firewall mark, for services made by `ipvsadm -A -f MARK`
///
/// No netfilter runs before a packet reaches xvs, so marks are given by these
/// rules instead: the first one that fits gives its mark.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct MarkArgs {
    #[command(flatten)]
    socket: Socket,
    #[command(subcommand)]
    action: MarkAction,
}

#[derive(Debug, Subcommand)]
enum MarkAction {
    /// Adds a rule after those there are
    Add(Rule),
    /// Deletes the rule with just these words
    Delete(Rule),
    /// Lists the rules in their order
    List,
}

#[derive(Debug, clap::Args)]
struct Rule {
    /// The mark, 1 to 4294967295
    #[arg(value_parser = mark_number)]
    mark: NonZeroU32,
    /// tcp, udp or sctp
    #[arg(long, short)]
    protocol: Protocol,
    /// Address or network that packets go to
    #[arg(long, value_name = "NET", value_parser = network)]
    to: IpNet,
    /// Port or ports that packets go to; without it all of them
    #[arg(long, value_name = "FIRST[-LAST]", value_parser = ports)]
    ports: Option<RangeInclusive<u16>>,
    /// Address or network that packets come from; without it anywhere
    #[arg(long, value_name = "NET", value_parser = network)]
    from: Option<IpNet>,
}

impl Rule {
    fn rule(&self) -> MarkRule {
        let ports = self.ports.clone().unwrap_or(0..=u16::MAX);
        MarkRule {
            mark: self.mark,
            protocol: self.protocol,
            destination: self.to,
            port_first: *ports.start(),
            port_last: *ports.end(),
            source: self.from,
        }
    }
}

fn mark_number(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("give a number from 1 to {}", u32::MAX))
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from).ok();
    let net = text.parse::<IpNet>().ok().or_else(address);
    net.map(|net| net.trunc()).ok_or_else(|| "give an address or a network such as 192.0.2.0/24".to_owned())
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("give a port such as 80, or a range such as 8000-8999".to_owned()),
    }
}

/// `xvs mark`.
///
/// # Errors
/// The rule is there already, or is not there.
pub fn mark(args: &MarkArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.socket.connect()?;
    match &args.action {
        MarkAction::Add(rule) => all(&mut client, &[Command::AddMark(rule.rule())])?,
        MarkAction::Delete(rule) => all(&mut client, &[Command::DeleteMark(rule.rule())])?,
        MarkAction::List => drop(print(&super::show::marks(&mut client)?)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a server out of service without cutting its connections
///
/// It takes no new connections from now on, as with weight 0; it is deleted once
/// its connections are gone, or when the deadline passes. With --keep it is not
/// deleted: when the deadline passes, it is down. `xvs up` ends the draining, and
/// so does giving it a weight again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct DrainArgs {
    #[command(flatten)]
    socket: Socket,
    /// The service, for example tcp:192.0.2.10:80
    service: ServiceKey,
    /// The server's address and port, for example 10.0.0.2:80
    #[arg(value_parser = server)]
    server: SocketAddr,
    /// Deletes it after so many seconds even if it has connections
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,
    /// Does not delete it; without --deadline it is drained for its drain_timeout_s
    #[arg(long)]
    keep: bool,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give its address and port, for example 10.0.0.2:80".to_owned())
}

/// `xvs drain`.
///
/// # Errors
/// There is no such service or server.
pub fn drain(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let &DrainArgs { service, server, deadline, keep, .. } = args;
    let mut client = args.socket.connect()?;
    if keep {
        let (state, drain_timeout_s) = (ServerState::Drain, deadline);
        all(&mut client, &[Command::SetServerState { service, server, state, drain_timeout_s }])?;
    } else {
        client.drain(&service, server, deadline)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a server count as failed: nothing goes to it any more
///
/// It takes no new connections, persistence does not lead to it, its UDP flows go
/// to other servers, and its TCP connections do as the service's tcp_when_down
/// says. Its weight stays. `xvs up` ends it; a new weight does not.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct DownArgs {
    #[command(flatten)]
    of: OneServer,
}

/// Has a server take connections again, by its weight
///
/// It ends `xvs drain` and `xvs down`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct UpArgs {
    #[command(flatten)]
    of: OneServer,
}

#[derive(Debug, clap::Args)]
struct OneServer {
    #[command(flatten)]
    socket: Socket,
    /// The service, for example tcp:192.0.2.10:80
    service: ServiceKey,
    /// The server's address and port, for example 10.0.0.2:80
    #[arg(value_parser = server)]
    server: SocketAddr,
}

impl OneServer {
    fn set(&self, state: ServerState) -> anyhow::Result<ExitCode> {
        let &Self { service, server, .. } = self;
        let command = Command::SetServerState { service, server, state, drain_timeout_s: None };
        all(&mut self.socket.connect()?, &[command])?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `xvs down`.
///
/// # Errors
/// There is no such service or server.
pub fn down(args: &DownArgs) -> anyhow::Result<ExitCode> {
    args.of.set(ServerState::Down)
}

/// `xvs up`.
///
/// # Errors
/// There is no such service or server.
pub fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    args.of.set(ServerState::Up)
}

/// Makes the running state that of the configuration file
///
/// Prints what changed, one line each. Services and servers that stay keep
/// their connections and counters. A file with an error changes nothing.
/// SIGHUP does the same, and the log says what changed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct ReloadArgs {
    #[command(flatten)]
    socket: Socket,
    /// Prints what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// `xvs reload`.
///
/// # Errors
/// The file has an error, or cannot be applied: nothing has changed then.
pub fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.socket.connect()?;
    let lines = client.reload(true)?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    print(if lines.is_empty() { "nothing changes\n" } else { &text })?;
    if !args.dry_run {
        client.reload(false)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the running state as a configuration file
///
/// Read back, it gives the same services, servers, marks, timeouts and
/// tunables, without the comments of the file that xvs was started with. A
/// server that is drained or down has its weight and its state in it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct SaveArgs {
    #[command(flatten)]
    socket: Socket,
    /// Where to; without it to standard output. A file is replaced whole.
    file: Option<PathBuf>,
}

/// `xvs save`.
///
/// # Errors
/// The file cannot be written.
pub fn save(args: &SaveArgs) -> anyhow::Result<ExitCode> {
    let text = args.socket.connect()?.save()?;
    match &args.file {
        None => drop(print(&text)?),
        Some(file) => replace(file, &text).with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the file and then into its place: a crash leaves the old one or the new one. A link stays a link,
/// and who may read the old one may read the new one. What is no file (a pipe, /dev/null) is written to as it is.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes());
    }
    let file = match fs::canonicalize(file) {
        Ok(file) => file,
        // A link to nowhere: where it leads is not known for sure.
        Err(error) if file.is_symlink() => return Err(error),
        Err(_) => file.to_owned(),
    };
    let mut beside = file.clone().into_os_string();
    beside.push(format!(".new-{}", std::process::id()));
    let written = (|| {
        let mut new = fs::File::create_new(&beside)?;
        if let Ok(old) = fs::metadata(&file) {
            new.set_permissions(old.permissions())?;
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, &file)
    })();
    if written.is_err() {
        let _there_is_none = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_no_file_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
        };
        replace(&pipe, "text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        let nowhere = dir.path().join("nowhere");
        std::os::unix::fs::symlink(dir.path().join("missing/file"), &nowhere).unwrap();
        assert!(replace(&nowhere, "text").is_err() && nowhere.is_symlink());
    }

    #[test]
    fn what_is_written_is_understood_or_explained() {
        let owned = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(assignment("expire_nodest_conn=1"), owned("expire_nodest_conn", "1"));
        assert!(assignment("x").unwrap_err().contains("NAME=VALUE"));
        assert!(number("-1").unwrap_err().to_string().contains("`-1`"));
        assert_eq!(ports("80"), Ok(80..=80));
        assert_eq!(ports("80-90"), Ok(80..=90));
        assert!(ports("90-80").is_err() && ports("80-70000").is_err() && ports("").is_err());
        assert_eq!(network("192.0.2.7/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert!(network("web").is_err());
        assert!(mark_number("0").unwrap_err().contains("from 1 to 4294967295"));
        assert!(server("10.0.0.2").unwrap_err().contains("port"));
    }

    #[test]
    fn a_saved_file_replaces_what_was_there_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("real.toml"), directory.path().join("link.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        replace(&directory.path().join("fresh"), "x").unwrap();
        assert!(replace(directory.path(), "x").is_err(), "a directory is no file");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3, "nothing is left beside them");
    }
}
