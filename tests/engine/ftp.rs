//! FTP through NAT: what both ends say arrives as it should, whatever the director does to it on the way.
//!
//! Each end keeps its own sequence numbers and knows nothing of the other's: what it receives must be the next byte,
//! and what is acknowledged must be what it sent.

use std::net::SocketAddr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const TCP: Protocol = Protocol::Tcp;
const VIP: &str = "10.0.0.100:21";
const C: &str = "192.0.2.7:40000";
const R: &str = "10.1.0.11:21";

/// A segment as one end made it or the other got it.
#[derive(Clone, Debug, PartialEq)]
struct Segment {
    from: String,
    to: String,
    flags: &'static str,
    seq: u32,
    ack: u32,
    sack: Option<(u32, u32)>,
    text: String,
}

impl Segment {
    fn frame(&self) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (self.from.parse().unwrap(), self.to.parse().unwrap());
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 only") };
        let mut b = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC)
            .ipv4(from.ip().octets(), to.ip().octets(), 64)
            .tcp(from.port(), to.port(), self.seq, 8192);
        for flag in self.flags.chars() {
            b = match flag {
                'S' => b.syn(),
                'A' => b.ack(self.ack),
                'F' => b.fin(),
                _ => b.psh(),
            };
        }
        if let Some((first, last)) = self.sack {
            let block = TcpOptionElement::SelectiveAcknowledgement((first, last), [None, None, None]);
            b = b.options(&[TcpOptionElement::Noop, block]).unwrap();
        }
        let mut frame = Vec::new();
        b.write(&mut frame, self.text.as_bytes()).unwrap();
        frame
    }

    fn read(frame: &[u8]) -> Self {
        let sent = read(frame, 0);
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("no TCP")
        };
        assert_eq!(usize::from(ip.header().total_len()) + 14, frame.len(), "the frame ends with its packet");
        let sack = tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::SelectiveAcknowledgement(first, _)) => Some(first),
            _ => None,
        });
        let flags = match (tcp.syn(), tcp.fin(), tcp.ack()) {
            (true, _, true) => "SA",
            (true, ..) => "S",
            (_, true, _) => "FA",
            _ => "A",
        };
        Self {
            from: sent.from,
            to: sent.to,
            flags,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            sack,
            text: String::from_utf8(tcp.payload().to_vec()).unwrap(),
        }
    }
}

/// One end of a connection, that knows its own numbers only.
#[derive(Clone, Debug)]
struct End {
    own: String,
    peer: String,
    /// The next byte it sends, and the next it waits for.
    next: u32,
    awaits: u32,
    /// What it is known to have got through.
    acknowledged: u32,
    heard: String,
}

impl End {
    fn new(own: &str, peer: &str, first: u32) -> Self {
        let (own, peer) = (own.to_owned(), peer.to_owned());
        Self { own, peer, next: first, awaits: 0, acknowledged: first, heard: String::new() }
    }

    fn say(&mut self, flags: &'static str, text: &str) -> Segment {
        let (seq, ack) = (self.next, self.awaits);
        let more = text.len() + usize::from(flags.contains(['S', 'F']));
        self.next = self.next.wrapping_add(u32::try_from(more).unwrap());
        let (from, to) = (self.own.clone(), self.peer.clone());
        Segment { from, to, flags, seq, ack, sack: None, text: text.to_owned() }
    }

    fn hear(&mut self, segment: &Segment) {
        assert_eq!((&segment.from, &segment.to), (&self.peer, &self.own));
        if segment.flags.contains('S') {
            self.awaits = segment.seq.wrapping_add(1);
        } else {
            assert_eq!(segment.seq, self.awaits, "the next byte of {}", self.own);
            self.awaits = self.awaits.wrapping_add(u32::try_from(segment.text.len()).unwrap());
            self.heard += &segment.text;
        }
        if segment.flags.contains('A') {
            let sent = self.next.wrapping_sub(self.acknowledged);
            assert!(segment.ack.wrapping_sub(self.acknowledged) <= sent, "{} never sent that", self.own);
            self.acknowledged = segment.ack;
        }
    }
}

/// A control connection through a director.
struct Talk {
    table: Table,
    client: End,
    server: End,
}

