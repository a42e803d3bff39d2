//! Findings as text: one block for each subject, columns aligned, reasons and cures below.

use std::io::{self, IsTerminal, Write};

use super::findings::{Finding, Severity};

/// Prints to standard output, in colours if it is a terminal.
pub(super) fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let colours = out.is_terminal();
    out.write_all(render(findings, colours).as_bytes())?;
    out.flush()
}

fn render(findings: &[Finding], colours: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            subject = &finding.subject;
            text += &format!("{subject}\n");
        }
        let mark = mark(finding.severity, colours);
        text += &format!("  {mark}  {:width$}  {}\n", finding.check, finding.found);
        if !finding.why.is_empty() {
            text += &format!("  {:4}  {:width$}  {}\n", "", "", finding.why);
        }
        if let Some(cure) = &finding.cure {
            text += &format!("  {:4}  {:width$}  -> {cure}\n", "", "");
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (warnings, failures) = (count(Severity::Warn), count(Severity::Fail));
    text += &format!("{}, {}\n", plural(failures, "failure"), plural(warnings, "warning"));
    text
}

fn mark(severity: Severity, colours: bool) -> String {
    let (word, colour) = match severity {
        Severity::Ok => ("ok  ", 32),
        Severity::Warn => ("warn", 33),
        Severity::Fail => ("FAIL", 31),
    };
    if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_cure_stands_below() {
        let findings = [
            Finding::new(Severity::Ok, "eth0", "link", "up"),
            Finding::new(Severity::Fail, "eth0", "receive queues", "2").why("why").cure("ethtool -L"),
            Finding::new(Severity::Warn, "host", "VIP", "x"),
        ];
        let expected = "\
eth0
  ok    link            up
  FAIL  receive queues  2
                        why
                        -> ethtool -L
host
  warn  VIP             x
1 failure, 1 warning
";
        assert_eq!(render(&findings, false), expected);
        assert!(render(&findings, true).contains("\x1b[31mFAIL\x1b[0m"));
    }
}
