//! The player and its lab by themselves: what a scenario says when nothing, or only a pretender, is the director.

use std::net::SocketAddr;
use std::time::Duration;

use crate::director::Director;
use crate::lab::Lab;
use crate::player::{PATIENCE, play};
use crate::script::parse;
use crate::transcript::compare;

/// Says what it is told to.
struct Pretender(&'static str);

impl Director for Pretender {
    fn ipvsadm(&self) -> String {
        self.0.to_owned()
    }

    fn tune(&self, setting: &str) -> String {
        format!("echo {setting} cannot be set >&2; false")
    }

    fn tuned(&self, name: &str) -> String {
        format!("echo {name} is set to nothing")
    }

    fn helper(&self, name: &str) -> String {
        format!("echo there is no {name} >&2; false")
    }

    fn mark(&self, mark: u32, protocol: &str, to: SocketAddr) -> String {
        format!("echo {mark} {protocol} {to} cannot be marked >&2; false")
    }

    fn counters_lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// Plays in a new lab; the transcript must be the script with its answers.
fn check(director: &Pretender, expected: &str) {
    let commands: Vec<_> = expected.lines().filter_map(|line| line.strip_prefix("> ")).collect();
    let script = parse(&commands.join("\n")).expect("understood");
    let got = play(&mut Lab::new(&script), director, &script, PATIENCE);
    compare(expected, &got, &[]).unwrap_or_else(|difference| panic!("{difference}"));
}

/// Past the director: cl has an address beside the servers. They do not listen at port 7.
#[test]
fn clients_say_how_it_went() {
    check(
        &Pretender("false"),
        "\
> open a 10.1.0.254:5001 10.1.0.11:80
  r1
> send a
  r1
> send b
  not-open
> close a
  done
> send a
  not-open
> open a 10.1.0.254:5001 10.1.0.11:80
  r1
> close a
  done
> open a 10.1.0.254:5001 10.1.0.12:9999
  r2
> sclose a
  done
> open a 10.1.0.254 10.1.0.14:21
  r4
> reset a
  done
> reset a
  not-open
> tcp 3 10.1.0.254 10.1.0.13:8080
  r3 r3 r3
> tcp 2 10.1.0.254 10.1.0.13:7
  refused refused
> udp 2 10.1.0.254 10.1.0.13:53
  r3 r3
> udp 2 10.1.0.254 10.1.0.13:7
  refused refused
> udpeach 2 10.1.0.254:5002 10.1.0.12:443
  r2 r2
> tcp 1 10.1.0.250 10.1.0.13:80
  cannot-assign-requested-address
> tcp 1 10.1.0.254 10.1.0.99:80
  timeout
",
    );
}

/// By the way that NAT's replies take: every client's address, and the servers' default route over lb.
#[test]
fn every_client_reaches_a_server_and_a_server_leaves_and_returns() {
    let all = ["r2"; 64].join(" ");
    check(
        &Pretender("false"),
        &format!(
            "\
> clients 64 10.1.0.12:80
  {all}
> open a 10.0.1.1 10.1.0.12:80
  r2
> server r2 down
> send a
  closed
> tcp 1 10.0.1.1 10.1.0.12:80
  refused
> udp 1 10.0.1.1 10.1.0.12:53
  refused
> tcp 1 10.0.1.1 10.1.0.11:80
  r1
> server r2 up
> tcp 1 10.0.1.1 10.1.0.12:80
  r2
"
        ),
    );
}

/// The VIPs are the director's own addresses: with nobody to balance them, it refuses.
#[test]
fn without_a_director_the_vips_refuse() {
    check(
        &Pretender("false"),
        "> tcp 1 10.0.1.1 10.0.0.100:80\n  refused\n> udp 1 10.0.1.1 10.0.0.107:53\n  refused\n",
    );
}

#[test]
fn command_lines_are_a_shells_and_their_exit_status_shows() {
    check(
        &Pretender("say() { printf '%s\\n' \"$@\"; }; say"),
        "\
> ipvsadm b a
  b
  a
> ipvsadm one two three | wc -l
  3
> ipvsadm kept > /tmp/xvs-player-keeps
> ipvsadm $(cat < /tmp/xvs-player-keeps) too
  kept
  too
> ipvsadm gone; echo wrong >&2; exit 3
  gone
  wrong
  exit 3
> tune drop_entry=1
  failed: drop_entry=1 cannot be set
> mark 7 udp 10.0.0.100:53
  failed: 7 udp 10.0.0.100:53 cannot be marked
> list TCP\\ b --- UDP\\ a 'TCP a' '  -> z'
  -Ln
  --nosort
  TCP a
    -> z
  TCP b
  ---
  UDP a
> wait 0.01
",
    );
    assert!(!std::path::Path::new("/tmp/xvs-player-keeps").exists(), "what a scenario keeps is its lab's");
}