impl Talk {
    fn with(vip: &str, first: u32) -> Self {
        let pool = service(TCP, vip, Method::Nat, &[(R, 1)]);
        let mut table = Table::new(&[pool]);
        table.expire();
        let (client, server) = (End::new(C, vip, first), End::new(R, C, first.wrapping_add(1 << 31)));
        let mut talk = Self { table, client, server };
        let syn = talk.client.say("S", "");
        let got = talk.pass(&syn).unwrap();
        talk.server.hear(&got);
        let answer = talk.server.say("SA", "");
        let got = talk.pass(&answer).unwrap();
        talk.client.hear(&got);
        talk.client_says("");
        talk
    }

    fn new() -> Self {
        Self::with(VIP, 1000)
    }

    /// What becomes of a segment on its way.
    fn pass(&mut self, segment: &Segment) -> Result<Segment, DropReason> {
        self.pass_frame(segment.frame(), 0).map(|frame| Segment::read(&frame))
    }

    fn pass_frame(&mut self, frame: Vec<u8>, worker: usize) -> Result<Vec<u8>, DropReason> {
        let inside = frame[26..29] == [10, 1, 0];
        let port = if inside { INSIDE } else { OUTSIDE };
        match self.table.batch(worker, &[frame], port).remove(0) {
            (Verdict::Transmit(_), frame) => Ok(frame),
            (Verdict::Drop(reason) | Verdict::Answer(_, reason), _) => Err(reason),
            (Verdict::Keep, _) => panic!("no fragment"),
        }
    }

    fn client_says(&mut self, text: &str) {
        let segment = self.client.say("AP", text);
        let got = self.pass(&segment).unwrap();
        self.server.hear(&got);
    }

    fn server_says(&mut self, text: &str) {
        let segment = self.server.say("AP", text);
        let got = self.pass(&segment).unwrap();
        self.client.hear(&got);
    }

    /// Both have heard each other out.
    fn assert_agreed(&self) {
        assert_eq!(self.client.acknowledged, self.client.next, "all the client said has arrived");
        assert_eq!(self.server.acknowledged, self.server.next, "all the server said has arrived");
    }

    fn rows(&self) -> Vec<String> {
        self.table.rows(false)
    }
}

fn entering(address: &str) -> String {
    format!("227 Entering Passive Mode ({address}).\r\n")
}

/// Longer, shorter and equal texts, at numbers that wrap; after each the talk goes on.
#[test]
fn a_whole_conversation_arrives_whatever_the_addresses_lengths_are() {
    for vip in ["10.0.0.100:21", "1.1.1.1:21", "10.0.0.10:21", "203.0.113.200:21"] {
        for first in [1000, u32::MAX - 60, u32::MAX / 2 - 100] {
            let mut talk = Talk::with(vip, first);
            let shown = vip.split(':').next().unwrap().replace('.', ",");
            let mut expected = "220 ready\r\n".to_owned();
            talk.server_says("220 ready\r\n");
            for port in 1..40u16 {
                talk.client_says("PASV\r\n");
                let written = if port % 3 == 0 { "010,001,000,011" } else { "10,1,0,11" };
                talk.server_says(&entering(&format!("{written},{},7", port + 3)));
                expected += &entering(&format!("{shown},{},7", port + 3));
                talk.client_says("RETR file\r\n");
                talk.server_says("150 opening\r\n226 done\r\n");
                expected += "150 opening\r\n226 done\r\n";
                talk.client_says("");
                talk.assert_agreed();
            }
            assert_eq!(talk.client.heard, expected);
            assert_eq!(talk.server.heard, "PASV\r\nRETR file\r\n".repeat(39));
        }
    }
}

