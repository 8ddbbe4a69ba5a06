//! Configuration: TOML in, a typed value out, and for every mistake the place and the way to correct it.
//!
//! ```text
//! file ─ Source::read ─▶ text ─ parse ─▶ tree with spans ─ expand ${ENV} ─▶ tree ─ serde ─▶ T ─ the program's checks ─▶ what runs
//! ```
//!
//! - Variables are expanded in string *values of the tree*, never in the text: the spans that errors point at
//!   stay those of the file, and a variable cannot smuggle in another key or table.
//! - Unknown keys are refused: give every struct `#[serde(deny_unknown_fields)]`. Avoid `flatten`, `untagged`
//!   and internally tagged enums in configuration types: serde buffers them and loses the place.
//! - A program's own checks (ranges, paths, settings that exclude each other) keep the place by
//!   [`Located`] fields and [`ConfigError::at`].
//!
//! | file | what |
//! | --- | --- |
//! | `expand.rs` | `${ENV}` in strings, pure |
//! | `complaint.rs` | from serde's messages to sentences for people, pure |
//! | `error.rs` | the error, its place and how it is rendered |
//! | `located.rs` | a value that remembers where it was written |
//! | `quantity.rs` | number and unit, for sizes and durations |
//! | `show.rs` | what is in force, and where it came from |
//! | `reload.rs` | what changes while a program runs |
//! | `reference.rs` | its JSON Schema, and a page for people |

mod complaint;
mod error;
mod expand;
mod located;
pub(crate) mod quantity;
mod reference;
mod reload;
pub mod show;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use error::ConfigError;
pub use located::Located;
pub use reference::{assert_current, reference, schema};
pub use reload::{Changes, does_reload};

use crate::error_code;
use expand::{ExpandError, expand};

/// Largest configuration that is read. A real one has a few KiB; what is larger is some other file, and is
/// refused before it fills the memory.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Where variables are looked up: by name, `None` when unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a configuration file, with variables from the environment of the process.
pub fn load<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ConfigError> {
    Source::read(path)?.parse(&process_environment)
}

/// Reads a configuration from a text; `name` stands for the file in messages.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str, lookup: Lookup<'_>) -> Result<T, ConfigError> {
    Source::new(name, text).parse(lookup)
}

/// A variable of the process; one that is not UTF-8 counts as unset.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of a configuration and its name, kept so that later checks can point into it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// A source that is already in memory.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Reads a file of at most [`CONFIG_BYTES_MAX`] bytes.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| ConfigError::unreadable(path, &error))?;
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::too_large(path));
        }
        let name = path.display().to_string();
        String::from_utf8(bytes)
            .map(|text| Self::new(&name, &text))
            .map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let shown = Self::new(&name, &String::from_utf8_lossy(error.as_bytes()));
                // The bytes before the bad one are the same in both texts; it became U+FFFD, three bytes long.
                ConfigError::new(error_code::CONFIG_SYNTAX, "the file is not UTF-8 text")
                    .pointing(&shown, Some(at..at + 3), "not UTF-8")
                    .with_help("save the file as UTF-8")
            })
    }

    /// What messages call it: the path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Turns the text into a value.
    pub fn parse<T: DeserializeOwned>(&self, lookup: Lookup<'_>) -> Result<T, ConfigError> {
        let mut root = DeTable::parse(&self.text).map_err(|error| {
            ConfigError::new(
                error_code::CONFIG_SYNTAX,
                format!("not valid TOML: {}", error.message()),
            )
            .pointing(self, error.span(), "here")
        })?;
        self.expand_table(root.get_mut(), lookup)?;
        // Deserializing consumes the tree; the copy tells which key an error's span belongs to.
        let tree = root.get_ref().clone();
        T::deserialize(toml::Deserializer::from(root))
            .map_err(|error| complaint::explain(self, &tree, error.message(), error.span()))
    }

    fn expand_table(&self, table: &mut DeTable<'_>, lookup: Lookup<'_>) -> Result<(), ConfigError> {
        table
            .iter_mut()
            .try_for_each(|(_, value)| self.expand_value(value, lookup))
    }

    fn expand_value(&self, value: &mut Spanned<DeValue<'_>>, lookup: Lookup<'_>) -> Result<(), ConfigError> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => {
                match expand(text, lookup) {
                    Ok(None) => {}
                    Ok(Some(expanded)) => *text = expanded.into(),
                    Err(error) => return Err(self.expansion_error(&error, span)),
                }
                Ok(())
            }
            DeValue::Table(table) => self.expand_table(table, lookup),
            DeValue::Array(values) => values
                .iter_mut()
                .try_for_each(|value| self.expand_value(value, lookup)),
            _ => Ok(()),
        }
    }

    fn expansion_error(&self, error: &ExpandError, span: Range<usize>) -> ConfigError {
        let span = self.narrow(span, error.needle());
        match error {
            ExpandError::Unset { name } => ConfigError::new(
                error_code::CONFIG_VARIABLE_UNSET,
                format!("the environment variable {name} is not set"),
            )
            .pointing(self, Some(span), "used here")
            .with_help(format!(
                "set {name} for the service, or give a default: ${{{name}:-default}}; a literal ${{ is written $${{"
            )),
            ExpandError::Malformed { .. } => {
                ConfigError::new(error_code::CONFIG_SYNTAX, "`${` does not begin a variable here")
                    .pointing(self, Some(span), "expected ${NAME} or ${NAME:-default}")
                    .with_help("a literal ${ is written $${")
            }
        }
    }

    /// The part of `span` that reads `needle`, or all of it (escapes can make the written form differ).
    fn narrow(&self, span: Range<usize>, needle: &str) -> Range<usize> {
        match self
            .text
            .get(span.clone())
            .and_then(|written| written.find(needle))
        {
            Some(at) => span.start + at..span.start + at + needle.len(),
            None => span,
        }
    }
}
