//! The kinds of steps, each a line or a few that belong together.
//!
//! Must not know how often each comes up.

use super::service::{Kind, Service, server_options};
use super::{Conn, Story};

/// Where a client of the service goes.
fn tcp_target(story: &mut Story) -> Option<(usize, String)> {
    let at = story.service(|service| !service.tcp.is_empty())?;
    let to = story.services[at].tcp.clone();
    Some((at, story.pick(&to)))
}

/// A client that opens a connection and keeps it.
pub fn open(story: &mut Story) -> bool {
    let Some((at, to)) = tcp_target(story) else { return false };
    let client = format!("{}:{}", story.client(), story.port());
    open_from(story, client, to, story.services[at].number);
    true
}

fn open_from(story: &mut Story, client: String, to: String, service: usize) {
    story.named += 1;
    let id = format!("c{}", story.named);
    story.say(format!("open {id} {client} {to}"));
    story.conns.push(Conn { id, client, to, service });
}

/// The port of a connection that has ended, for the same destination again.
pub fn port_again(story: &mut Story) -> bool {
    let Some(at) = first_or_last(story) else { return false };
    if story.services.is_empty() {
        return false;
    }
    // Its server may be the one that has gone.
    if story.has_lost(story.ended[at].service) && !story.may_wait() {
        return false;
    }
    let old = story.ended.remove(at);
    open_from(story, old.client, old.to, old.service);
    true
}

fn first_or_last(story: &mut Story) -> Option<usize> {
    let last = story.ended.len().checked_sub(1)?;
    Some(if story.rng.bool() { last } else { 0 })
}

/// Connections in a row. From a port that is given only one: by the time of a second one the kernel may or may not
/// have ended the first, and its scheduler counts that.
pub fn tcp(story: &mut Story) -> bool {
    let Some((at, to)) = tcp_target(story) else { return false };
    let client = story.client();
    let line = if story.services[at].by_port || story.one_in(4) {
        format!("tcp 1 {client}:{} {to}", story.port())
    } else {
        format!("tcp {} {client} {to}", story.rng.u32(1..=5))
    };
    story.say(line);
    true
}

/// A connection from each of many clients.
pub fn clients(story: &mut Story) -> bool {
    let Some(at) = story.service(|service| !service.tcp.is_empty() && !service.by_port) else { return false };
    let to = story.services[at].tcp.clone();
    let (count, to) = (story.rng.u32(4..=16), story.pick(&to));
    story.say(format!("clients {count} {to}"));
    true
}

/// Datagrams, from one socket or one each.
pub fn udp(story: &mut Story) -> bool {
    let Some(at) = story.service(|service| !service.udp.is_empty()) else { return false };
    let service = story.services[at].number;
    let to = story.services[at].udp.clone();
    let (to, count, client) = (story.pick(&to), story.rng.u32(1..=4), story.client());
    let client = format!("{client}:{}", story.port());
    let verb = story.pick(&["udp", "udpeach"]);
    story.say(format!("{verb} {count} {client} {to}"));
    story.sockets.push(Conn { id: String::new(), client, to, service });
    true
}

/// A datagram from a port that has sent some before.
pub fn udp_again(story: &mut Story) -> bool {
    if story.sockets.is_empty() || story.services.is_empty() {
        return false;
    }
    let sockets = story.sockets.clone();
    let socket = story.pick(&sockets);
    if story.has_lost(socket.service) && !story.may_wait() {
        return false;
    }
    story.say(format!("udp 1 {} {}", socket.client, socket.to));
    true
}

fn one_open(story: &mut Story) -> Option<usize> {
    (!story.conns.is_empty()).then(|| story.rng.usize(0..story.conns.len()))
}

/// A line there and back.
pub fn send(story: &mut Story) -> bool {
    let Some(at) = one_open(story) else { return false };
    let id = story.conns[at].id.clone();
    story.say(format!("send {id}"));
    true
}

