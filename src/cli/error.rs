//! How an error reaches the operator: once, on standard error, with all of its causes.

use std::io::{IsTerminal, Write, stderr};

use crate::control::config::{ConfigErrors, Report, Severity, Style};

/// Prints an error that ends a command.
pub(super) fn print(error: &anyhow::Error) {
    // Nobody is left to tell if standard error is closed.
    let _ = match error.downcast_ref::<ConfigErrors>() {
        Some(ConfigErrors(report)) => stderr().write_all(refusal(report).as_bytes()),
        None => writeln!(stderr(), "xvs: error: {error:#}"),
    };
}

/// Prints the warnings of a usable configuration.
pub(super) fn print_warnings(warnings: &Report) {
    let _ = stderr().write_all(warnings.render(style()).as_bytes());
}

fn refusal(report: &Report) -> String {
    let mut out = report.render(style());
    let errors = counted(report.count(Severity::Error), "error");
    let warnings = match report.count(Severity::Warning) {
        0 => String::new(),
        count => format!(", {}", counted(count, "warning")),
    };
    out.push_str(&format!("{}: {errors}{warnings}: not usable\n", report.name()));
    out
}

/// `1 server`, `2 servers`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn style() -> Style {
    if !stderr().is_terminal() {
        Style::Ascii
    } else if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
        Style::Plain
    } else {
        Style::Colour
    }
}
