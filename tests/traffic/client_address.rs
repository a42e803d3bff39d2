//! Servers that are told who their clients are: nginx with `proxy_protocol`, a server that speaks first, datagrams, and
//! the TCP option as a server's kernel gets it.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

use crate::client::{self, connect, many, patiently, within};
use crate::file::File;
use crate::lab::{self, FAR_CLIENTS, Lab, NAT_VIP, SERVERS, alone, rip};
use crate::netns::{self, succeed};
use crate::real_server::{Manners, Server};
use crate::wire::Wire;
use crate::xvs::{Xvs, abc, config, say, service, stats, until};

pub const PORT: u16 = 8090;
const VIP: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);
/// 4 MiB.
const FILE_LEN: usize = 4 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);

fn told(protocol: &str, port: u16, how: &str, servers: &[(SocketAddrV4, u16)]) -> String {
    let text = service((protocol, SocketAddrV4::new(NAT_VIP, port)), ("rr", "nat"), servers);
    text.replacen("[[service.server]]", &format!("client_address = \"{how}\"\n[[service.server]]"), 1)
}

/// Ends when dropped.
pub struct Nginx(Child);

impl Nginx {
    pub fn start(lab: &Lab, who: &str) -> Self {
        let dir = lab.dir().join(format!("nginx-{who}"));
        std::fs::create_dir(&dir).expect("a directory");
        let shown = dir.display();
        let says = "$proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr:$proxy_protocol_server_port\\n";
        let text = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
             events {{ worker_connections 512; }}\nhttp {{\naccess_log off; client_max_body_size 64m;\n\
             client_body_temp_path {shown}; proxy_temp_path {shown}; fastcgi_temp_path {shown};\n\
             uwsgi_temp_path {shown}; scgi_temp_path {shown};\n\
             server {{\nlisten {PORT} proxy_protocol;\nroot {shown};\nlocation = / {{ return 200 \"{says}\"; }}\n\
             location /echo {{ proxy_pass http://127.0.0.1:8091/; }}\n}}\n\
             server {{ listen 8091; location / {{ return 200 \"$content_length\\n\"; }} }}\n}}\n"
        );
        std::fs::write(dir.join("nginx.conf"), text).expect("configuration written");
        let mut command = lab.command(who, "nginx");
        command
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"));
        let child = command.stdin(Stdio::null()).spawn().expect("nginx is installed: scripts/setup.sh");
        until("nginx listens", || {
            let listening = succeed(lab.command(who, "ss").args(["-Hltn"])).stdout;
            String::from_utf8_lossy(&listening).contains(&format!(":{PORT} "))
        });
        Self(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What curl, from a client address, gets.
fn curl(lab: &Lab, from: Ipv4Addr, words: &[&str]) -> Vec<u8> {
    let mut command: Command = lab.command("clients", "curl");
    command.args(["-fsS", "--max-time", "30", "--interface", &from.to_string()]).args(words);
    succeed(&mut command).stdout
}

#[test]
fn nginx_knows_its_clients_by_their_headers() {
    let _alone = alone();
    let lab = Lab::new();
    let _nginx = Nginx::start(&lab, "a");
    let file: Vec<u8> = (0..FILE_LEN).map(|_| fastrand::u8(..)).collect();
    std::fs::write(lab.dir().join("nginx-a/file"), &file).expect("file written");
    let servers = [(SocketAddrV4::new(rip("a"), PORT), 1)];
    let xvs = Xvs::start(&lab, &config(&[told("tcp", 80, "proxy", &servers)]));
    let services = say(&lab, &["show", "services"]);
    assert!(services.contains("CLIENT IP") && services.contains("proxy"), "{services}");
    let page = format!("http://{VIP}/");
    for from in [lab::client(0), lab::client(5), FAR_CLIENTS[2]] {
        // The second request comes on the same connection.
        let words = ["-w", "%{local_port}\n", page.as_str(), page.as_str()];
        let said = String::from_utf8(curl(&lab, from, &words)).expect("UTF-8");
        let lines: Vec<_> = said.lines().collect();
        let [first, port, second, again] = lines[..] else { panic!("{said}") };
        assert_eq!((first, port), (second, again), "one header for one connection");
        assert_eq!(first, format!("{from}:{port} to {VIP}"));
    }
    let got = curl(&lab, lab::client(1), &[&format!("http://{VIP}/file")]);
    assert!(got == file, "the whole file, and nothing else");
    let upload = lab.dir().join("nginx-a/file");
    let words = ["--data-binary", &format!("@{}", upload.display()), &format!("http://{VIP}/echo")];
    assert_eq!(curl(&lab, lab::client(2), &words), format!("{FILE_LEN}\n").as_bytes());
    // nginx closes a connection without a header: what comes by another way has none.
    let direct = client::run(&lab, async || {
        let mut wire = connect(lab::client(3), SocketAddrV4::new(rip("a"), PORT)).await?;
        patiently(wire.ask("GET / HTTP/1.0\r\n\r")).await
    });
    assert!(direct.is_err(), "{direct:?}");
    let [conns, ..] = stats(&xvs.stop(), "TCP", VIP);
    assert_eq!(conns, 5);
}

/// Wants a header, and greets whom it names before it hears a word.
struct Greeter;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31 + n / 256) % 253).to_le_bytes()[0]).collect()
}

/// What a header says, if there is one.
fn named(bytes: &[u8], transport: u8) -> Option<String> {
    let rest = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x21")?;
    let [kind, 0, 12, a, b, c, d, e, f, g, h, p, q, r, s, ..] = rest else { return None };
    let port = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
    (*kind == 0x10 | transport)
        .then(|| format!("{a}.{b}.{c}.{d}:{} to {e}.{f}.{g}.{h}:{}", port(p, q), port(r, s)))
}

impl Manners for Greeter {
    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream);
        let name = named(&wire.bytes(28).await?, 1).ok_or_else(|| io::Error::other("no header"))?;
        wire.write(format!("hello {name}\n").as_bytes()).await?;
        while let Some(line) = wire.line().await? {
            match line.as_str() {
                "take" => {
                    let is_whole = wire.bytes(FILE_LEN).await? == pattern(FILE_LEN);
                    wire.write(format!("{is_whole}\n").as_bytes()).await?;
                }
                _ => wire.write(&pattern(FILE_LEN)).await?,
            }
        }
        wire.write(b"bye\n").await
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        named(query, 2).map_or_else(|| b"known".to_vec(), |name| [name.as_bytes(), &query[28..]].concat())
    }
}

fn greeters(lab: &Lab) -> Vec<Server> {
    let at = |rip: Ipv4Addr| vec![SocketAddr::from((rip, PORT))];
    SERVERS.iter().map(|(who, rip)| Server::spawn(&lab.netns(who), Greeter, at(*rip), at(*rip))).collect()
}

#[test]
fn a_server_that_speaks_first_greets_its_client_by_address() {
    let _alone = alone();
    let lab = Lab::new();
    let _servers = greeters(&lab);
    let _xvs = Xvs::start(&lab, &config(&[told("tcp", 80, "proxy", &abc(PORT, [1; 3]))]));
    client::run(&lab, async || {
        // The client says nothing: all it hears it owes to the segment that ended the handshake.
        let greetings = many(200, 20, async |index| {
            let from = lab::client(index);
            let mut wire = connect(from, VIP).await?;
            let line = patiently(wire.line()).await?.unwrap_or_default();
            let is_right =
                line.starts_with(&format!("hello {from}:")) && line.ends_with(&format!(" to {VIP}"));
            if is_right { Ok(()) } else { Err(io::Error::other(line)) }
        });
        for greeting in greetings.await {
            greeting.expect("greeted");
        }
        for index in 0..3 {
            let mut wire = connect(lab::client(index), VIP).await.expect("connected");
            patiently(wire.line()).await.expect("greeted");
            let both = async {
                wire.write(b"take\n").await?;
                wire.write(&pattern(FILE_LEN)).await?;
                let taken = wire.line().await?;
                wire.write(b"send\n").await?;
                Ok((taken, wire.bytes(FILE_LEN).await?))
            };
            let (taken, got) = within(TRANSFER_LIMIT, both).await.expect("both ways");
            assert_eq!(taken.as_deref(), Some("true"));
            assert!(got == pattern(FILE_LEN));
        }
        // Text at once, without waiting for the greeting.
        let mut wire = connect(lab::client(7), VIP).await.expect("connected");
        wire.write(b"take\n").await.expect("asked");
        wire.write(&pattern(FILE_LEN)).await.expect("sent");
        assert!(patiently(wire.line()).await.expect("greeted").is_some_and(|line| line.starts_with("hello")));
        assert_eq!(within(TRANSFER_LIMIT, wire.line()).await.expect("answered").as_deref(), Some("true"));
    });
}

#[test]
fn a_flows_first_datagram_says_who_it_is_from() {
    let lab = Lab::new();
    let _servers = greeters(&lab);
    let vip = SocketAddrV4::new(NAT_VIP, 53);
    let _xvs = Xvs::start(&lab, &config(&[told("udp", 53, "proxy", &abc(PORT, [1; 3]))]));
    client::run(&lab, async || {
        for port in 20_000..20_006u16 {
            let from = SocketAddrV4::new(lab::client(usize::from(port)), port);
            let socket = UdpSocket::bind(SocketAddr::V4(from)).await.expect("socket");
            let ask = async |question: &[u8]| {
                socket.send_to(question, SocketAddr::V4(vip)).await?;
                let mut buffer = [0; 2048];
                let (len, by) = patiently(socket.recv_from(&mut buffer)).await?;
                assert_eq!(by, SocketAddr::V4(vip));
                Ok::<_, io::Error>(String::from_utf8_lossy(&buffer[..len]).into_owned())
            };
            let question = "odd and even"[..6 + usize::from(port % 2)].to_owned();
            assert_eq!(ask(question.as_bytes()).await.expect("answer"), format!("{from} to {vip}{question}"));
            assert_eq!(ask(b"again").await.expect("answer"), "known");
        }
    });
}

/// Options of the segments that a server's kernel gets at a port, SYNs first, for a while.
pub fn observe(
    lab: &Lab,
    who: &str,
    port: u16,
    done: mpsc::Receiver<()>,
) -> thread::JoinHandle<Vec<Vec<u8>>> {
    let netns = lab.netns(who);
    let (ready, wait) = mpsc::channel();
    let observer = thread::spawn(move || {
        netns::enter(&netns);
        let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("raw socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
        ready.send(()).expect("awaited");
        let (mut seen, mut buffer, start) = (Vec::new(), vec![0; 65_536], Instant::now());
        while done.try_recv().is_err() && start.elapsed() < TRANSFER_LIMIT {
            let Ok(len) = socket.read(&mut buffer) else { continue };
            let tcp = &buffer[usize::from(buffer[0] & 15) * 4..len];
            if tcp[2..4] == port.to_be_bytes() {
                let is_sound = {
                    let pseudo =
                        [&buffer[12..20], &[0, 6], &u16::try_from(tcp.len()).unwrap().to_be_bytes(), tcp];
                    xvs::packet::checksum::of(&pseudo.concat()) == 0
                };
                assert!(is_sound, "TCP checksum");
                seen.push(
                    tcp[13..14].iter().chain(&tcp[20..usize::from(tcp[12] >> 4) * 4]).copied().collect(),
                );
            }
        }
        seen
    });
    wait.recv().expect("started");
    observer
}

#[test]
fn the_segment_that_ends_the_handshake_has_the_option() {
    let lab = Lab::new();
    let (finish, done) = mpsc::channel();
    let observer = observe(&lab, "a", 80, done);
    let servers = [(SocketAddrV4::new(rip("a"), 80), 1)];
    let _xvs = Xvs::start(&lab, &config(&[told("tcp", 80, "toa", &servers)]));
    let file = File::new(&lab, FILE_LEN, TRANSFER_LIMIT);
    client::run(&lab, async || {
        assert_eq!(file.up_by(lab::client(4), VIP).await.0, "a");
    });
    finish.send(()).expect("observed");
    let seen = observer.join().expect("observed");
    let has_option = |segment: &Vec<u8>| {
        let [a, b, c, d] = lab::client(4).octets();
        matches!(segment[1..], [254, 8, _, _, w, x, y, z, ..] if [w, x, y, z] == [a, b, c, d])
    };
    assert!(seen[0][0] == 2 && !has_option(&seen[0]), "the SYN is the client's");
    assert!(seen[1][0] & 0x12 == 0x10 && has_option(&seen[1]), "the next has the option: {:?}", seen[1]);
    let count = seen.iter().filter(|segment| has_option(segment)).count();
    assert!(count <= 4 && seen.len() > 100, "{count} of {}", seen.len());
    assert!(!has_option(seen.last().expect("segments")), "the last is the client's own");
}
