//! Servers of IPv4 that are told who their clients of IPv6 are: nginx by PROXY headers, a server of datagrams, and the TCP
//! option as a server's kernel gets it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;

use tokio::net::{TcpStream, UdpSocket};

use crate::client::{self, connect, patiently};
use crate::client_address::{Nginx, PORT, observe};
use crate::lab::{Lab, alone, rip};
use crate::mtu6::{CLIENT, NAT_VIP};
use crate::nat64::{file, lab, service};
use crate::netns::succeed;
use crate::real_server::{Manners, Server};
use crate::xvs::{Xvs, config};

const WEB: SocketAddr = SocketAddr::new(IpAddr::V6(NAT_VIP), 80);
const DNS: SocketAddr = SocketAddr::new(IpAddr::V6(NAT_VIP), 53);

fn told(protocol: &str, vip: SocketAddr, how: &str, server: (&str, u16)) -> String {
    let text = service(protocol, vip, &[(rip(server.0), server.1).into()]);
    text.replacen("[[service.server]]", &format!("client_address = \"{how}\"\n[[service.server]]"), 1)
}

fn curl(lab: &Lab, words: &[&str]) -> Vec<u8> {
    succeed(lab.command("clients", "curl").args(["-fsS", "--max-time", "30"]).args(words)).stdout
}

#[test]
fn nginx_of_ipv4_knows_its_clients_of_ipv6() {
    let _alone = alone();
    let lab = lab();
    let _nginx = Nginx::start(&lab, "a");
    let file = file(&lab);
    let path = lab.dir().join("nginx-a/file");
    std::fs::write(&path, file.bytes()).expect("file written");
    let _xvs = Xvs::start(&lab, &config(&[told("tcp", WEB, "proxy", ("a", PORT))]));
    let page = format!("http://{WEB}/");
    // The second request comes on the same connection.
    let said = curl(&lab, &["-w", "%{local_port}\n", &page, &page]);
    let said = String::from_utf8(said).expect("UTF-8");
    let lines: Vec<_> = said.lines().collect();
    let [first, port, second, again] = lines[..] else { panic!("{said}") };
    assert_eq!((first, port), (second, again), "one header for one connection");
    assert_eq!(first, format!("{CLIENT}:{port} to {NAT_VIP}:80"));
    assert!(curl(&lab, &[&format!("{page}file")]) == file.bytes(), "the whole file, and nothing else");
    let upload = format!("@{}", path.display());
    let counted = curl(&lab, &["--data-binary", &upload, &format!("{page}echo")]);
    assert_eq!(String::from_utf8_lossy(&counted), format!("{}\n", file.bytes().len()));
}

/// Says whom a header in front of a datagram names.
struct Named;

impl Manners for Named {
    async fn converse(&self, _: TcpStream) -> io::Result<()> {
        Ok(())
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let rest = query.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x21\x22\0\x24");
        let Some((addresses, text)) = rest.and_then(|rest| rest.split_at_checked(36)) else {
            return b"known".to_vec();
        };
        let ip =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&addresses[at..at + 16]).expect("sixteen bytes"));
        let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
        let end = |ip, port| SocketAddr::new(IpAddr::V6(ip), port);
        let name = format!("{} to {} ", end(ip(0), port(32)), end(ip(16), port(34)));
        [name.as_bytes(), text].concat()
    }
}

#[test]
fn a_flows_first_datagram_says_who_it_is_from() {
    let lab = lab();
    let at = SocketAddr::from((rip("a"), PORT));
    let _server = Server::spawn(&lab.netns("a"), Named, vec![], vec![at]);
    let _xvs = Xvs::start(&lab, &config(&[told("udp", DNS, "proxy", ("a", PORT))]));
    client::run(&lab, async || {
        for port in 20_000..20_004u16 {
            let from = SocketAddr::from((CLIENT, port));
            let socket = UdpSocket::bind(from).await.expect("socket");
            let mut buffer = [0; 2048];
            for (question, answer) in [("odd", format!("{from} to {DNS} odd")), ("again", "known".to_owned())]
            {
                socket.send_to(question.as_bytes(), DNS).await.expect("sent");
                let (len, by) = patiently(socket.recv_from(&mut buffer)).await.expect("an answer");
                assert_eq!((by, String::from_utf8_lossy(&buffer[..len])), (DNS, answer.into()));
            }
        }
    });
}

#[test]
fn the_segment_that_ends_the_handshake_has_the_option_of_ipv6() {
    let _alone = alone();
    let lab = lab();
    let (finish, done) = mpsc::channel();
    let observer = observe(&lab, "a", 80, done);
    let _xvs = Xvs::start(&lab, &config(&[told("tcp", WEB, "toa", ("a", 80))]));
    let file = file(&lab);
    client::run(&lab, async || {
        drop(connect(CLIENT, WEB).await.expect("connected"));
        assert_eq!(file.both_ways(CLIENT, WEB).await.0, "a");
    });
    finish.send(()).expect("observed");
    let seen = observer.join().expect("observed");
    let has_option =
        |segment: &&Vec<u8>| segment[1..].starts_with(&[254, 20]) && segment[5..21] == CLIENT.octets();
    let is_syn = |segment: &&Vec<u8>| segment[0] & 2 != 0;
    // One of each connection, and perhaps again.
    assert!(seen.iter().filter(is_syn).count() >= 2);
    assert!(!seen.iter().filter(is_syn).any(|segment| has_option(&segment)), "SYNs are the client's");
    let next = seen.iter().find(|segment| !is_syn(segment)).expect("segments");
    assert!(has_option(&next), "the next has the option: {next:?}");
    let count = seen.iter().filter(has_option).count();
    assert!((2..12).contains(&count) && seen.len() > 100, "{count} of {}", seen.len());
    assert!(!has_option(&seen.last().expect("segments")), "the last is the client's own");
}