#[test]
fn a_passive_data_connection_reaches_the_server_that_announced_it() {
    let mut talk = Talk::new();
    talk.client_says("PASV\r\n");
    talk.server_says(&entering("10,1,0,11,4,1"));
    assert_eq!(talk.client.heard, entering("10,0,0,100,4,1"));
    let (port, data) = ("10.0.0.100:1025", "192.0.2.7:50001");
    assert_eq!(
        talk.rows(),
        [
            "TCP 02:00 LISTEN 192.0.2.7:0 10.0.0.100:1025 10.1.0.11:1025",
            "TCP 15:00 ESTABLISHED 192.0.2.7:40000 10.0.0.100:21 10.1.0.11:21"
        ]
    );
    assert_eq!(talk.table.counts(0), (1, 1));
    // Not for a segment that opens nothing, nor for another client.
    assert_eq!(talk.table.tcp(data, port, "A"), Err(DropReason::NoService));
    assert_eq!(talk.table.tcp("192.0.2.8:50001", port, "S"), Err(DropReason::NoService));
    // At another worker.
    let syn = talk.pass_frame(tcp(data, port, "S"), 1).unwrap();
    assert_eq!(read(&syn, 0).to, "10.1.0.11:1025");
    assert_eq!(talk.table.tcp("10.1.0.11:1025", data, "SA").unwrap().from, port);
    assert_eq!(talk.table.tcp(data, port, "A").unwrap().to, "10.1.0.11:1025");
    assert_eq!(talk.rows()[0], "TCP 15:00 ESTABLISHED 192.0.2.7:40000 10.0.0.100:21 10.1.0.11:21".to_owned());
    assert_eq!(talk.rows()[1], "TCP 15:00 ESTABLISHED 192.0.2.7:50001 10.0.0.100:1025 10.1.0.11:1025");
    assert_eq!(talk.table.counts(0), (2, 0));
    // Announced once, it is there once.
    assert_eq!(talk.table.tcp("192.0.2.7:50002", port, "S"), Err(DropReason::NoService));
    let traffic = talk.table.director.traffic(xvs::director::server::ServerId(0));
    assert_eq!(traffic.connections, 1, "as in the kernel only what was scheduled");
}

#[test]
fn an_extended_passive_answer_stays_as_it_is() {
    let mut talk = Talk::new();
    talk.client_says("EPSV\r\n");
    talk.server_says("229 Entering Extended Passive Mode (|||6446|)\r\n");
    assert_eq!(talk.client.heard, "229 Entering Extended Passive Mode (|||6446|)\r\n");
    assert_eq!(talk.table.tcp("192.0.2.7:50001", "10.0.0.100:6446", "S").unwrap().to, "10.1.0.11:6446");
}

#[test]
fn an_active_data_connection_comes_from_the_vip() {
    for (command, client) in [
        ("PORT 192,0,2,7,200,10\r\n", "192.0.2.7:51210"),
        ("EPRT |1|192.0.2.7|51211|\r\n", "192.0.2.7:51211"),
    ] {
        let mut talk = Talk::new();
        talk.client_says(command);
        assert_eq!(talk.server.heard, command, "the command itself needs no change");
        let (port_20, data) = ("10.1.0.11:20", "10.0.0.100:20");
        assert_eq!(talk.table.tcp(port_20, client, "S").unwrap().from, data);
        assert_eq!(talk.table.tcp(client, data, "SA").unwrap().to, port_20);
        assert_eq!(talk.table.tcp(port_20, client, "A").unwrap().from, data);
        let row = format!("TCP 15:00 ESTABLISHED {client} {data} {port_20}");
        assert!(talk.rows().contains(&row), "{:?}", talk.rows());
        assert_eq!(talk.table.counts(0), (2, 0));
        // Another server's are not: it is routed on as it is.
        assert_eq!(talk.table.tcp("10.1.0.11:20", "192.0.2.7:9", "S").unwrap().from, port_20);
    }
}

#[test]
fn what_is_sent_again_is_rewritten_again_to_the_same() {
    for vip in [VIP, "1.1.1.1:21"] {
        let mut talk = Talk::with(vip, 1000);
        talk.client_says("PASV\r\n");
        let lost = talk.server.say("AP", &entering("10,1,0,11,4,1"));
        let first = talk.pass(&lost).unwrap();
        let again = talk.pass(&lost).unwrap();
        assert_eq!(first, again);
        // Not acknowledged yet: what would shift the stream again waits.
        let early = talk.server.clone().say("AP", &entering("10,1,0,11,4,2"));
        assert_eq!(talk.pass(&early), Err(DropReason::HelperUnable));
        // The client acknowledges what was before: not a byte of the lost text.
        talk.client_says("");
        assert_eq!(talk.server.acknowledged, lost.seq);
        talk.client.hear(&again);
        talk.client_says("");
        talk.assert_agreed();
        // Late, of no use, and no harm: it is where it was.
        assert_eq!(talk.pass(&lost).unwrap(), first);
        talk.client_says("PASV\r\n");
        talk.server_says(&entering("10,1,0,11,4,2"));
        talk.client_says("");
        talk.assert_agreed();
        // One data connection for each announcement, however often it was made.
        assert_eq!(talk.rows().len(), 3);
    }
}

