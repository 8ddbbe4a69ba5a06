//! What an operator can say about journald.

use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a journal is read from when this source runs for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JournaldStart {
    /// From its first entry.
    Beginning,
    /// From the start of this boot.
    Boot,
    /// Only what is written from now on.
    End,
}

/// A syslog priority, 0 (emerg) to 7 (debug); written as word or digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    const WORDS: [&'static str; 8] = [
        "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
    ];

    /// 0 to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Text that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no priority; write one of emerg, alert, crit, err, warning, notice, info, debug, or 0 to 7"
)]
pub struct PriorityError(String);

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, PriorityError> {
        let number = Self::WORDS.iter().position(|word| *word == text);
        let number = number
            .and_then(|at| u8::try_from(at).ok())
            .or_else(|| text.parse().ok());
        number
            .filter(|number| *number <= 7)
            .map(Self)
            .ok_or_else(|| PriorityError(text.to_owned()))
    }
}

impl Serialize for Priority {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::WORDS[usize::from(self.0)])
    }
}

impl JsonSchema for Priority {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Priority".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "title": "priority: emerg, alert, crit, err, warning, notice, info, debug, or `\"0\"` to `\"7\"`",
            "type": "string"
        })
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The journald source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournaldConfig {
    /// Where to begin at the first run. Default: "boot"; with `directory` (a journal of another machine)
    /// "beginning".
    pub start: Option<JournaldStart>,
    /// Keep only entries of these units (`nginx` means `nginx.service`), and what systemd says about them.
    pub units: Vec<String>,
    /// Drop entries of these units.
    pub exclude_units: Vec<String>,
    /// Keep only entries with these syslog identifiers.
    pub identifiers: Vec<String>,
    /// Keep only entries of this priority and more urgent ones; entries without a priority are kept.
    pub priority_max: Option<Priority>,
    /// Further journal fields to keep, as attributes `journald.NAME` in lower case.
    pub fields: Vec<String>,
    /// Read the journal files in this directory instead of the machine's.
    pub directory: Option<PathBuf>,
    /// Read this journal namespace instead of the default one.
    pub namespace: Option<String>,
    /// The program. Default: `journalctl` from the PATH.
    pub journalctl: Option<PathBuf>,
}

impl JournaldConfig {
    /// The stream's name: what every row shows as its source.
    #[must_use]
    pub fn stream_name(&self) -> String {
        match (&self.directory, &self.namespace) {
            (Some(directory), _) => format!("journald:{}", directory.display()),
            (None, Some(namespace)) => format!("journald@{namespace}"),
            (None, None) => "journald".to_owned(),
        }
    }

    pub(super) fn start(&self) -> JournaldStart {
        let default = if self.directory.is_some() {
            JournaldStart::Beginning
        } else {
            JournaldStart::Boot
        };
        self.start.unwrap_or(default)
    }
}

/// `nginx` as systemd writes it: `nginx.service`.
pub(super) fn full_unit_name(unit: &str) -> String {
    const TYPES: [&str; 11] = [
        ".service",
        ".socket",
        ".device",
        ".mount",
        ".automount",
        ".swap",
        ".target",
        ".path",
        ".timer",
        ".slice",
        ".scope",
    ];
    if TYPES.iter().any(|suffix| unit.ends_with(suffix)) {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgelogger_common::config::parse;

    #[test]
    fn a_priority_is_a_word_or_a_digit() {
        assert_eq!("warning".parse::<Priority>().map(Priority::number), Ok(4));
        assert_eq!("7".parse::<Priority>().map(Priority::number), Ok(7));
        for text in ["8", "-1", "warn", "", "INFO"] {
            assert!(text.parse::<Priority>().is_err(), "{text}");
        }
    }

    #[test]
    fn everything_has_a_default_and_unknown_keys_are_refused() {
        let config: JournaldConfig =
            parse("t", "priority_max = 'info'\nunits = ['nginx']", &|_| None).unwrap();
        assert_eq!(config.start(), JournaldStart::Boot);
        assert!(parse::<JournaldConfig>("t", "unit = ['nginx']", &|_| None).is_err());
    }

    #[test]
    fn a_unit_without_a_type_is_a_service() {
        assert_eq!(full_unit_name("nginx"), "nginx.service");
        assert_eq!(full_unit_name("my.app"), "my.app.service");
        assert_eq!(full_unit_name("dbus.socket"), "dbus.socket");
    }
}
