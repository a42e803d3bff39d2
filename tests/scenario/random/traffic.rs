//! Steps of clients: connections and datagrams, from the first packet to the last.
//!
//! Must not know how often each comes up.

use super::story::{Conn, Story};

/// Where a client of the service goes.
pub fn tcp_target(story: &mut Story) -> Option<(usize, String)> {
    let at = story.service(|service| !service.tcp.is_empty())?;
    let to = story.services[at].tcp.clone();
    Some((at, story.pick(&to)))
}

/// A client that opens a connection and keeps it.
pub fn open(story: &mut Story) -> bool {
    let Some((at, to)) = tcp_target(story) else { return false };
    let client = story.client_port_of(&to);
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
    let line = if story.services[at].by_port || story.one_in(4) {
        format!("tcp 1 {} {to}", story.client_port_of(&to))
    } else {
        let client = story.client_of(&to);
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
    let (to, count) = (story.pick(&to), story.rng.u32(1..=4));
    let client = story.client_port_of(&to);
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