#[test]
fn selective_acknowledgements_are_of_the_servers_numbers() {
    let mut talk = Talk::new();
    talk.client_says("PASV\r\n");
    talk.server_says(&entering("10,1,0,11,4,1"));
    talk.client_says("LIST\r\n");
    let lost = talk.server.say("AP", "150 opening\r\n");
    talk.pass(&lost).unwrap();
    let arrives = talk.server.say("AP", "226 done\r\n");
    let got = talk.pass(&arrives).unwrap();
    let len = u32::try_from(got.text.len()).unwrap();
    let mut ack = talk.client.say("A", "");
    ack.sack = Some((got.seq, got.seq.wrapping_add(len)));
    let heard = talk.pass(&ack).unwrap();
    assert_eq!(heard.sack, Some((arrives.seq, arrives.seq.wrapping_add(len))));
    assert_eq!(heard.ack, lost.seq);
    assert_ne!(got.seq, arrives.seq, "the test is about something");
}

#[test]
fn a_damaged_segment_stays_damaged_and_nobody_believes_it() {
    let mut talk = Talk::new();
    talk.client_says("PASV\r\n");
    let mut frame = talk.server.clone().say("AP", &entering("10,1,0,11,4,1")).frame();
    let last = frame.len() - 3;
    frame[last] ^= 0x10;
    let out = talk.pass_frame(frame, 0).unwrap();
    let sliced = SlicedPacket::from_ethernet(&out).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(t))) = (&sliced.net, &sliced.transport) else {
        panic!()
    };
    assert_ne!(t.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap(), t.checksum());
    assert_eq!(talk.rows().len(), 1);
    let mut frame = talk.client.clone().say("AP", "PORT 192,0,2,7,200,10\r\n").frame();
    let last = frame.len() - 3;
    frame[last] ^= 1;
    talk.pass_frame(frame, 0).unwrap();
    assert_eq!(talk.rows().len(), 1);
}

#[test]
fn text_that_grows_over_the_mtu_waits() {
    let mut talk = Talk::new();
    talk.client_says("PASV\r\n");
    let offer = talk.server.say("AP", &entering("10,1,0,11,4,1"));
    let len = u16::try_from(offer.frame().len() - 14).unwrap();
    talk.table.hops.mtu = len;
    assert_eq!(talk.pass(&offer), Err(DropReason::HelperUnable));
    assert_eq!(talk.rows().len(), 1, "and announces nothing");
    talk.table.hops.mtu = len + 1;
    let got = talk.pass(&offer).unwrap();
    talk.client.hear(&got);
    assert_eq!(talk.rows().len(), 2);
}

#[test]
fn without_the_helper_nothing_is_read() {
    let mut talk = Talk::new();
    talk.table.tune("ftp_helper", 0);
    talk.client_says("PASV\r\n");
    talk.server_says(&entering("10,1,0,11,4,1"));
    assert_eq!(talk.client.heard, entering("10,0,0,100,4,1"), "who has one keeps it");
    let other = "192.0.2.8:40000";
    talk.table.visit(other, VIP);
    let mut frame = talk.server.clone().say("AP", &entering("10,1,0,11,4,1"));
    frame.to = other.to_owned();
    assert_eq!(talk.pass(&frame).unwrap().text, entering("10,1,0,11,4,1"));
}

#[test]
fn what_is_split_over_segments_is_left_alone() {
    let mut talk = Talk::new();
    for part in ["PA", "SV\r\n", "PORT 192,0,2,", "7,4,1\r\n"] {
        talk.client_says(part);
    }
    talk.client_says("PASV\r\n");
    for part in ["227 Entering Passive Mode (10,1,", "0,11,4,1).\r\n", "227 (10,1,0,11,4,1"] {
        talk.server_says(part);
    }
    talk.client_says("");
    talk.assert_agreed();
    assert_eq!(talk.client.heard, entering("10,1,0,11,4,1") + "227 (10,1,0,11,4,1");
    assert_eq!(talk.rows().len(), 1);
}

