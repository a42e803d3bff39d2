//! `xvs doctor` from outside, on veths in namespaces of its own: its findings, and that its cures cure.
//!
//! Needs root, ethtool and clang.

use std::process::{Command, Output};

use xvs::cli::doctor::{Severity, doctor};

#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "common/netns.rs"]
mod netns;

use netns::{Namespaces, inside, succeed};

/// Two namespaces with a veth pair v0 - w0 of two queues between them, and in the first one v1 - v2 of
/// four; gone when dropped.
struct Lab {
    namespaces: Namespaces,
}

impl Lab {
    fn new() -> Self {
        let namespaces = Namespaces::new();
        let (near, far) = (namespaces.add("near"), namespaces.add("far"));
        shell(&format!(
            "ip link add v0 netns {near} numrxqueues 2 numtxqueues 2 type veth peer name w0 netns {far} \
                numrxqueues 2 numtxqueues 2
             ip link add v1 netns {near} numrxqueues 4 numtxqueues 4 type veth peer name v2 netns {near} \
                numrxqueues 4 numtxqueues 4
             ip -n {far} link set w0 up
             for link in v0 v1 v2; do ip -n {near} link set $link up; done"
        ));
        Self { namespaces }
    }

    fn near(&self, command: &str) -> String {
        output_of(self.namespaces.command("near", "sh").args(["-ec", command]))
    }

    fn far(&self, command: &str) -> String {
        output_of(self.namespaces.command("far", "sh").args(["-ec", command]))
    }

    /// Runs the doctor; its output and exit status.
    fn doctor(&self, interfaces: &[&str]) -> (String, i32) {
        let mut command = self.namespaces.command("near", env!("CARGO_BIN_EXE_xvs"));
        let Output { status, stdout, stderr } = command.arg("doctor").args(interfaces).output().unwrap();
        assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
        let text = String::from_utf8(stdout).unwrap();
        println!("{text}");
        (text, status.code().unwrap())
    }

    /// Runs the cures in a report, but for those that leave something to fill in or to decide.
    fn apply(&self, report: &str) {
        let cures = report.lines().filter_map(|line| line.trim().strip_prefix("-> "));
        for cure in cures.filter(|cure| !cure.contains('(')) {
            self.near(cure);
        }
    }
}

fn shell(command: &str) -> String {
    output_of(Command::new("sh").args(["-ec", command]))
}

