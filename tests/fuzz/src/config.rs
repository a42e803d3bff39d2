//! Any text is a configuration or is refused with reasons that can be shown; one that is taken can be balanced.

use xvs::control::config::{Config, MAX_SERVERS, Report, Severity, Style};
use xvs::director::service::MAX_WEIGHT;

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Config::parse("fuzz.toml", &text) {
        Ok((config, warnings)) => {
            show(&warnings, &text);
            assert_eq!(warnings.count(Severity::Error), 0, "taken and wrong");
            check(&config);
            let again = Config::parse("fuzz.toml", &text).map(|(config, _)| config);
            assert_eq!(again.ok().as_ref(), Some(&config), "read twice, the same twice");
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
        assert_eq!(rendered.is_empty(), report.is_empty());
    }
    assert_eq!(report.lines().count(), report.problems().len());
    let lines = text.lines().count() + 1;
    for problem in report.problems() {
        assert!(problem.line() <= lines, "line {} of {lines}", problem.line());
        assert!(!problem.message().is_empty());
    }
}

fn check(config: &Config) {
    assert!(!config.director.interfaces.is_empty());
    assert!(config.services.iter().map(|s| s.servers.len()).sum::<usize>() <= MAX_SERVERS);
    for service in &config.services {
        for server in &service.servers {
            assert_eq!(server.address.is_ipv4(), service.service.key.is_v4(), "a flow has one family");
            assert!(server.weight <= MAX_WEIGHT);
        }
    }
}