/// As in the kernel: the control connection stays as long as data connections do, a minute at a time.
#[test]
fn the_control_connection_lives_as_long_as_what_it_announced() {
    let mut talk = Talk::new();
    talk.client_says("PORT 192,0,2,7,200,10\r\n");
    for (from, to, flags) in [
        ("10.1.0.11:20", "192.0.2.7:51210", "S"),
        ("192.0.2.7:51210", "10.0.0.100:20", "SA"),
        ("10.1.0.11:20", "192.0.2.7:51210", "A"),
        (C, VIP, "FA"),
        (R, C, "FA"),
    ] {
        talk.table.tcp(from, to, flags).unwrap();
    }
    let control = || "TIME_WAIT 192.0.2.7:40000 10.0.0.100:21 10.1.0.11:21".to_owned();
    talk.table.pass(130);
    let listed = talk.rows().concat();
    assert!(listed.contains(&control()), "its 120 s are over: {listed}");
    talk.table.pass(760);
    assert_eq!(talk.rows().len(), 2);
    talk.table.pass(75);
    assert!(talk.rows().is_empty(), "the data connection has had its 900 s: {:?}", talk.rows());
    assert_eq!(talk.table.counts(0), (0, 0));
}

/// Its ports are used again while its data connections go on: they do, and nothing is left behind in the end.
#[test]
fn a_control_connection_that_is_replaced_leaves_its_data_connections_alone() {
    let mut talk = Talk::new();
    for port in [10, 11] {
        talk.client_says(&format!("PORT 192,0,2,7,200,{port}\r\n"));
    }
    talk.client_says("PASV\r\n");
    talk.server_says(&entering("10,1,0,11,4,1"));
    for (from, to, flags) in [
        ("10.1.0.11:20", "192.0.2.7:51210", "S"),
        ("192.0.2.7:51210", "10.0.0.100:20", "SA"),
        ("10.1.0.11:20", "192.0.2.7:51210", "A"),
        (C, VIP, "FA"),
        (R, C, "FA"),
        (C, VIP, "S"),
    ] {
        talk.table.tcp(from, to, flags).unwrap();
    }
    assert_eq!(talk.table.counts(0), (2, 2));
    assert_eq!(talk.table.tcp("192.0.2.7:50001", "10.0.0.100:1025", "S").unwrap().to, "10.1.0.11:1025");
    assert_eq!(talk.table.tcp("10.1.0.11:20", "192.0.2.7:51210", "A").unwrap().from, "10.0.0.100:20");
    // Many others come and go: none gets the place of the old one.
    for port in 1000..1900 {
        talk.table.tcp(&format!("192.0.2.9:{port}"), VIP, "S").unwrap();
    }
    talk.table.pass(125);
    talk.table.pass(1000);
    assert!(talk.rows().is_empty(), "{:?}", talk.rows());
    assert_eq!(talk.table.counts(0), (0, 0));
    assert_eq!(talk.table.tcp("192.0.2.7:50009", "10.0.0.100:1025", "S"), Err(DropReason::NoService));
}

#[test]
fn what_was_announced_waits_for_a_server_that_was_removed() {
    let mut talk = Talk::new();
    talk.client_says("PASV\r\n");
    talk.server_says(&entering("10,1,0,11,4,1"));
    talk.table.take_out("tcp:10.0.0.100:21", R);
    let (data, port) = ("192.0.2.7:50001", "10.0.0.100:1025");
    assert_eq!(talk.table.tcp(data, port, "S"), Err(DropReason::ServerGone));
    let server = xvs::director::service::Server::new(R.parse().unwrap(), Method::Nat);
    talk.table.change(|draft| draft.add_server("tcp:10.0.0.100:21".parse().unwrap(), server));
    assert_eq!(talk.table.tcp(data, port, "S").unwrap().to, "10.1.0.11:1025");
    talk.table.take_out("tcp:10.0.0.100:21", R);
    talk.table.tune("expire_nodest_conn", 1);
    talk.table.pass(70);
    assert!(talk.rows().is_empty(), "{:?}", talk.rows());
}

/// A client cannot fill the table with announcements alone.
#[test]
fn announcements_have_a_bound() {
    let pool = service(TCP, VIP, Method::Nat, &[(R, 1)]);
    let mut talk = Talk { table: Table::sized(&[pool], 100_000, 1), ..Talk::new() };
    for flags in ["S", "A"] {
        talk.table.tcp(C, VIP, flags).unwrap();
    }
    let mut refused = None;
    for port in 1..=20_000u16 {
        let [high, low] = port.to_be_bytes();
        let command =
            Segment { text: format!("PORT 192,0,2,7,{high},{low}\r\n"), ..talk.client.clone().say("AP", "") };
        if let Err(reason) = talk.pass(&command) {
            refused = refused.or(Some((port, reason)));
        }
    }
    assert_eq!(refused, Some((16_385, DropReason::HelperFull)));
    assert_eq!(talk.table.director.table.len(), 16_385);
}
