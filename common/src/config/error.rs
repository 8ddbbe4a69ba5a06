//! The one error of configuration: what is wrong, where, and what to write instead.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

use super::{CONFIG_BYTES_MAX, Source};
use crate::error_code::{self, ErrorCode};

/// Width that rendered errors wrap at, in columns.
const RENDER_WIDTH: usize = 100;

/// A mistake in a configuration.
///
/// `{}` is the message alone, `{:#}` puts `file:line:column: ` before it (for a log line), and
/// [`render`](Self::render) draws the line with the place underlined (for a terminal). The text of the file
/// is only ever shown around the mistake.
#[derive(Debug)]
pub struct ConfigError(Box<Details>);

#[derive(Debug)]
struct Details {
    code: ErrorCode,
    message: String,
    help: Option<String>,
    place: Option<Place>,
}

/// A range of a source, and what to write under it.
#[derive(Debug)]
struct Place {
    source: Source,
    /// Within the text, on character boundaries.
    span: Range<usize>,
    label: String,
}

impl ConfigError {
    /// A setting that is well formed but cannot be used, found by the program's own checks. Without a span
    /// (a default that nobody wrote) the error names the file only.
    #[must_use]
    pub fn at(
        source: &Source,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::new(error_code::CONFIG_INVALID, message)
            .pointing(source, span, "here")
            .with_help(help)
    }

    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            code,
            message: message.into(),
            help: None,
            place: None,
        }))
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    pub(super) fn pointing(
        mut self,
        source: &Source,
        span: Option<Range<usize>>,
        label: impl Into<String>,
    ) -> Self {
        match span {
            Some(span) => {
                let span = underlined(source.text(), span);
                self.0.place = Some(Place {
                    source: source.clone(),
                    span,
                    label: label.into(),
                });
            }
            None => self.0.message = format!("{}: {}", source.name(), self.0.message),
        }
        self
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        if error.kind() == io::ErrorKind::NotFound {
            return Self::new(
                error_code::CONFIG_NOT_FOUND,
                format!("there is no configuration file {path}"),
            );
        }
        let message = format!("the configuration file {path} cannot be read: {error}");
        Self::new(error_code::CONFIG_UNREADABLE, message)
    }

    pub(super) fn too_large(path: &Path) -> Self {
        let (path, limit) = (path.display(), crate::size::ByteSize::bytes(CONFIG_BYTES_MAX));
        let message = format!("{path} is larger than {limit}, the limit of a configuration");
        Self::new(error_code::CONFIG_TOO_LARGE, message)
    }

    /// The stable code.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        self.0.code
    }

    /// What to do about it, for this very mistake if that is known.
    #[must_use]
    pub fn advice(&self) -> &str {
        self.0.help.as_deref().unwrap_or(self.0.code.help)
    }

    /// Line and column of the mistake, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let place = self.0.place.as_ref()?;
        let text = place.source.text();
        let line_start = line_of(text, place.span.start).start;
        let line = text[..line_start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((line, text[line_start..place.span.start].chars().count() + 1))
    }

    /// The error as several lines of text: code, message, the marked line of the file, and what to do.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(RENDER_WIDTH)
            .with_context_lines(1)
            .with_links(false);
        let mut out = String::new();
        match handler.render_report(&mut out, self) {
            Ok(()) => out,
            Err(fmt::Error) => format!("{self:#}\n{}\n", self.advice()),
        }
    }
}

/// A span that can be underlined: on character boundaries, on one line, and not empty where there is
/// something to underline. A table's span may cover all its lines; its first says enough.
fn underlined(text: &str, span: Range<usize>) -> Range<usize> {
    let start = (0..=span.start.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let line_end = text[start..]
        .find(['\n', '\r'])
        .map_or(text.len(), |at| start + at);
    let end = span.end.clamp(start, line_end);
    let end = (end..=line_end)
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(line_end);
    // Nothing can be drawn under the end of a line: mark the character before it.
    let last = text[..start]
        .chars()
        .next_back()
        .filter(|c| *c != '\n')
        .map_or(0, char::len_utf8);
    if start == line_end {
        start - last..end
    } else {
        start..end
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate()
            && let Some((place, (line, column))) = self.0.place.as_ref().zip(self.line_column())
        {
            write!(f, "{}:{line}:{column}: ", place.source.name())?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.0.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.advice()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0
            .place
            .as_ref()
            .map(|place| &place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.0.place.as_ref()?;
        let label = LabeledSpan::new_with_span(Some(place.label.clone()), place.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Shows the marked line and no neighbours, whatever context is asked for: the line above may hold a password.
impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        _context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Without context it asks for the place alone, to print line and column.
        let whole_line = context_lines_before > 0;
        let span = if whole_line {
            line_of(self.text(), span.offset()).into()
        } else {
            *span
        };
        let contents = self.text().read_span(&span, 0, 0)?;
        let line_start = line_of(self.text(), span.offset()).start;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name().to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            // Counted in characters, as editors do; the text's own implementation counts bytes.
            self.text()[line_start..span.offset()].chars().count(),
            contents.line_count(),
        )))
    }
}

/// The line that this offset is on, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..end
}
