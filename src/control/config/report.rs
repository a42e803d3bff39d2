//! What is wrong with a file, and where: collected while it is read, shown all at once.
//!
//! Knows spans and texts, nothing of what a configuration means.

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    ThemeCharacters, ThemeStyles,
};

use super::escape;

/// Where something stands in the text, in bytes.
pub(super) type Span = Range<usize>;

/// Problems shown with their lines of the file; those that follow get one line each. Bounds the time that
/// a thoroughly wrong file takes: a picture costs a walk through the whole text.
const MAX_PICTURES: usize = 100;

/// Columns that pictures are wrapped to.
const WIDTH: usize = 110;

/// Whether a problem refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is usable, but its writer may have meant something else.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing wrong with the file.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    message: String,
    cure: Option<String>,
    span: Option<Span>,
    earlier: Option<Span>,
    line: usize,
    column: usize,
}

impl Problem {
    /// Adds what to do about it.
    pub(super) fn cure(&mut self, cure: impl Into<String>) -> &mut Self {
        self.cure = Some(cure.into());
        self
    }

    /// Adds the place that this one collides with.
    pub(super) fn earlier(&mut self, span: Span) -> &mut Self {
        self.earlier = Some(span);
        self
    }

    /// Whether the problem refuses the file.
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong: the key, the value and the limit.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.cure.as_deref()
    }

    /// The line it is on, from 1; 0 if it concerns the whole file.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The character of the line it starts at, from 1; 0 if it concerns the whole file.
    pub const fn column(&self) -> usize {
        self.column
    }
}

/// Collects problems in whatever order they are found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub fn error(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Error, span.into(), message.into())
    }

    pub fn warning(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Warning, span.into(), message.into())
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }

    /// Puts the problems in the order of the file, finds their lines, and makes all of it fit for a terminal.
    pub fn into_report(mut self, name: &str, text: &str) -> Report {
        self.0.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let shown = escape::Source::new(text);
        let place = |span: &Span| shown.place(span.start)..shown.place(span.end);
        for problem in &mut self.0 {
            problem.message = escape::line(&problem.message).into_owned();
            problem.cure = problem.cure.as_deref().map(|cure| escape::line(cure).into_owned());
            problem.earlier = problem.earlier.as_ref().map(place);
            if let Some(span) = &problem.span {
                let line = line_starts.partition_point(|&start| start <= span.start);
                let before = text.get(line_starts[line - 1]..span.start).unwrap_or_default();
                (problem.line, problem.column) = (line, before.chars().count() + 1);
                problem.span = Some(place(span));
            }
        }
        Report { source: NamedSource::new(escape::line(name), shown.text), problems: self.0 }
    }

    fn add(&mut self, severity: Severity, span: Option<Span>, message: String) -> &mut Problem {
        let problem = Problem { severity, message, cure: None, span, earlier: None, line: 0, column: 0 };
        self.0.push_mut(problem)
    }
}

/// All problems of one file, in its order.
///
/// As text (`{}`) one line each: `FILE:LINE:COLUMN: error: what is wrong (the cure)`. What a file or its name
/// has of control bytes is escaped wherever it is shown.
#[derive(Clone, Debug)]
pub struct Report {
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// What a usable file's writer may have meant otherwise; empty if nothing is odd.
pub type Warnings = Report;

/// Why a file is refused: at least one error, and the warnings besides.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigErrors(pub Report);

/// How [`Report::render`] draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For a terminal: box characters and colours.
    Colour,
    /// For a terminal without colours.
    Plain,
    /// For files and pipes: ASCII.
    Ascii,
}

impl Report {
    /// The file's name as it was given, fit for a terminal.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// The problems in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many problems of this severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|p| p.severity == severity).count()
    }

    /// One line for each problem, in the order of the file.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| self.line(problem))
    }

    /// Draws each problem under its lines of the file, for people.
    pub fn render(&self, style: Style) -> String {
        let theme = match style {
            Style::Colour => GraphicalTheme::unicode(),
            Style::Plain => GraphicalTheme::unicode_nocolor(),
            Style::Ascii => {
                GraphicalTheme { characters: ThemeCharacters::ascii(), styles: ThemeStyles::none() }
            }
        };
        let painter = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_context_lines(1);
        let mut out = String::new();
        for (index, problem) in self.problems.iter().enumerate() {
            let before = out.len();
            let picture = Picture { report: self, problem };
            // A painter that fails must not hide the error: the plain line says the same.
            if index >= MAX_PICTURES || painter.render_report(&mut out, &picture).is_err() {
                out.truncate(before);
                out.push_str(&self.line(problem));
            }
            out.push('\n');
        }
        out
    }

    fn line(&self, problem: &Problem) -> String {
        let place = match problem.line {
            0 => self.name().to_owned(),
            line => format!("{}:{line}:{}", self.name(), problem.column),
        };
        let cure = problem.cure.as_ref().map(|cure| format!(" ({cure})")).unwrap_or_default();
        format!("{place}: {}: {}{cure}", problem.severity, problem.message)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

/// A problem together with the text it is about, as miette draws it.
#[derive(Debug)]
struct Picture<'a> {
    report: &'a Report,
    problem: &'a Problem,
}

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problem.span.is_none() {
            write!(f, "{}: ", self.report.name())?;
        }
        write!(f, "{}: {}", self.problem.severity, self.problem.message)
    }
}

impl std::error::Error for Picture<'_> {}

impl Diagnostic for Picture<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.cure.as_ref().map(|cure| Box::new(cure) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.span.as_ref().map(|_| &self.report.source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here = self.problem.span.clone()?;
        let earlier = self.problem.earlier.clone();
        let first = earlier.map(|span| LabeledSpan::new_with_span(Some("first here".into()), span));
        let label = first.is_some().then(|| "again here".to_owned());
        Some(Box::new([LabeledSpan::new_primary_with_span(label, here)].into_iter().chain(first)))
    }
}
