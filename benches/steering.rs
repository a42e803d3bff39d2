//! What a frame costs in the steering program, by what becomes of it. `cargo bench --bench steering`; needs root.
//!
//! With another build of this bench, `-- --against BINARY` (an absolute path), both are measured in turns, kind by kind, and
//! ratios are told: on a machine that does other work, too, only they mean something. With `--counted` nothing is repeated for
//! the machine's sake: for a guest whose clock counts instructions.

#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, include_bytes_aligned};
use etherparse::{IpNumber, PacketBuilder};
use xvs::xdp::steer::offload::{Edit, FlowKey, Leaves, NextHop, Offload, Place, Tunnel, Tuple, Wrap};
use xvs::xdp::steer::{Endpoint, Outcome, Rules, Steering, bare_socket};

/// benches/refill.bpf.c has the same.
const FRAME_LEN: usize = 128;
const MANY: u16 = 50_000;
/// Runs in a row, which last some tens of milliseconds.
const REPEATS: u32 = 100_000;
const ROUNDS: usize = 9;
/// Where the clock counts instructions (`scripts/guest.sh -i`).
const REPEATS_COUNTED: u32 = 2_000;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
const FIN: u8 = 0x11;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LOOPBACK: u32 = 1;
/// The flow of each kind has a port of its own; those of the many begin here.
const FIRST_OF_MANY: u16 = 10_000;

static REFILL: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/refill.o"));

/// What is measured: how the frames are made, and what has to become of them.
struct Kind {
    name: &'static str,
    frames: Vec<[u8; FRAME_LEN]>,
    outcome: Outcome,
    offloads: bool,
}

/// From a client to a service, or back.
fn ends(is_v4: bool, port: u16) -> [SocketAddr; 2] {
    let [client, vip]: [IpAddr; 2] = if is_v4 {
        [Ipv4Addr::new(192, 0, 2, 7).into(), Ipv4Addr::new(10, 0, 0, 100).into()]
    } else {
        ["2001:db8:7::7", "2001:db8::100"].map(|text| text.parse::<Ipv6Addr>().expect("an address").into())
    };
    [SocketAddr::new(client, port), SocketAddr::new(vip, 80)]
}

/// TCP with these flags, or UDP without.
fn frame([from, to]: [SocketAddr; 2], flags: Option<u8>) -> [u8; FRAME_LEN] {
    let ethernet = PacketBuilder::ethernet2([2; 6], MAC);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of two families"),
    };
    let mut bytes = Vec::new();
    let headers = 14 + if from.is_ipv4() { 20 } else { 40 };
    match flags {
        Some(flags) => {
            let segment = ip.tcp(from.port(), to.port(), 1, 1024);
            segment.write(&mut bytes, &vec![7; FRAME_LEN - headers - 20]).expect("it fits");
            bytes[headers + 13] = flags;
        }
        None => {
            let datagram = ip.udp(from.port(), to.port());
            datagram.write(&mut bytes, &vec![7; FRAME_LEN - headers - 8]).expect("it fits");
        }
    }
    bytes.try_into().expect("as long as all")
}

/// A frame that is of no service.
fn other(protocol: Option<IpNumber>) -> [u8; FRAME_LEN] {
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], MAC);
    let host = [10, 0, 0, 1];
    match protocol {
        Some(protocol) => {
            let ip = ethernet.ipv4([192, 0, 2, 7], host, 64);
            ip.write(&mut bytes, protocol, &[0; FRAME_LEN - 34]).expect("it fits");
        }
        None => {
            bytes = [&MAC[..], &[2; 6], &[8, 6]].concat();
            bytes.resize(FRAME_LEN, 0);
        }
    }
    bytes.try_into().expect("as long as all")
}

