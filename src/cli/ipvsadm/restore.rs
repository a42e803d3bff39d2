//! The lines that `ipvsadm -R` reads.
//!
//! A line is its words, between blanks; there are no quotes and no comments, and the word `ipvsadm` is left out
//! wherever it stands. The last line counts without its end, unless more than one blank is in its place: that
//! is how ipvsadm reads.

use std::io::{self, BufRead, BufReader, Read};

/// Input taken at once, in bytes: about a thousand lines.
const READ_AHEAD: usize = 64 * 1024;

/// The lines of an input.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: BufReader<R>,
}

impl<R: Read> Lines<R> {
    /// The lines of this input.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(READ_AHEAD, input) }
    }

    /// The words of the next line.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<String>>> {
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        let is_whole = text.ends_with('\n');
        let trailing = text.len() - text.trim_end_matches(is_blank).len();
        let words = text.split(is_blank).filter(|word| !word.is_empty() && *word != "ipvsadm");
        let words: Vec<String> = words.map(String::from).collect();
        Ok((is_whole || trailing <= 1 && !words.is_empty()).then_some(words))
    }

    /// True if the next line is here already: reading it will not wait.
    pub fn has_line(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lines = Lines::new(text.as_bytes());
        std::iter::from_fn(|| lines.next_line().unwrap()).map(|words| words.join(" ")).collect()
    }

    #[test]
    fn lines_are_words_between_blanks() {
        assert_eq!(lines(" -A\t-t  x:80 \r\n\nipvsadm -C ipvsadm\n# x\n"), ["-A -t x:80", "", "-C", "# x"]);
    }

    #[test]
    fn a_last_line_without_an_end_counts_unless_blanks_follow() {
        assert_eq!(lines("-C\n-Z"), ["-C", "-Z"]);
        assert_eq!(lines("-C\n-Z "), ["-C", "-Z"]);
        assert_eq!(lines("-C\n-Z  "), ["-C"]);
        assert_eq!(lines("-C\n "), ["-C"]);
        assert_eq!(lines("-C\nipvsadm"), ["-C"]);
    }
}
