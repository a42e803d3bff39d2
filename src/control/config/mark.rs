//! `[[mark]]`: which packets get a firewall mark.

use std::num::NonZeroU32;

use toml::Spanned;
use toml::de::DeTable;

use super::address;
use super::reader::{Field, Table};
use super::report::{Problems, Span};
use super::value::{choice, number, text};
use crate::director::marks::{MAX_MARK_RULES, MarkRule};
use crate::director::service::Protocol;

/// A rule as far as it could be read: `None` is a value that is wrong and has been reported.
pub(super) struct Draft {
    /// Its header.
    pub span: Option<Span>,
    pub mark: Option<Spanned<NonZeroU32>>,
    pub rule: Option<MarkRule>,
}

/// Reads every `[[mark]]`.
pub(super) fn marks(found: Vec<(Span, &DeTable<'_>)>, problems: &mut Problems) -> Vec<Draft> {
    if let Some((span, _)) = found.get(MAX_MARK_RULES) {
        problems
            .error(span.clone(), format!("{} mark rules are more than {MAX_MARK_RULES}", found.len()))
            .cure("name networks and ranges of ports instead of single ones");
    }
    let rules = found.into_iter().take(MAX_MARK_RULES);
    rules.map(|(span, entries)| mark(Table::new("[[mark]]", span, entries, problems))).collect()
}

fn mark(mut table: Table<'_, '_>) -> Draft {
    let mark = table.required("mark", |field, problems| {
        let number = number(1..=u32::MAX, "")(field, problems)?;
        NonZeroU32::new(number)
    });
    let protocol = table.required("protocol", choice(Protocol::ALL, Protocol::name, &[]));
    let destination = table.required("destination", address::network);
    let ports = table.or("ports", (0, u16::MAX), ports);
    let source = table.optional("source", address::network);
    if let (Some(to), Some(Some(from))) = (&destination, &source)
        && to.get_ref().addr().is_ipv4() != from.get_ref().addr().is_ipv4()
    {
        let message = format!(
            "destination = \"{}\" and source = \"{}\" are of different IP versions",
            to.get_ref(),
            from.get_ref()
        );
        table.problems.error(from.span(), message).cure("no packet fits: give both of one version");
    }
    let span = table.span.clone();
    table.finish();
    let whole = |mark: Option<&Spanned<NonZeroU32>>| {
        let (port_first, port_last) = ports?;
        Some(MarkRule {
            mark: *mark?.get_ref(),
            protocol: protocol?.into_inner(),
            destination: destination?.into_inner(),
            port_first,
            port_last,
            source: source?.map(Spanned::into_inner),
        })
    };
    let rule = whole(mark.as_ref());
    Draft { span, mark, rule }
}

/// `80`, or `8000-8999`.
fn ports(field: &Field<'_>, problems: &mut Problems) -> Option<(u16, u16)> {
    let given = text(field, problems)?;
    let (first, last) = given.split_once(['-', ':']).unwrap_or((given, given));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let range = digits(first.trim()).zip(digits(last.trim())).filter(|(first, last)| first <= last);
    if range.is_none() {
        problems
            .error(field.span.clone(), format!("ports = \"{given}\" is no range of ports"))
            .cure("write \"80\", or \"8000-8999\" with the smaller number first, from 0 to 65_535");
    }
    range
}