fn kinds() -> Vec<Kind> {
    let carried =
        |name, frame| Kind { name, frames: vec![frame], outcome: Outcome::Offloaded, offloads: true };
    let kind = |name, frame, outcome| Kind { name, frames: vec![frame], outcome, offloads: true };
    let [v4, v6] = [true, false].map(|is_v4| move |port| ends(is_v4, port));
    let reply = |[client, _]: [SocketAddr; 2]| [SocketAddr::from(([10, 1, 0, 11], 8080)), client];
    let many = (0..MANY).map(|n| frame(v4(FIRST_OF_MANY + n), Some(ACK)));
    // In another order than they came, as from a network.
    let mut many: Vec<_> = many.collect();
    fastrand::Rng::with_seed(1).shuffle(&mut many);
    let mut all = vec![
        carried("carried: NAT, TCP", frame(v4(1), Some(ACK))),
        carried("carried: NAT, UDP", frame(v4(2), None)),
        carried("carried: NAT, TCP over IPv6", frame(v6(1), Some(ACK))),
        carried("carried: DR", frame(v4(3), Some(ACK))),
        carried("carried: IPIP", frame(v4(4), Some(ACK))),
        carried("carried: GUE", frame(v4(5), Some(ACK))),
        carried("carried: GUE over IPv6", frame(v6(5), Some(ACK))),
        Kind { frames: many, ..carried("carried: NAT, TCP, of 50,000", frame(v4(1), Some(ACK))) },
        kind("up: FIN of a carried one", frame(v4(1), Some(FIN)), Outcome::Service),
        kind("up: SYN", frame(v4(9), Some(SYN)), Outcome::Service),
        kind("up: SYN over IPv6", frame(v6(9), Some(SYN)), Outcome::Service),
        kind("up: ACK", frame(v4(9), Some(ACK)), Outcome::Service),
        kind("up: UDP", frame(v4(9), None), Outcome::Service),
        kind("up: UDP over IPv6", frame(v6(9), None), Outcome::Service),
        kind("up: reply", frame(reply(v4(9)), Some(ACK)), Outcome::NatReturn),
        kind(
            "pass: TCP",
            frame([v4(9)[0], SocketAddr::from(([10, 0, 0, 1], 22))], Some(ACK)),
            Outcome::PassNotOurs,
        ),
        kind("pass: OSPF", other(Some(IpNumber(89))), Outcome::PassNotOurs),
        kind("pass: ARP", other(None), Outcome::PassNotIp),
    ];
    let off = |name, frame, outcome| Kind { offloads: false, ..kind(name, frame, outcome) };
    all.extend([
        off("off: SYN", frame(v4(9), Some(SYN)), Outcome::Service),
        off("off: UDP over IPv6", frame(v6(9), None), Outcome::Service),
        off(
            "off: pass: TCP",
            frame([v4(9)[0], SocketAddr::from(([10, 0, 0, 1], 22))], Some(ACK)),
            Outcome::PassNotOurs,
        ),
    ]);
    all
}

/// The program with services, and with the flows of what is carried.
struct Bench {
    kinds: Vec<Kind>,
    /// Without flows, and with them.
    steering: [Steering; 2],
    _offload: Offload,
    _socket: std::os::fd::OwnedFd,
    refill: Ebpf,
    frames: Array<MapData, [u8; FRAME_LEN]>,
    turn: Array<MapData, u32>,
    next: ProgramArray<MapData>,
    repeats: u32,
}

fn endpoint(protocol: u8, end: SocketAddr) -> Endpoint {
    Endpoint { protocol, address: end.ip(), port: end.port() }
}

fn rules() -> Rules {
    let mut rules = Rules::default();
    for is_v4 in [true, false] {
        let [_, vip] = ends(is_v4, 1);
        rules.services.extend([endpoint(TCP, vip), endpoint(UDP, vip)]);
        rules.vips.insert(vip.ip());
    }
    rules.nat_servers.insert(endpoint(TCP, SocketAddr::from(([10, 1, 0, 11], 8080))));
    rules
}

fn fill(offload: &mut Offload) -> Result<()> {
    let inside = NextHop { dst_mac: MAC, src_mac: MAC, exit: 0, mtu: 1500, vlan: None };
    offload.ways.set_exit(0, LOOPBACK)?;
    offload.ways.set_hops([Some(inside)])?;
    offload.ways.set_services(1)?;
    offload.ways.set_routes(1)?;
    let tuple = |[from, to]: [SocketAddr; 2]| Tuple {
        source: from.ip(),
        destination: to.ip(),
        source_port: from.port(),
        destination_port: to.port(),
    };
    let mut tally = 0;
    let mut add = |protocol, [from, to]: [SocketAddr; 2], leaves| -> Result<()> {
        let key = FlowKey { protocol, tuple: tuple([from, to]) };
        // Of what leaves nobody asks whether the checksums are right.
        let edit = Edit { leaves, l3: 0xfeff, l4: 0x1234, hop: 0 };
        offload.tallies.get(tally).context("too many flows")?.begin(1, 1, 1);
        offload.flows.set(&key, &edit, Place { tally, serial: 1 })?;
        tally += 1;
        Ok(())
    };
    let to_server = |[from, _]: [SocketAddr; 2]| {
        let server: IpAddr =
            if from.is_ipv4() { [10, 1, 0, 11].into() } else { "fd00:1::11".parse().expect("one") };
        Leaves::With(tuple([from, SocketAddr::new(server, 8080)]))
    };
    let outer = tuple([SocketAddr::from(([10, 1, 0, 1], 40_000)), SocketAddr::from(([10, 1, 0, 11], 6080))]);
    let wrapped = |tunnel| Leaves::In(Wrap { tunnel, copies_df: false }, outer);
    for is_v4 in [true, false] {
        let of = |port| ends(is_v4, port);
        add(TCP, of(1), to_server(of(1)))?;
        add(UDP, of(2), to_server(of(2)))?;
        add(TCP, of(3), Leaves::AsItCame)?;
        add(TCP, of(4), wrapped(Tunnel::Ipip))?;
        add(TCP, of(5), wrapped(Tunnel::Gue))?;
    }
    for n in 0..MANY {
        let ends = ends(true, FIRST_OF_MANY + n);
        add(TCP, ends, to_server(ends))?;
    }
    Ok(())
}