fn output_of(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// The line of a check in an interface's block, marks and blanks squeezed.
fn line(text: &str, subject: &str, check: &str) -> String {
    let block = text.split_inclusive('\n').skip_while(|line| line.trim_end() != subject).skip(1);
    let mut lines = block.take_while(|line| line.starts_with(' ')).map(str::trim);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines
        .find(|line| line.split_once("  ").is_some_and(|(_, rest)| rest.trim_start().starts_with(check)))
        .map_or_else(String::new, words)
}

#[test]
fn a_veth_before_and_after_its_offloads_are_set_right() {
    let lab = Lab::new();
    let off = "tx off tso off gso off rxvlan off txvlan off";
    let (before, _) = lab.doctor(&["v0"]);
    assert_eq!(line(&before, "v0", "VLAN tags"), "warn VLAN tags rxvlan on: taken out before XDP");
    assert_eq!(line(&before, "v0", "this end"), "warn this end tx, tso, gso, txvlan on");
    assert!(line(&before, "v0", "other end").starts_with("warn"), "the peer cannot be seen");
    assert!(before.contains(&format!("ethtool -K PEER {off}")));
    assert_eq!(line(&before, "v0", "receive queues"), "ok receive queues 2 of 2 possible");

    lab.near(&format!("ethtool -K v0 {off}"));
    lab.far(&format!("ethtool -K w0 {off}"));
    assert!(line(&before, "v0", "redirected frames").starts_with("ok redirected frames not taken"));
    lab.far("ethtool -K w0 gro on");
    let (after, status) = lab.doctor(&["v0"]);
    assert_eq!(
        line(&after, "v0", "redirected frames"),
        "ok redirected frames taken: connections can be offloaded"
    );
    assert_eq!(status, 0);
    assert_eq!(line(&after, "v0", "VLAN tags"), "ok VLAN tags left in place");
    assert_eq!(line(&after, "v0", "this end"), "ok this end tx, tso, gso and txvlan off");
    assert!(after.ends_with("0 failures, 1 warning\n"), "only the unseen peer is left");
}

#[test]
fn the_cures_cure() {
    let lab = Lab::new();
    let program = tempfile::tempdir().unwrap();
    let (source, object) = (program.path().join("pass.c"), program.path().join("pass.o"));
    std::fs::write(
        &source,
        "__attribute__((section(\"xdp\"), used)) int pass(void *frame) { return 2; }\n\
         char _license[] __attribute__((section(\"license\"), used)) = \"MIT\";\n",
    )
    .unwrap();
    shell(&format!("clang -O2 -target bpf -c {} -o {}", source.display(), object.display()));
    lab.near(&format!("ip link set v0 xdpgeneric obj {} sec xdp", object.display()));
    lab.near("ip link set v1 mtu 9300; sysctl -qw net.ipv4.conf.v1.rp_filter=1; ip link set v0 down");

    let (before, status) = lab.doctor(&["v0", "v1"]);
    assert_eq!(status, 1);
    assert!(line(&before, "v0", "link").starts_with("FAIL"), "down");
    assert!(line(&before, "v0", "XDP program").contains("another one is attached (generic, program id"));
    assert!(line(&before, "v1", "other end").starts_with("FAIL other end v2: tx, tso, gso, txvlan on"));
    assert!(line(&before, "v1", "MTU").starts_with("FAIL MTU 9300, 9216"));
    assert!(line(&before, "v1", "rp_filter").starts_with("warn rp_filter 1, strict"));
    assert_eq!(line(&before, "all interfaces", "receive queues"), "FAIL receive queues v0 2, v1 4");

    lab.apply(&before);
    // With its two queues fewer, v1 has fewer than v2 sends by: that takes another round.
    let (between, _) = lab.doctor(&["v0", "v1"]);
    assert!(between.contains("-> ethtool -L v2 tx 2"));
    lab.apply(&between);
    let (after, status) = lab.doctor(&["v0", "v1"]);
    assert_eq!(status, 0);
    assert!(after.ends_with("0 failures, 1 warning\n"), "only v0's peer, which cannot be seen, is left");
}

#[test]
fn an_interface_that_is_not_there_fails() {
    let lab = Lab::new();
    let (text, status) = lab.doctor(&["v0", "nosuch0"]);
    assert_eq!(
        (line(&text, "nosuch0", "link").as_str(), status),
        ("FAIL link there is no such interface", 1)
    );
}

#[test]
fn in_a_thread_that_only_changed_its_namespace_the_answers_are_right_too() {
    let lab = Lab::new();
    // `/sys` shows the first namespace's interfaces there; a bridge has no answer over ethtool.
    lab.near("ip link add lo0 type bridge; ip addr add 192.0.2.1/32 dev v0");
    let vips = ["192.0.2.1", "192.0.2.2"].map(|vip| vip.parse().unwrap());
    let findings = inside(&lab.namespaces.name("near"), || {
        doctor(&["v1".to_owned(), "lo0".to_owned()], &vips, 4096, false).unwrap()
    });
    let found = |subject: &str, check: &str| {
        let fits = findings.iter().filter(|f| f.subject == subject && f.check == check);
        fits.map(|f| (f.severity, f.found.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(found("v1", "receive queues"), [(Severity::Ok, "4 of 4 possible")]);
    assert_eq!(found("lo0", "receive queues"), [(Severity::Ok, "1, cannot be changed with ethtool")]);
    assert_eq!(found("lo0", "driver"), [(Severity::Warn, "bridge")]);
    let expected =
        [(Severity::Ok, "192.0.2.1 is on this host"), (Severity::Fail, "192.0.2.2 is not on this host")];
    assert_eq!(found("host", "VIP"), expected);
}
