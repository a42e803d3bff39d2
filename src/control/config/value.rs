//! One value at a time: of the right type, within its limits, or a problem that says what would be right.

use std::fmt::{Display, Write};
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Field;
use super::report::Problems;
use super::words;

/// `true` or `false`.
pub(super) fn boolean(field: &Field<'_>, problems: &mut Problems) -> Option<bool> {
    field.value.as_bool().or_else(|| mistyped(field, "true or false", problems))
}

/// A text in quotes.
pub(super) fn text<'t>(field: &Field<'t>, problems: &mut Problems) -> Option<&'t str> {
    field.value.as_str().or_else(|| mistyped(field, "a text in quotes", problems))
}

/// A whole number within `limits`; `unit` completes "from 1 to 9".
pub(super) fn number<T>(
    limits: RangeInclusive<T>,
    unit: &'static str,
) -> impl Fn(&Field<'_>, &mut Problems) -> Option<T>
where
    T: Copy + PartialOrd + Display + TryFrom<i128>,
{
    move |field, problems| {
        let DeValue::Integer(integer) = field.value else {
            return mistyped(field, "a whole number without quotes", problems);
        };
        // What is too long for 128 bits is out of range all the same.
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fitting = number.and_then(|n| T::try_from(n).ok()).filter(|n| limits.contains(n));
        if fitting.is_none() {
            let message = format!("{} = {integer} is out of range", field.key);
            let (low, high) = (grouped(limits.start()), grouped(limits.end()));
            problems.error(field.span.clone(), message).cure(format!("give {low} to {high}{unit}"));
        }
        fitting
    }
}

/// A whole number within `limits`, or 0, which stands for none.
pub(super) fn number_or_zero(
    limits: RangeInclusive<u32>,
    unit: &'static str,
) -> impl Fn(&Field<'_>, &mut Problems) -> Option<u32> {
    move |field, problems| match field.value {
        DeValue::Integer(integer) if integer.as_str() == "0" => Some(0),
        _ => number(limits.clone(), unit)(field, problems),
    }
}

/// A power of two within `limits`.
pub(super) fn power_of_two(
    limits: RangeInclusive<u32>,
    unit: &'static str,
) -> impl Fn(&Field<'_>, &mut Problems) -> Option<u32> {
    move |field, problems| {
        let given = number(limits.clone(), unit)(field, problems)?;
        if given.is_power_of_two() {
            return Some(given);
        }
        let above = given.next_power_of_two();
        problems
            .error(field.span.clone(), format!("{} = {given} is not a power of two", field.key))
            .cure(format!("the nearest are {} and {above}", above / 2));
        None
    }
}

/// One name of a closed list; `later` are names of LVS that xvs does not have yet.
pub(super) fn choice<T: Copy>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    later: &'static [&'static str],
) -> impl Fn(&Field<'_>, &mut Problems) -> Option<T> {
    move |field, problems| {
        let given = text(field, problems)?;
        if let Some(&found) = all.iter().find(|&&t| name(t) == given) {
            return Some(found);
        }
        let names: Vec<_> = all.iter().map(|&t| name(t)).collect();
        let mut cure = format!("use one of: {}", names.join(", "));
        let message = if later.contains(&given) {
            format!("{} = \"{given}\" is not supported yet", field.key)
        } else {
            if let Some(near) = words::meant(given, names) {
                cure = format!("did you mean \"{near}\"? {cure}");
            }
            format!("{} = \"{given}\" is unknown", field.key)
        };
        problems.error(field.span.clone(), message).cure(cure);
        None
    }
}

/// A list of `count` different items; `of` completes "a list of".
pub(super) fn list<T: PartialEq>(
    count: RangeInclusive<usize>,
    of: &'static str,
    item: impl Fn(&Field<'_>, &mut Problems) -> Option<T>,
) -> impl Fn(&Field<'_>, &mut Problems) -> Option<Vec<T>> {
    move |field, problems| {
        let DeValue::Array(array) = field.value else {
            return mistyped(field, &format!("a list of {of} in square brackets"), problems);
        };
        if !count.contains(&array.len()) {
            problems
                .error(field.span.clone(), format!("{} lists {} {of}", field.key, array.len()))
                .cure(format!("list {} to {} of them", count.start(), count.end()));
            return None;
        }
        let mut items: Vec<Spanned<T>> = Vec::with_capacity(array.len());
        for value in array {
            let item_field = Field { key: field.key, value: value.get_ref(), span: value.span() };
            let Some(read) = item(&item_field, problems) else { continue };
            if let Some(same) = items.iter().find(|i| i.get_ref() == &read) {
                problems
                    .error(value.span(), format!("{} lists {} twice", field.key, shown(value.get_ref())))
                    .earlier(same.span())
                    .cure("leave one of them out");
            }
            items.push(Spanned::new(value.span(), read));
        }
        (items.len() == array.len()).then(|| items.into_iter().map(Spanned::into_inner).collect())
    }
}

/// The type of a value in an operator's words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Says what type would have been right.
pub(super) fn mistyped<T>(field: &Field<'_>, right: &str, problems: &mut Problems) -> Option<T> {
    let message = format!("{} = {} is {}", field.key, shown(field.value), kind(field.value));
    problems.error(field.span.clone(), message).cure(format!("give {right}"));
    None
}

/// The value as the file has it; long ones only by their brackets.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "[...]".to_owned(),
        DeValue::Table(_) => "{...}".to_owned(),
    }
}

/// `67_108_864`, as it may be pasted into the file.
fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('_');
        }
        // Writing to a String cannot fail.
        let _ = out.write_char(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let cases = [(0, "0"), (999, "999"), (1000, "1_000"), (67_108_864, "67_108_864")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