impl Bench {
    fn new(repeats: u32) -> Result<Self> {
        let mut refill = Ebpf::load(REFILL)?;
        for name in ["refill", "nothing"] {
            let program: &mut Xdp = refill.program_mut(name).context("not in the object")?.try_into()?;
            program.load()?;
        }
        let socket = bare_socket()?;
        let mut steering = [Steering::load()?, Steering::load_with(Some(1 << 17))?];
        for steering in &mut steering {
            steering.apply(&rules())?;
            steering.assume_port(LOOPBACK, 0, MAC)?;
            steering.set_socket(0, 0, &socket)?;
        }
        let mut offload = steering[1].offload().context("it has room for flows")?;
        fill(&mut offload)?;
        let mut map = |name| refill.take_map(name).context("not in the object");
        Ok(Self {
            kinds: kinds(),
            frames: map("frames")?.try_into()?,
            turn: map("turn")?.try_into()?,
            next: map("next")?.try_into()?,
            refill,
            steering,
            _offload: offload,
            _socket: socket,
            repeats,
        })
    }

    fn run(&mut self) -> Result<f64> {
        let program: &mut Xdp = self.refill.program_mut("refill").context("not in the object")?.try_into()?;
        let data = [0; FRAME_LEN];
        let options =
            TestRunOptions { data_in: Some(&data), repeat: self.repeats, ..TestRunOptions::default() };
        Ok(program.test_run(options)?.duration.as_nanos() as f64)
    }

    /// Nanoseconds that a frame takes, the least of some.
    fn measure(&mut self, kind: usize) -> Result<f64> {
        let Kind { name, frames, outcome, offloads } = &self.kinds[kind];
        for (number, frame) in (0..).zip(frames) {
            self.frames.set(number, *frame, 0)?;
        }
        self.turn.set(0, u32::try_from(frames.len())?, 0)?;
        self.turn.set(1, 0, 0)?;
        let (name, outcome, at) = (*name, *outcome, usize::from(*offloads));

        let nothing: &mut Xdp =
            self.refill.program_mut("nothing").context("not in the object")?.try_into()?;
        let nothing = nothing.fd()?.try_clone()?;
        self.next.set(0, &nothing, 0)?;
        let without = self.least()?;
        let steer = self.steering[at].trial()?;
        self.next.set(0, steer.fd()?, 0)?;
        let count = |steering: &Steering| -> Result<u64> {
            let counters = steering.counters()?;
            Ok(counters.iter().find(|(it, _)| *it == outcome).context("one of them")?.1)
        };
        let before = count(&self.steering[at])?;
        let with = self.least()?;
        let more = count(&self.steering[at])? - before;
        ensure!(more == u64::from(3 * self.repeats), "{name}: {more} frames are {outcome}");
        Ok(with - without)
    }

    fn least(&mut self) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            least = least.min(self.run()?);
        }
        Ok(least)
    }
}

/// Another build of this bench.
struct Other(Child, ChildStdin, BufReader<ChildStdout>);

impl Other {
    fn start(binary: &str, is_counted: bool) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("--serve")
            .args(is_counted.then_some("--counted"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self(child, input.context("piped")?, BufReader::new(output.context("piped")?)))
    }

    fn measure(&mut self, name: &str) -> Result<f64> {
        writeln!(self.1, "{name}")?;
        let mut line = String::new();
        self.2.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("the other does not know {name}"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _may_have_ended = self.0.kill();
        let _is_ours = self.0.wait();
    }
}

fn median(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    (numbers[0], numbers[numbers.len() / 2], numbers[numbers.len() - 1])
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let is_counted = has("--counted");
    let mut bench = Bench::new(if is_counted { REPEATS_COUNTED } else { REPEATS })?;
    if has("--serve") {
        for line in std::io::stdin().lines() {
            let line = line?;
            let kind = bench.kinds.iter().position(|kind| kind.name == line).context("no such kind")?;
            println!("{}", bench.measure(kind)?);
        }
        return Ok(());
    }
    let [plain, offloads] = bench.steering.each_mut().map(Steering::verified_instructions);
    println!("verified: {:?} instructions, {:?} with offloading", plain?, offloads?);
    let against = arguments.iter().position(|argument| argument == "--against");
    let against = against.and_then(|at| arguments.get(at + 1));
    let mut other = against.map(|binary| Other::start(binary, is_counted)).transpose()?;
    for kind in 0..bench.kinds.len() {
        let name = bench.kinds[kind].name;
        let (mut own, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..if is_counted { 1 } else { ROUNDS } {
            let ns = bench.measure(kind)?;
            own.push(ns);
            if let Some(other) = &mut other {
                let other_ns = other.measure(name)?;
                others.push(other_ns);
                ratios.push(ns / other_ns);
            }
        }
        let (least, ns, most) = median(own);
        print!("{name:30} {ns:6.1} ns ({least:.1} to {most:.1})");
        if !ratios.is_empty() {
            let (least, ratio, most) = median(ratios);
            print!(", the other {:6.1} ns: {ratio:.2} times ({least:.2} to {most:.2})", median(others).1);
        }
        println!();
    }
    Ok(())
}
