//! Any text is a configuration or is refused with reasons that can be shown; one that is taken can be balanced.

use xvs::control::config::{Config, MAX_SERVERS, Report, Severity, Style, write};
use xvs::control::difference::difference;
use xvs::control::wanted::Wanted;
use xvs::director::draft::Draft;
use xvs::director::roster::Roster;
use xvs::director::services::Services;

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Config::parse("fuzz.toml", &text) {
        Ok((config, warnings)) => {
            show(&warnings, &text);
            assert_eq!(warnings.count(Severity::Error), 0, "taken and wrong");
            check(&config);
            let again = Config::parse("fuzz.toml", &text).map(|(config, _)| config);
            assert_eq!(again.ok().as_ref(), Some(&config), "read twice, the same twice");
            let written = Config::parse("written.toml", &write(&config)).map(|(config, _)| config);
            assert_eq!(written.ok().as_ref(), Some(&config), "written, and read back the same");
        }
        Err(errors) => {
            show(&errors.0, &text);
            assert!(errors.0.count(Severity::Error) > 0, "refused without a reason");
        }
    }
}

fn show(report: &Report, text: &str) {
    for style in [Style::Colour, Style::Plain, Style::Ascii] {
        let rendered = report.render(style);
        let obeyed = |c: char| c.is_control() && c != '\n' && (style, c) != (Style::Colour, '\u{1b}');
        assert!(!rendered.contains(obeyed), "a terminal would obey {rendered:?}");
        assert_eq!(rendered.is_empty(), report.is_empty());
    }
    assert_eq!(report.lines().count(), report.problems().len());
    let lines = text.lines().count() + 1;
    for problem in report.problems() {
        assert!(problem.line() <= lines, "line {} of {lines}", problem.line());
        assert!(!problem.message().is_empty());
    }
}

/// A director takes all of it, and wants nothing else after.
fn check(config: &Config) {
    assert!(!config.director.interfaces.is_empty());
    let wanted = &config.wanted;
    assert!(wanted.pools.iter().map(|pool| pool.servers.len()).sum::<usize>() <= MAX_SERVERS);
    let mut draft = Draft::new(&Services::default(), &Roster::default());
    if let Err(refused) = wanted.apply(&mut draft) {
        panic!("read, but the director refuses it: {refused}");
    }
    let now = Wanted::of(draft.services());
    assert_eq!(&now, wanted);
    assert!(difference(&now, wanted).is_empty());
}
