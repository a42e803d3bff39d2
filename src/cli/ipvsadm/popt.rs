//! Words to options, as the library popt reads them for ipvsadm.
//!
//! Short options may stand together (`-Lnc`), the last of them with its value (`-w5`, `-w=5`, `-w 5`); long ones are
//! written out, with `=` or without. Other words are arguments, wherever they stand; after `--` all words are.

use super::options::{OPTIONS, Spec, Tag, Takes};

/// An option that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub tag: Tag,
    /// Empty for an option without one.
    pub value: &'a str,
    /// False too for an option that may have one, and has none here.
    pub has_value: bool,
}

/// Why a word cannot be read, in the words of popt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("missing argument")]
    NoValue,
    #[error("option does not take an argument")]
    Unwanted,
    #[error("unknown option")]
    Unknown,
}

/// Reads one command line.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    words: &'a [String],
    next: usize,
    /// The rest of a word of short options.
    cluster: Option<&'a str>,
    only_arguments: bool,
    arguments: std::collections::VecDeque<&'a str>,
}

impl<'a> Reader<'a> {
    /// Reads the words after the program's name.
    pub fn new(words: &'a [String]) -> Self {
        Self { words, next: 0, cluster: None, only_arguments: false, arguments: Default::default() }
    }

    /// The next option; none after the last one.
    pub fn option(&mut self) -> Result<Option<Found<'a>>, Unreadable> {
        if let Some(cluster) = self.cluster.take() {
            return self.short(cluster).map(Some);
        }
        while let Some(word) = self.word() {
            if self.only_arguments || !word.starts_with('-') || word == "-" {
                self.arguments.push_back(word);
            } else if word == "--" {
                self.only_arguments = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else {
                return self.short(&word[1..]).map(Some);
            }
        }
        Ok(None)
    }

    /// The next argument. All options must have been read.
    pub fn argument(&mut self) -> Option<&'a str> {
        self.arguments.pop_front()
    }

    /// The word that was read last: the one to blame.
    pub fn last_word(&self) -> &'a str {
        self.next.checked_sub(1).map_or("", |last| &self.words[last])
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    fn long(&mut self, text: &'a str) -> Result<Found<'a>, Unreadable> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let spec = OPTIONS.iter().find(|spec| spec.long == name).ok_or(Unreadable::Unknown)?;
        match (spec.takes, value) {
            (Takes::Nothing, Some(_)) => Err(Unreadable::Unwanted),
            _ => self.found(spec, value),
        }
    }

    fn short(&mut self, cluster: &'a str) -> Result<Found<'a>, Unreadable> {
        let mut letters = cluster.chars();
        let letter = letters.next();
        let rest = Some(letters.as_str()).filter(|rest| !rest.is_empty());
        let spec = OPTIONS.iter().find(|spec| spec.short == letter).filter(|_| letter.is_some());
        let spec = spec.ok_or(Unreadable::Unknown)?;
        match (spec.takes, rest) {
            (Takes::Nothing, Some(rest)) if rest.starts_with('=') => Err(Unreadable::Unwanted),
            (Takes::Nothing, rest) => {
                self.cluster = rest;
                self.found(spec, None)
            }
            (_, rest) => self.found(spec, rest.map(|value| value.strip_prefix('=').unwrap_or(value))),
        }
    }

    /// An option with its value: the one it was given, or the next word.
    fn found(&mut self, spec: &Spec, value: Option<&'a str>) -> Result<Found<'a>, Unreadable> {
        let value = match (spec.takes, value) {
            (Takes::Nothing, _) => None,
            (_, Some(value)) => Some(value),
            (Takes::Value, None) => Some(self.word().ok_or(Unreadable::NoValue)?),
            (Takes::MayValue, None) => {
                let is_value = self.words.get(self.next).is_some_and(|word| !word.starts_with('-'));
                is_value.then(|| self.word()).flatten()
            }
        };
        Ok(Found { tag: spec.tag, value: value.unwrap_or_default(), has_value: value.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Options = Vec<(Tag, String)>;
    type Error = Option<(Unreadable, String)>;

    /// The options, what ended them, and the arguments.
    fn read(line: &str) -> (Options, Error, Vec<String>) {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let mut reader = Reader::new(&words);
        let mut found = Vec::new();
        let error = loop {
            match reader.option() {
                Ok(Some(option)) => found.push((option.tag, option.value.to_owned())),
                Ok(None) => break None,
                Err(error) => break Some((error, reader.last_word().to_owned())),
            }
        };
        (found, error, std::iter::from_fn(|| reader.argument().map(String::from)).collect())
    }

    #[test]
    fn a_value_may_be_attached_or_apart() {
        for line in ["-A -w 5", "-A -w5", "-A -w=5", "-A --weight 5", "-A --weight=5", "-Aw5", "-Aw 5"] {
            let expected = vec![(Tag::AddService, String::new()), (Tag::Weight, "5".into())];
            assert_eq!(read(line), (expected, None, vec![]), "{line}");
        }
    }

    #[test]
    fn a_value_that_may_be_missing_begins_with_no_dash() {
        assert_eq!(read("-p 5").0, [(Tag::Persistent, "5".into())]);
        assert_eq!(read("-p -n").0, [(Tag::Persistent, String::new()), (Tag::Numeric, String::new())]);
        assert_eq!(read("-p").0, [(Tag::Persistent, String::new())]);
    }

    #[test]
    fn the_last_word_read_is_to_blame() {
        for (line, error, word) in [
            ("-L -j", Unreadable::Unknown, "-j"),
            ("-Lqn", Unreadable::Unknown, "-Lqn"),
            ("-L --lis", Unreadable::Unknown, "--lis"),
            ("-L -n=", Unreadable::Unwanted, "-n="),
            ("-L --numeric=", Unreadable::Unwanted, "--numeric="),
            ("-A x -t", Unreadable::NoValue, "-t"),
            ("-L --=x", Unreadable::Unknown, "--=x"),
        ] {
            assert_eq!(read(line).1, Some((error, word.to_owned())), "{line}");
        }
    }

    #[test]
    fn other_words_are_arguments_wherever_they_stand() {
        assert_eq!(read("a -L - b -- -n").2, ["a", "-", "b", "-n"]);
    }
}
