//! One command line to what it asks for: the first option is the command.

use super::asked::{Asked, timeout};
use super::messages;
use super::names::Names;
use super::options::Tag;
use super::popt::Reader;
use super::request::Request;
use super::rules::Action;
use super::stop::Stop;
use crate::control::command::TimeoutsSpec;

/// The answer to what needs no director: help and version.
pub(super) fn without_director(program: &str, words: &[String]) -> Option<Stop> {
    match Reader::new(words).option().ok()??.tag {
        Tag::Help => Some(Stop::answer(messages::help(program))),
        Tag::Version => Some(Stop::answer(messages::VERSION.to_owned())),
        _ => None,
    }
}

/// Reads the words after the program's name.
///
/// # Errors
/// The process has to end: help was asked for, or the words make no sense.
pub(super) fn read(program: &str, words: &[String], names: &mut Names) -> Result<Request, Stop> {
    if let Some(stop) = without_director(program, words) {
        return Err(stop);
    }
    let mut reader = Reader::new(words);
    let first = reader.option().ok().flatten();
    let (first, action) = first
        .and_then(|first| Action::of(first.tag).map(|action| (first, action)))
        .ok_or_else(|| Stop::try_help(program))?;
    match (action, first.value) {
        (Action::StartDaemon | Action::StopDaemon, "master" | "backup") => {}
        (Action::StartDaemon, _) => return Err(Stop::wrong("illegal start-daemon parameter specified")),
        (Action::StopDaemon, _) => return Err(Stop::wrong("illegal start_daemon specified")),
        _ => {}
    }
    let mut asked = Asked::default();
    loop {
        match reader.option() {
            Ok(Some(found)) => asked.option(&found, reader.last_word(), names)?,
            Ok(None) => break,
            Err(why) => return Ok(Request::Unreadable(format!("{}: {why}", reader.last_word()))),
        }
    }
    if action == Action::SetTimeouts {
        asked.timeouts = Some(timeouts(&mut reader)?);
    }
    if let Some(argument) = reader.argument() {
        return Err(Stop::wrong(format!("unexpected argument {argument}")));
    }
    asked.request(action)
}

fn timeouts(reader: &mut Reader<'_>) -> Result<TimeoutsSpec, Stop> {
    let mut three = [""; 3];
    for value in &mut three {
        *value = reader.argument().ok_or_else(|| Stop::wrong("--set option requires 3 timeout values"))?;
    }
    let [tcp_s, tcp_fin_s, udp_s] = three.map(|value| timeout(value, 0));
    Ok(TimeoutsSpec { tcp_s: tcp_s?, tcp_fin_s: tcp_fin_s?, udp_s: udp_s? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ipvsadm::request::{Columns, Listing};
    use crate::control::command::{Command, Forward, ServerSpec};

    fn read_line(line: &str) -> Result<Request, Stop> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        read("ipvsadm", &words, &mut Names::fixed(&[], ""))
    }

    fn command(line: &str) -> Command {
        match read_line(line) {
            Ok(Request::Change(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_goes_back_to_its_default() {
        let Command::EditServer { server, .. } = command("-e -t 10.0.0.1:80 -r 10.1.0.1:8080 -w 5") else {
            panic!()
        };
        assert_eq!(
            server,
            ServerSpec {
                address: "10.1.0.1:80".parse().unwrap(),
                forward: Forward::Dr,
                tunnel: None,
                weight: 5,
                upper_threshold: 0,
                lower_threshold: 0,
                state: None,
                drain_timeout_s: None,
            }
        );
        let Command::EditService(service) = command("-E -t 10.0.0.1:80") else { panic!() };
        assert_eq!((service.scheduler.as_str(), service.persistence), ("wlc", None));
    }

    #[test]
    fn the_order_of_options_matters_where_it_does_for_ipvsadm() {
        let address = |line| match command(line) {
            Command::AddServer { server, .. } => server.address.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(address("-a -t 10.0.0.1:80 -r 10.1.0.1 -m"), "10.1.0.1:80");
        assert_eq!(address("-a -r 10.1.0.1 -t 10.0.0.1:80 -m"), "10.1.0.1:0");
        assert_eq!(address("-a -r 10.1.0.1 -t 10.0.0.1:80"), "10.1.0.1:80");
        let netmask = |line| match command(line) {
            Command::AddService(spec) => spec.persistence.unwrap().netmask,
            other => panic!("{other:?}"),
        };
        assert_eq!(netmask("-A -t [2001:db8::1]:80 -p -M 64").as_deref(), Some("64"));
        assert_eq!(netmask("-A -p -M 64 -t [2001:db8::1]:80"), None);
        assert_eq!(netmask("-A -p -M 255.255.0.0 -t 10.0.0.1:80").as_deref(), Some("255.255.0.0"));
    }

    #[test]
    fn zeroing_the_unspecified_address_zeroes_all() {
        assert_eq!(command("-Z"), Command::Zero { service: None });
        assert_eq!(command("-Z -t 0.0.0.0:0"), Command::Zero { service: None });
        let service = Some("tcp:0.0.0.0:80".parse().unwrap());
        assert_eq!(command("-Z -t 0.0.0.0:80"), Command::Zero { service });
    }

    #[test]
    fn the_first_columns_asked_for_in_order_of_precedence_are_listed() {
        let columns = |line: &str| match read_line(line) {
            Ok(Request::List(Listing::All, format)) => format.columns,
            other => panic!("{other:?}"),
        };
        assert_eq!(columns("-L --tun-info --persistent-conn --thresholds --rate --stats"), Columns::Stats);
        assert_eq!(columns("-L --tun-info --persistent-conn"), Columns::Persistent);
        assert_eq!(columns("-Ln"), Columns::Plain);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_end() {
        assert_eq!(read_line("-A -q"), Ok(Request::Unreadable("-q: unknown option".into())));
        assert_eq!(read_line("-q").unwrap_err().status, 255);
        assert_eq!(read_line("-L -C").unwrap_err().message, "invalid option `-C'\n");
    }
}
