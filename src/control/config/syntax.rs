//! Text that is not TOML: which of the parser's complaints are worth an operator's time.

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::report::Problems;

/// The one complaint after which the tree is whole all the same.
const TWICE: &str = "duplicate key";

/// The text as a tree; `None` if it is not TOML, which has been reported.
///
/// Keys given twice are all reported, and the tree is read on. Of other errors only the first counts: after
/// it the parser guesses, and what it says from there on is about its guesses.
pub(super) fn parse<'t>(text: &'t str, problems: &mut Problems) -> Option<Spanned<DeTable<'t>>> {
    let first = match DeTable::parse(text) {
        Ok(tree) => return Some(tree),
        Err(first) => first,
    };
    if first.message() != TWICE {
        broken(text, &first, problems);
        return None;
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        if error.message() != TWICE {
            broken(text, &error, problems);
            return None;
        }
        let key = error.span().and_then(|span| text.get(span)).unwrap_or("this key");
        problems
            .error(error.span(), format!("`{key}` is here for the second time"))
            .cure("leave one of the two out");
    }
    Some(tree)
}

fn broken(text: &str, error: &Error, problems: &mut Problems) {
    match error.span().and_then(|span| unquoted(text, span.start)) {
        Some(word) => problems
            .error(error.span(), format!("this is not TOML: `{word}` is a text without quotes"))
            .cure(format!("write \"{word}\"")),
        None => problems
            .error(error.span(), format!("this is not TOML: {}", error.message()))
            .cure("see https://toml.io for the syntax; `config/example.toml` shows every key"),
    };
}

/// The word around byte `at` if it stands where a value should and looks like a text without its quotes.
fn unquoted(text: &str, at: usize) -> Option<&str> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    let (before, after) = text.split_at_checked(at)?;
    let start = before.trim_end_matches(of_word).len();
    let end = at + after.find(|c| !of_word(c)).unwrap_or(after.len());
    let word = &text[start..end];
    let is_value = text[..start].trim_end_matches([' ', '\t']).ends_with(['=', '[', ',']);
    let is_text = word.starts_with(|c: char| c.is_ascii_alphabetic())
        || word.contains(':')
        || word.matches('.').count() > 1;
    (is_value && is_text).then_some(word)
}
