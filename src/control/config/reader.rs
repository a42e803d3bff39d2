//! A cursor over one TOML table: the walk asks it for the keys it knows, what is left over is unknown.
//!
//! The keys asked for *are* the schema: there is no second list of them. A value that is there but wrong
//! has been reported by the time `None` comes back, so that nobody downstream complains again.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Problems, Span};
use super::value::kind;
use super::words::{self, belongs};

/// One key with its value, handed to the functions of [`super::value`].
pub(super) struct Field<'t> {
    pub key: &'static str,
    pub value: &'t DeValue<'t>,
    pub span: Span,
}

/// One table being read.
pub(super) struct Table<'t, 'p> {
    /// As messages call it: `[director]`.
    pub name: &'static str,
    /// Its header, or all of an inline table; `None` for the whole file.
    pub span: Option<Span>,
    pub problems: &'p mut Problems,
    entries: &'t DeTable<'t>,
    asked: Vec<&'static str>,
}

impl<'t, 'p> Table<'t, 'p> {
    pub fn new(
        name: &'static str,
        span: impl Into<Option<Span>>,
        entries: &'t DeTable<'t>,
        problems: &'p mut Problems,
    ) -> Self {
        Self { name, span: span.into(), problems, entries, asked: Vec::new() }
    }

    /// A key that must be there; `None` if it is missing or wrong, which has been reported.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Field<'t>, &mut Problems) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let Some(field) = self.ask(key) else {
            let message = format!("{} has no `{key}`, which it needs", self.name);
            self.problems.error(self.span.clone(), message).cure(format!("add a line `{key} = ...`"));
            return None;
        };
        Some(Spanned::new(field.span.clone(), read(&field, self.problems)?))
    }

    /// A key that may be left out: `Some(None)` if it is, `None` if it is wrong, which has been reported.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Field<'t>, &mut Problems) -> Option<T>,
    ) -> Option<Option<Spanned<T>>> {
        match self.ask(key) {
            None => Some(None),
            Some(field) => Some(Some(Spanned::new(field.span.clone(), read(&field, self.problems)?))),
        }
    }

    /// A key with a default; `None` if it is wrong, which has been reported.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'t>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        Some(self.optional(key, read)?.map_or(default, Spanned::into_inner))
    }

    /// The sub-table `[key]`, which must be there.
    pub fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Table<'t, '_>) -> Option<T>,
    ) -> Option<T> {
        let found = self.optional_table(key, read)?;
        if found.is_none() {
            let name = header(key);
            self.problems
                .error(self.span.clone(), format!("there is no table `{name}`"))
                .cure(format!("add it; `config/example.toml` shows what belongs in `{name}`"));
        }
        found
    }

    /// The sub-table `[key]`: `Some(None)` if it is left out, `None` if it is wrong, which has been reported.
    pub fn optional_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Table<'t, '_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let name = header(key);
        match self.ask(key) {
            Some(Field { value: DeValue::Table(entries), span, .. }) => {
                read(Table::new(name, span, entries, self.problems)).map(Some)
            }
            Some(Field { value, span, .. }) => {
                let message = format!("`{key}` is {}, but it is a table", kind(value));
                self.problems.error(span, message).cure(format!("write one `{name}` header for it"));
                None
            }
            None => Some(None),
        }
    }

    /// All sub-tables `[[key]]` in the order of the file, read by `read`; `None` if they are not tables,
    /// which has been reported.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Vec<(Span, &'t DeTable<'t>)>, &mut Problems) -> Vec<T>,
    ) -> Option<Vec<T>> {
        let name = header(key);
        let items = match self.ask(key) {
            None => return Some(read(Vec::new(), self.problems)),
            Some(Field { value: DeValue::Array(items), .. }) => items,
            Some(Field { value, span, .. }) => {
                let message = format!("`{key}` is {}, but there can be several", kind(value));
                let only =
                    value.as_table().filter(|inner| inner.len() == 1).and_then(|inner| inner.iter().next());
                let cure = match only {
                    Some((inner, value)) if value.get_ref().is_array() => {
                        let inner = inner.get_ref();
                        format!(
                            "`[[{key}.{inner}]]` stands before the `{name}` it belongs to: write `{name}` above it"
                        )
                    }
                    _ => format!("write `{name}`, with two brackets on either side, for each of them"),
                };
                self.problems.error(span, message).cure(cure);
                return None;
            }
        };
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            if let DeValue::Table(entries) = item.get_ref() {
                found.push((item.span(), entries));
            } else {
                let message = format!("an item of `{key}` is {}, not a table", kind(item.get_ref()));
                self.problems.error(item.span(), message).cure(format!("write `{name}` for each of them"));
            }
        }
        let whole = found.len() == items.len();
        let read = read(found, self.problems);
        whole.then_some(read)
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for (key, value) in self.entries {
            let unknown = key.get_ref().as_ref();
            if self.asked.contains(&unknown) {
                continue;
            }
            let what = if value.get_ref().is_table() { "table" } else { "key" };
            let message = format!("`{unknown}` is not a {what} of {}", self.name);
            let known = format!("known here: {}", self.asked.join(", "));
            let cure = match words::meant(unknown, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? {known}"),
                None => belongs(self.name, unknown).map_or(known, str::to_owned),
            };
            self.problems.error(key.span(), message).cure(cure);
        }
    }

    /// The key as it stands, if it is there.
    pub fn ask(&mut self, key: &'static str) -> Option<Field<'t>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let value = self.entries.get(key)?;
        Some(Field { key, value: value.get_ref(), span: value.span() })
    }
}

/// How the file spells the header of a table.
fn header(key: &'static str) -> &'static str {
    match key {
        "director" => "[director]",
        "api" => "[api]",
        "timeouts" => "[timeouts]",
        "tunables" => "[tunables]",
        "mark" => "[[mark]]",
        "service" => "[[service]]",
        "server" => "[[service.server]]",
        other => other,
    }
}
