//! The Call-ID of SIP over UDP (RFC 3261, 20.8): all messages of a call have the same (`ip_vs_pe_sip`).
//!
//! The first header that has one counts; `i` is short for it. As in the kernel, lines may end in CR, LF or both, and what
//! is not a word, or two with `@` between them, is none.

use super::{Identify, MAX_NAME};
use crate::director::service::Protocol;

/// The engine of SIP.
pub(super) struct Sip;

impl Identify for Sip {
    const PROTOCOL: Protocol = Protocol::Udp;

    fn name_in<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let value = headers(text).filter_map(value).find(|value| call_id_len(value).is_some())?;
        let len = call_id_len(value)?;
        let ends = matches!(value.get(len), Some(b'\r' | b'\n'));
        value.get(..len).filter(|_| ends && len <= MAX_NAME)
    }
}

/// The text from each line on that may be a header: all but the first, and those that go on with the one before.
fn headers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let lines = text.iter().enumerate().filter(move |(_, byte)| is_end(byte));
    let lines = lines.filter_map(|(place, _)| text.get(place + 1..));
    lines.filter(move |line| {
        line.first().is_some_and(|first| !matches!(first, b' ' | b'\t') && !is_end(first))
    })
}

/// What comes after `Call-ID:`, if this is the header.
fn value(line: &[u8]) -> Option<&[u8]> {
    let long = line.split_at_checked(7).filter(|(name, _)| name.eq_ignore_ascii_case(b"Call-ID"));
    let short = || line.split_at_checked(1).filter(|(name, _)| name.eq_ignore_ascii_case(b"i"));
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let skip = |text: &'_ [u8]| text.iter().take_while(|byte| is_blank(byte)).count();
    let (_, rest) = long.or_else(short)?;
    let rest = rest.get(skip(rest)..)?.strip_prefix(b":")?;
    rest.get(skip(rest)..)
}

/// Length of the Call-ID at the start of a text.
fn call_id_len(text: &[u8]) -> Option<usize> {
    let word =
        |from: usize| text.get(from..).map_or(0, |t| t.iter().take_while(|byte| is_word(**byte)).count());
    match word(0) {
        0 => None,
        len if text.get(len) == Some(&b'@') => {
            Some(word(len + 1)).filter(|&host| host > 0).map(|host| len + 1 + host)
        }
        len => Some(len),
    }
}

/// A byte of a word (RFC 3261, 25.1).
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
        || matches!(
            byte,
            b'(' | b')' | b'<' | b'>' | b':' | b'\\' | b'"' | b'/' | b'[' | b']' | b'?' | b'{' | b'}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(text: &str) -> Option<&str> {
        Sip.name_in(text.as_bytes()).map(|name| std::str::from_utf8(name).unwrap())
    }

    #[test]
    fn the_header_is_found_by_either_name() {
        for text in [
            "OPTIONS sip:a SIP/2.0\r\nVia: x\r\nCall-ID: f81d-7dec@host.example\r\nCSeq: 1\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\ncall-id:f81d-7dec@host.example\n",
            "OPTIONS sip:a SIP/2.0\rCALL-ID \t: \tf81d-7dec@host.example\r",
            "SIP/2.0 200 OK\r\ni: f81d-7dec@host.example\r\n",
            "SIP/2.0 200 OK\r\nCall-ID: @\r\nCall-ID: f81d-7dec@host.example\r\n",
            "SIP/2.0 200 OK\r\ni: f81d-7dec@host.example\r\nCall-ID: second\r\n",
        ] {
            assert_eq!(call(text), Some("f81d-7dec@host.example"), "{text:?}");
        }
        assert_eq!(call("X\r\nCall-ID: word\r\n"), Some("word"));
        let longest = "a".repeat(MAX_NAME);
        assert_eq!(call(&format!("X\r\nCall-ID: {longest}\r\n")), Some(longest.as_str()));
    }

    #[test]
    fn what_is_no_call_id_is_none() {
        let too_long = format!("X\r\nCall-ID: a{}\r\n", "a".repeat(MAX_NAME));
        for text in [
            "",
            "Call-ID: first-line\r\n",
            "X\r\nVia: x\r\n",
            "X\r\nCall-ID: no-end",
            "X\r\nCall-ID: two words\r\n",
            "X\r\nCall-ID: wrong@@host\r\n",
            "X\r\nCall-ID: a@b@c\r\n",
            "X\r\nCall-ID:\r\n",
            "X\r\nCall-IDs: x\r\n",
            "X\r\nVia: x\r\n Call-ID: goes-on\r\n",
            "X\r\nid: x\r\n",
            "X\r\nCall-ID x\r\n",
            &too_long,
        ] {
            assert_eq!(call(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(parts in proptest::collection::vec(prop_oneof![
            prop::sample::select(vec!["\r\n", "\n", "Call-ID", "i", ":", " ", "@", "abc", "\t"]).prop_map(|t| t.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..3),
        ], 0..20)) {
            let text = parts.concat();
            if let Some(name) = Sip.name_in(&text) {
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME && name.is_ascii());
            }
        }
    }
}
