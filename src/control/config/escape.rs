//! Text of a file made fit for a terminal: what would move its cursor, colour it or turn its direction is
//! shown, not sent.

use std::borrow::Cow;

/// A character that a terminal obeys rather than shows: control bytes, and marks of writing direction.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A part of a message, which is one line.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_obeyed(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A whole file as pictures show it, and where its places went.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub text: String,
    /// After this byte of the original, this many bytes more.
    shifts: Vec<(usize, usize)>,
}

impl Source {
    /// Keeps lines and tabs; a carriage return at the end of a line stays too, which pictures leave out.
    pub fn new(text: &str) -> Self {
        let (mut out, mut shifts) = (String::with_capacity(text.len()), Vec::new());
        let mut copied = 0;
        for (at, found) in text.match_indices(is_obeyed) {
            let after = at + found.len();
            let ends_line = found == "\r" && text[after..].starts_with('\n');
            if matches!(found, "\n" | "\t") || ends_line {
                continue;
            }
            out.push_str(&text[copied..at]);
            out.extend(found.chars().flat_map(char::escape_default));
            copied = after;
            shifts.push((after, out.len() - after));
        }
        out.push_str(&text[copied..]);
        Self { text: out, shifts }
    }

    /// Where byte `at` of the original went.
    pub fn place(&self, at: usize) -> usize {
        let before = self.shifts.partition_point(|&(after, _)| after <= at);
        at + before.checked_sub(1).map_or(0, |last| self.shifts[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(line("plain é 🦀"), "plain é 🦀");
        assert_eq!(line("a\u{1b}[31m\nb\u{202e}\u{9b}"), "a\\u{1b}[31m\\nb\\u{202e}\\u{9b}");
    }

    #[test]
    fn places_move_with_what_was_escaped_before_them() {
        let text = "a\t\u{1b}b\r\nc\rd\u{9b}é\n";
        let source = Source::new(text);
        assert_eq!(source.text, "a\t\\u{1b}b\r\nc\\rd\\u{9b}é\n");
        for word in ["a", "b", "c", "d", "é"] {
            let place = source.place(text.find(word).unwrap());
            // The first b of the escaped text is the one of `\u{1b}`.
            assert!(source.text[place..].starts_with(word), "{word} at {place}");
        }
        assert_eq!(source.place(text.len()), source.text.len());
    }
}
