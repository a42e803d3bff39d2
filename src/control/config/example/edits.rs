//! Careless edits of the example: refused with a reason, or usable, and never a panic.

use proptest::prelude::*;

use super::uncommented;
use crate::control::config::{CONNECTIONS, Config, Severity, Style, write};
use crate::director::conn::state;
use crate::director::services::Services;

/// One careless edit: at a place (in thousandths of the text), take some bytes away and put a text in.
fn edit() -> impl Strategy<Value = (usize, usize, String)> {
    let fragment = prop_oneof![
        proptest::sample::select(vec![
            "",
            "\"",
            "'",
            "'''",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            "\n",
            "\r\n",
            "#",
            ".",
            "-",
            "0",
            "9999999999999999999999",
            "1e400",
            "nan",
            "true",
            "\"10.0.0.1\"",
            "\"[::1]:80\"",
            "[[service]]\n",
            "[director]\n",
            "server = [1]\n",
            "\u{0}",
            "\u{1b}[31m",
            "\u{9b}",
            "mark = 5\n",
            "persistence = true\n",
            "forward = \"tun\"\n",
            ":0",
            "\u{fffd}",
            "é",
            "\\",
            "\\u00",
            "a.b.c = 1\n",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    (0..1000usize, prop_oneof![3 => 0..4usize, 1 => 0..400usize], fragment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn careless_edits_are_refused_or_usable_but_never_a_panic(
        dense in any::<bool>(),
        edits in proptest::collection::vec(edit(), 1..8),
    ) {
        let mut bytes = uncommented(|_, _| true).into_bytes();
        if dense {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let keys: Vec<_> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
            bytes = keys.join("\n").into_bytes();
        }
        for (place, taken, put) in edits {
            let from = bytes.len() * place / 1000;
            let to = (from + taken).min(bytes.len());
            bytes.splice(from..to, put.into_bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        let report = match Config::parse("edited.toml", &text) {
            Ok((config, warnings)) => {
                prop_assert_eq!(warnings.count(Severity::Error), 0);
                prop_assert!(CONNECTIONS.contains(&config.director.connections));
                prop_assert!(Services::new(&config.wanted.pools, state::Timeouts::default()).is_ok());
                let again = Config::parse("written.toml", &write(&config));
                prop_assert_eq!(&again.map_err(|e| TestCaseError::fail(e.to_string()))?.0, &config);
                warnings
            }
            Err(errors) => {
                prop_assert!(errors.0.count(Severity::Error) > 0, "refused without a reason");
                errors.0
            }
        };
        let lines = text.split('\n').count();
        for problem in report.problems() {
            prop_assert!(problem.line() <= lines, "line {} of {lines}", problem.line());
        }
        for style in [Style::Colour, Style::Plain, Style::Ascii] {
            let drawn = report.render(style);
            prop_assert_eq!(report.is_empty(), drawn.is_empty());
            let obeyed = |c: char| c.is_control() && c != '\n' && (style, c) != (Style::Colour, '\u{1b}');
            prop_assert!(!drawn.contains(obeyed), "{:?}", drawn);
        }
        prop_assert!(report.lines().all(|line| !line.contains(char::is_control)));
    }
}