fn end(story: &mut Story, verb: &str) -> bool {
    let Some(at) = one_open(story) else { return false };
    let conn = story.conns.remove(at);
    story.say(format!("{verb} {}", conn.id));
    story.ended.push(conn);
    true
}

/// The client closes.
pub fn close(story: &mut Story) -> bool {
    end(story, "close")
}

/// The server closes first.
pub fn server_closes(story: &mut Story) -> bool {
    end(story, "sclose")
}

/// The client resets.
pub fn reset(story: &mut Story) -> bool {
    let ended = end(story, "reset");
    if ended {
        story.short_lived();
    }
    ended
}

/// A segment of a connection whose server or service has gone. If it is dropped the client would send it again.
pub fn forsaken(story: &mut Story) -> bool {
    if story.forsaken.is_empty() || story.services.is_empty() || !story.may_wait() {
        return false;
    }
    let at = story.rng.usize(0..story.forsaken.len());
    let conn = story.forsaken.remove(at);
    story.say(format!("send {}", conn.id));
    story.say(format!("reset {}", conn.id));
    story.short_lived();
    true
}

/// A service where there is none, with its first servers.
pub fn add_service(story: &mut Story) -> bool {
    const MOST: usize = 4;
    if story.services.len() == MOST {
        return false;
    }
    story.born += 1;
    let mut service = Service {
        number: story.born,
        name: String::new(),
        tcp: Vec::new(),
        udp: Vec::new(),
        kind: Kind::AnyPort,
        scheduler: "",
        by_port: false,
        one_packet: false,
        servers: Vec::new(),
        removed: Vec::new(),
    };
    let vip = format!("10.0.0.{}", story.rng.u8(100..=107));
    match story.rng.u8(0..10) {
        0..=4 => {
            let port = story.pick(&[80, 443, 8080, 8888]);
            service.name = format!("-t {vip}:{port}");
            service.tcp.push(format!("{vip}:{port}"));
            service.kind = Kind::Port(port);
        }
        5..=6 => {
            let port = story.pick(&[53, 443]);
            service.name = format!("-u {vip}:{port}");
            service.udp.push(format!("{vip}:{port}"));
            service.kind = Kind::Port(port);
        }
        7 => {
            let tcp = story.rng.bool();
            service.name = format!("-{} {vip}:0", if tcp { "t" } else { "u" });
            let targets = [80, 443, 8080].map(|port| format!("{vip}:{port}"));
            if tcp { &mut service.tcp } else { &mut service.udp }.extend(targets);
        }
        _ => {
            // A mark belongs to one service for good, and nobody else has its addresses.
            service.name = format!("-f {}", story.born);
            service.kind = Kind::Mark;
            let other = format!("10.0.0.{}", story.rng.u8(100..=107));
            service.tcp.extend([format!("{vip}:81"), format!("{other}:9999")]);
            service.udp.push(format!("{vip}:81"));
        }
    }
    let targets = |it: &Service| [it.tcp.clone(), it.udp.clone()].concat();
    if story.services.iter().any(|it| targets(it).iter().any(|to| targets(&service).contains(to))) {
        return false;
    }
    if service.kind == Kind::Mark {
        for (protocol, targets) in [("tcp", &service.tcp), ("udp", &service.udp)] {
            targets.iter().for_each(|to| story.say(format!("mark {} {protocol} {to}", story.born)));
        }
    }
    let options = service.options(&mut story.rng);
    story.say(format!("ipvsadm -A {} {options}", service.name));
    story.services.push(service);
    let servers = if story.one_in(10) { 0 } else { story.rng.u32(1..=4) };
    for _ in 0..servers {
        add_server_to(story, story.services.len() - 1);
    }
    true
}

fn add_server_to(story: &mut Story, at: usize) -> bool {
    let service = &mut story.services[at];
    let Some(server) = service.another(&mut story.rng) else { return false };
    let line = format!(
        "ipvsadm -a {} -r {} {}",
        service.name,
        server.name,
        server_options(server.nat, &mut story.rng)
    );
    service.removed.retain(|it| it.name != server.name);
    service.servers.push(server);
    story.say(line);
    true
}

