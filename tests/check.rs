//! `xvs` from outside: its command line, `xvs check`, exit statuses and what goes to which stream.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

const GOOD: &str = r#"
[director]
interfaces = ["eth0"]
[[service]]
protocol = "tcp"
address = "192.0.2.10:80"
[[service.server]]
address = "10.0.0.1"
"#;

fn xvs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xvs"))
        .args(arguments)
        .env_remove("XVS_LOG")
        .timeout(std::time::Duration::from_secs(30))
        .output()
        .expect("xvs runs")
}

fn check(file: &Path) -> Output {
    xvs(&["check", "--config", file.to_str().expect("a path of ours is UTF-8")])
}

/// A file with this content, gone when dropped.
fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
    std::fs::write(file.path(), content).expect("the temporary file can be written");
    file
}

#[track_caller]
fn assert_ended(output: &Output, status: i32, stdout: &[&str], stderr: &[&str]) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = format!("status {:?}\n--- stdout:\n{out}\n--- stderr:\n{err}", output.status);
    assert_eq!(output.status.code(), Some(status), "{told}");
    for (stream, parts) in [(&out, stdout), (&err, stderr)] {
        assert_eq!(stream.is_empty(), parts.is_empty(), "expected {parts:?}\n{told}");
        for part in parts {
            assert!(stream.contains(part), "{part:?} is missing\n{told}");
        }
    }
}

#[test]
fn a_usable_file_is_fine_and_says_how_much_is_in_it() {
    let good = file(GOOD);
    let fine = format!("{}: 1 service, 1 server: fine\n", good.path().display());
    assert_ended(&check(good.path()), 0, &[&fine], &[]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.toml");
    assert_ended(&check(&example), 0, &["4 services, 7 servers, 2 mark rules: fine"], &[]);
}

#[test]
fn every_error_is_shown_with_its_line_and_cure_and_the_status_is_1() {
    let bad = file(
        GOOD.replace("eth0\"]", "eth0\"]\nconections = 1\nring_frames = 3000") + "weight = 3000000000\n",
    );
    let at = |line: usize, column: usize| format!("[{}:{line}:{column}]", bad.path().display());
    let summary = format!("{}: 3 errors: not usable", bad.path().display());
    let parts = [
        "error: `conections` is not a key of [director]",
        &at(4, 1),
        "conections = 1",
        "help: did you mean `connections`?",
        "error: ring_frames = 3000 is not a power of two",
        &at(5, 15),
        "help: the nearest are 2048 and 4096",
        "error: weight = 3000000000 is out of range",
        &at(11, 10),
        "help: give 0 to 2_147_483_647",
        &summary,
    ];
    assert_ended(&check(bad.path()), 1, &[], &parts);
}

#[test]
fn warnings_leave_a_file_usable() {
    let odd = file(GOOD.to_owned() + "weight = 0\n");
    let odd_but = format!("{}: 1 service, 1 server: usable, with 1 warning\n", odd.path().display());
    assert_ended(&check(odd.path()), 0, &[&odd_but], &["warning: ", "all its servers have weight 0"]);
    let core = file(GOOD.replace("eth0\"]", "eth0\"]\ncores = [1023]"));
    assert_ended(
        &check(core.path()),
        0,
        &["usable, with 1 warning\n"],
        &["warning: core 1023 is not available on this machine"],
    );
}

#[test]
fn what_the_director_would_refuse_is_refused_here_with_its_line() {
    let bad =
        file(GOOD.replace(":80", ":0") + "upper_threshold = 1\nlower_threshold = 2\nforward = \"masq\"\n");
    let parts = [
        "port 0 stands for every port, which needs persistence",
        "help: add persistence = true",
        "lower_threshold = 2 is above upper_threshold = 1",
        "forward = \"masq\" is unknown",
        "help: did you mean \"nat\"?",
        "3 errors: not usable",
    ];
    assert_ended(&check(bad.path()), 1, &[], &parts);
    let marks = "[[mark]]\nmark = 5\nprotocol = \"tcp\"\ndestination = \"192.0.2.20\"\n";
    let alone = file(GOOD.to_owned() + marks);
    let counted = "1 service, 1 server, 1 mark rule: usable, with 1 warning";
    assert_ended(&check(alone.path()), 0, &[counted], &["warning: no service has mark = 5"]);
}

#[test]
fn control_bytes_of_a_file_do_not_reach_the_terminal() {
    let shown = |content: &str| {
        let output = check(file(content).path());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let broken = shown("[director]\r\ninterfaces = \u{1b}[2J\u{9b}31m\n");
    let wrong = shown(&GOOD.replace("eth0", "\\u001b[2J\\n"));
    for shown in [&broken, &wrong] {
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J"), "{shown}");
    }
}

#[test]
fn files_that_cannot_be_read_are_one_clear_error() {
    assert_ended(
        &check(Path::new("/nonexistent/xvs.toml")),
        1,
        &[],
        &["/nonexistent/xvs.toml: error: the configuration file cannot be read: No such file"],
    );
    assert_ended(&check(Path::new("/")), 1, &[], &["cannot be read: Is a directory"]);
    assert_ended(&check(Path::new("/dev/zero")), 1, &[], &["larger than 64 MiB"]);
    let latin = file([GOOD.as_bytes(), b"# caf\xe9\n"].concat());
    assert_ended(
        &check(latin.path()),
        1,
        &[],
        &["byte 0xe9 is not UTF-8", ":9:6]", "save the file as UTF-8"],
    );
    assert_ended(&check(file("").path()), 1, &[], &["no table `[director]`"]);
}

#[test]
fn a_wrong_command_line_has_status_2() {
    assert_ended(&xvs(&[]), 2, &[], &["Usage: xvs"]);
    assert_ended(&xvs(&["chek"]), 2, &[], &["unrecognized subcommand 'chek'"]);
    assert_ended(&xvs(&["check"]), 2, &[], &["--config <FILE>"]);
    assert_ended(&xvs(&["check", "--config", "x", "--log", "inof"]), 2, &[], &["`inof` is not a level"]);
    let mut variable = Command::new(env!("CARGO_BIN_EXE_xvs"));
    let output = variable.args(["check", "--config", "x"]).env("XVS_LOG", "inof").output().expect("xvs runs");
    assert_ended(&output, 2, &[], &["XVS_LOG", "`inof` is not a level"]);
}

#[test]
fn the_log_goes_to_standard_error_as_text_or_json() {
    let good = file(GOOD);
    let path = good.path().to_str().expect("a path of ours is UTF-8");
    let text = xvs(&["--log", "debug", "check", "--config", path]);
    assert_ended(&text, 0, &["fine"], &["DEBUG xvs::cli::check: configuration read"]);
    let json = xvs(&["check", "--config", path, "--log=xvs=debug", "--log-format=json"]);
    assert_ended(&json, 0, &["fine"], &["\"level\":\"DEBUG\"", "\"message\":\"configuration read\""]);
}

#[test]
fn help_and_version() {
    assert_ended(&xvs(&["--version"]), 0, &[concat!("xvs ", env!("CARGO_PKG_VERSION"))], &[]);
    assert_ended(&xvs(&["--help"]), 0, &["check ", "--log-format", "XVS_LOG", "Exit status:"], &[]);
    assert_ended(&xvs(&["check", "--help"]), 0, &["--config <FILE>", "Exit status:", "no privileges"], &[]);
}
