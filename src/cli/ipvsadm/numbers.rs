//! Numbers: read as the C library reads them, written as wide as ipvsadm writes them.

/// A decimal number in these limits. Blanks and a sign may lead, nothing may follow.
pub(super) fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let (number, rest) = leading_number(text)?;
    (rest.is_empty() && (least..=most).contains(&number)).then_some(number)
}

/// The decimal number a text begins with, and what follows; out of range is the nearest there is.
pub(super) fn leading_number(text: &str) -> Option<(i64, &str)> {
    let trimmed = text.trim_start_matches(is_space);
    let (negative, digits) = match trimmed.strip_prefix(['-', '+']) {
        Some(digits) => (trimmed.starts_with('-'), digits),
        None => (false, trimmed),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(end);
    let number = digits.bytes().fold(0_i64, |n, digit| {
        let digit = i64::from(digit - b'0');
        let next = n.checked_mul(10);
        if negative {
            next.and_then(|n| n.checked_sub(digit)).unwrap_or(i64::MIN)
        } else {
            next.and_then(|n| n.checked_add(digit)).unwrap_or(i64::MAX)
        }
    });
    Some((number, rest))
}

/// What C calls white space.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// A number in nine columns. From a hundred million on it is cut to thousands (K), from a billion on to millions
/// (M), then G and T; with `exact` it takes the room it needs instead.
pub(super) fn wide(number: u64, exact: bool) -> String {
    match number {
        _ if exact => {
            let text = number.to_string();
            let width = if text.len() <= 8 { 9 } else { text.len() + 1 };
            format!("{text:>width$}")
        }
        ..100_000_000 => format!("{number:9}"),
        100_000_000..1_000_000_000 => format!("{:8}K", number / 1_000),
        1_000_000_000..100_000_000_000 => format!("{:8}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:8}G", number / 1_000_000_000),
        _ => format!("{:8}T", number / 1_000_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        for (text, expected) in [
            ("5", Some(5)),
            ("+5", Some(5)),
            (" \t5", Some(5)),
            ("010", Some(10)),
            ("-0", Some(0)),
            ("10", Some(10)),
            ("11", None),
            ("-1", None),
            ("5 ", None),
            ("5x", None),
            ("0x5", None),
            ("", None),
            ("-", None),
            ("x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number(text, 0, 10), expected, "{text:?}");
        }
        assert_eq!(number("-99999999999999999999", i64::MIN, 0), Some(i64::MIN));
        assert_eq!(leading_number("48x"), Some((48, "x")));
    }

    #[test]
    fn large_numbers_lose_digits_not_columns() {
        for (number, expected) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(wide(number, false), expected);
        }
        assert_eq!(wide(12_345_678, true), " 12345678");
        assert_eq!(wide(123_456_789, true), " 123456789");
    }
}