/// A server, new or back again.
pub fn add_server(story: &mut Story) -> bool {
    story.service(|_| true).is_some_and(|at| add_server_to(story, at))
}

/// A weight, thresholds, a way of forwarding.
pub fn edit_server(story: &mut Story) -> bool {
    let Some(at) = story.service(|service| !service.servers.is_empty()) else { return false };
    let rng = &mut story.rng;
    let service = &mut story.services[at];
    let which = rng.usize(0..service.servers.len());
    let direct = service.may_be_direct(&service.servers[which].name);
    let server = &mut service.servers[which];
    let turns = direct && !service.one_packet && rng.u8(0..4) == 0;
    server.nat ^= turns;
    let line = format!("ipvsadm -e {} -r {} {}", service.name, server.name, server_options(server.nat, rng));
    let number = service.number;
    story.say(line);
    if turns {
        story.leave_alone(number);
    }
    true
}

/// A server is taken away; it may come back.
pub fn delete_server(story: &mut Story) -> bool {
    let Some(at) = story.service(|service| !service.servers.is_empty()) else { return false };
    let service = &mut story.services[at];
    let server = service.servers.remove(story.rng.usize(0..service.servers.len()));
    let (line, number) = (format!("ipvsadm -d {} -r {}", service.name, server.name), service.number);
    service.removed.push(server);
    story.say(line);
    story.forsake(number);
    true
}

/// Another scheduler, or the same again; other flags, another persistence.
pub fn edit_service(story: &mut Story) -> bool {
    let Some(at) = story.service(|_| true) else { return false };
    let mut service = story.services[at].clone();
    let options = service.options(&mut story.rng);
    story.say(format!("ipvsadm -E {} {options}", service.name));
    story.services[at] = service;
    true
}

/// A service is taken away.
pub fn delete_service(story: &mut Story) -> bool {
    let Some(at) = story.service(|_| true) else { return false };
    let service = story.services.remove(at);
    story.say("traffic");
    story.say(format!("ipvsadm -D {}", service.name));
    story.forsake(service.number);
    // Nobody is balanced there any more, and the clients see that.
    if let Some(to) = service.tcp.first() {
        let client = story.client();
        story.say(format!("tcp 1 {client} {to}"));
    }
    true
}

/// All of them are.
pub fn clear(story: &mut Story) -> bool {
    if story.services.is_empty() {
        return false;
    }
    story.say("traffic");
    story.say("ipvsadm -C");
    for service in std::mem::take(&mut story.services) {
        story.forsake(service.number);
    }
    true
}

/// All services go and come back, as a restarted script has it. Connections live on, thresholds do not.
pub fn save_and_restore(story: &mut Story) -> bool {
    story.say("traffic");
    for line in ["-Sn > /tmp/saved", "-C # restored below", "-R < /tmp/saved"] {
        story.say(format!("ipvsadm {line}"));
    }
    true
}

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
    let client = story.client();
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
    let lines = [
        format!("-A {name} -s rr"),
        format!("-a {name} -r {server} -m"),
        format!("-d {name} -r 10.1.0.99:80"),
        format!("-e {name} -r 10.1.0.99:80 -m -w 3"),
        "-D -t 10.0.0.99:80".to_owned(),
        "-E -f 77 -s rr".to_owned(),
        format!("-a {name} -r 10.1.0.99:80 -m -x 2 -y 3"),
        format!("-e {name} -r {server} -m -w 65536"),
        "-A -t 10.0.0.99:0 -s rr".to_owned(),
        "-A -t 10.0.0.99:80 -s rr -p 0".to_owned(),
        "-Z -t 10.0.0.99:80".to_owned(),
    ];
    let line = story.pick(&lines);
    story.say(format!("ipvsadm {line} # an error"));
    true
}
