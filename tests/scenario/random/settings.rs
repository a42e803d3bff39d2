//! Steps beside services and their traffic: settings, counters, time, machines, mistakes.
//!
//! Must not know how often each comes up.

use super::story::Story;
use super::traffic::tcp_target;

/// Counters start over.
pub fn zero(story: &mut Story) -> bool {
    let Some(at) = story.service(|_| true) else { return false };
    let one = story.services[at].name.clone();
    story.say("traffic");
    let line = if story.rng.bool() { "ipvsadm -Z".to_owned() } else { format!("ipvsadm -Z {one}") };
    story.say(line);
    true
}

/// A setting of the director.
pub fn tune(story: &mut Story) -> bool {
    const SETTINGS: [(&str, u32); 4] = [
        ("expire_nodest_conn", 1),
        ("expire_quiescent_template", 1),
        ("conn_reuse_mode", 3),
        ("sloppy_tcp", 1),
    ];
    let (name, most) = story.pick(&SETTINGS);
    let value = story.rng.u32(0..=most);
    story.say(format!("tune {name}={value}"));
    true
}

/// How long connections live. Always multiples of what expiries are rounded to.
pub fn timeouts(story: &mut Story) -> bool {
    let mut timeout = |least| if story.rng.bool() { 0 } else { story.rng.u32(least..=30) * 30 };
    let line = format!("ipvsadm --set {} {} {}", timeout(10), timeout(4), timeout(4));
    story.say(line);
    story.say("ipvsadm -L --timeout");
    true
}

/// Connections end because nobody uses them.
pub fn time_passes(story: &mut Story) -> bool {
    if story.conns.is_empty() || story.stop_ms.is_some() {
        return false;
    }
    story.say("ipvsadm --set 1 1 1");
    let used = story.rng.usize(1..=story.conns.len().min(3));
    for conn in story.conns.drain(..used).collect::<Vec<_>>() {
        story.say(format!("send {}", conn.id));
        story.forsaken.push(conn);
    }
    story.wait("3.5", 3_500);
    story.say("list");
    story.say("ipvsadm --set 900 120 300");
    true
}

/// A real server's program stops, which its clients see, and starts again.
pub fn server_stops(story: &mut Story) -> bool {
    let Some((at, to)) = tcp_target(story) else { return false };
    if story.services[at].by_port {
        return false;
    }
    let name = story.pick(&["r1", "r2", "r3", "r4"]);
    let client = story.client_of(&to);
    story.say(format!("server {name} down"));
    story.wait("0.2", 200);
    story.say("conns");
    story.say(format!("tcp 4 {client} {to}"));
    story.say(format!("server {name} up"));
    // Nobody knows whose they were.
    let all: Vec<_> = story.conns.drain(..).collect();
    story.forsaken.extend(all);
    story.short_lived();
    true
}

/// What is refused, and changes nothing.
pub fn mistake(story: &mut Story) -> bool {
    let Some(at) = story.service(|service| !service.servers.is_empty()) else { return false };
    let service = &story.services[at];
    let (name, server) = (&service.name, &service.servers[0].name);
    let (nobody, other) =
        if service.is_v6 { ("[fd00:1::99]:80", "10.1.0.99:80") } else { ("10.1.0.99:80", "[fd00:1::99]:80") };
    let lines = [
        format!("-A {name} -s rr"),
        format!("-a {name} -r {server} -m"),
        format!("-d {name} -r {nobody}"),
        format!("-e {name} -r {nobody} -m -w 3"),
        format!("-a {name} -r {other} -m"),
        "-D -t 10.0.0.99:80".to_owned(),
        "-D -t [fd00::99]:80".to_owned(),
        "-E -f 77 -6 -s rr".to_owned(),
        "-E -f 77 -s rr".to_owned(),
        format!("-a {name} -r {nobody} -m -x 2 -y 3"),
        format!("-e {name} -r {server} -m -w 65536"),
        "-A -t 10.0.0.99:0 -s rr".to_owned(),
        "-A -t 10.0.0.99:80 -s rr -p 0".to_owned(),
        "-A -t [fd00::99]:80 -s rr -p 60 -M 129".to_owned(),
        "-Z -t 10.0.0.99:80".to_owned(),
    ];
    let line = story.pick(&lines);
    story.say(format!("ipvsadm {line} # an error"));
    true
}
