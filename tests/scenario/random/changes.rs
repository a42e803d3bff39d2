//! Steps of operators: services and servers come, change and go.
//!
//! Must not know how often each comes up.

use super::service::{Kind, Service, server_options};
use super::story::{Story, at};

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
        is_v6: story.one_in(3),
        tcp: Vec::new(),
        udp: Vec::new(),
        kind: Kind::AnyPort,
        scheduler: "",
        by_port: false,
        one_packet: false,
        servers: Vec::new(),
        removed: Vec::new(),
    };
    let is_v6 = service.is_v6;
    let draw = |story: &mut Story| {
        let last = story.rng.u8(100..=107);
        if is_v6 { format!("fd00::{last}") } else { format!("10.0.0.{last}") }
    };
    let vip = draw(story);
    match story.rng.u8(0..10) {
        0..=4 => {
            let port = story.pick(&[80, 443, 8080, 8888]);
            service.name = format!("-t {}", at(&vip, port));
            service.tcp.push(at(&vip, port));
            service.kind = Kind::Port(port);
        }
        5..=6 => {
            let port = story.pick(&[53, 443]);
            service.name = format!("-u {}", at(&vip, port));
            service.udp.push(at(&vip, port));
            service.kind = Kind::Port(port);
        }
        7 => {
            let tcp = story.rng.bool();
            service.name = format!("-{} {}", if tcp { "t" } else { "u" }, at(&vip, 0));
            let targets = [80, 443, 8080].map(|port| at(&vip, port));
            if tcp { &mut service.tcp } else { &mut service.udp }.extend(targets);
        }
        _ => {
            // A mark belongs to one service for good, and nobody else has its addresses.
            service.name = format!("-f {}{}", story.born, if is_v6 { " -6" } else { "" });
            service.kind = Kind::Mark;
            let other = draw(story);
            service.tcp.extend([at(&vip, 81), at(&other, 9999)]);
            service.udp.push(at(&vip, 81));
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
        let client = story.client_of(to);
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
