//! The codec as an operator writes it.

use super::Codec;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Levels of zstd. Negative ones are faster; below -100 nothing is gained.
pub const ZSTD_LEVELS: RangeInclusive<i32> = -100..=22;
/// Levels of gzip; 0 stores.
pub const GZIP_LEVELS: RangeInclusive<i32> = 0..=9;

const ZSTD_LEVEL_DEFAULT: i32 = 3;
const GZIP_LEVEL_DEFAULT: i32 = 6;

/// A codec and how hard it tries. Parsed from and printed as `zstd:3`, `gzip:6`, `lz4`, `snappy`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecSetting {
    codec: Codec,
    level: i32,
}

impl CodecSetting {
    /// No compression.
    pub const NONE: Self = Self {
        codec: Codec::None,
        level: 0,
    };

    /// A codec at its default level.
    #[must_use]
    pub const fn default_of(codec: Codec) -> Self {
        let level = match codec {
            Codec::Zstd => ZSTD_LEVEL_DEFAULT,
            Codec::Gzip => GZIP_LEVEL_DEFAULT,
            Codec::None | Codec::Lz4 | Codec::Snappy => 0,
        };
        Self { codec, level }
    }

    /// A codec at a level.
    ///
    /// # Errors
    /// When the codec has no levels, or not this one.
    pub fn new(codec: Codec, level: i32) -> Result<Self, CodecSettingError> {
        let levels = levels(codec).ok_or(CodecSettingError::NoLevels { codec })?;
        if levels.contains(&level) {
            Ok(Self { codec, level })
        } else {
            Err(CodecSettingError::LevelOutOfRange {
                codec,
                level: level.to_string(),
                levels,
            })
        }
    }

    /// Which codec.
    #[must_use]
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// Its level; 0 for a codec without levels.
    #[must_use]
    pub const fn level(self) -> i32 {
        self.level
    }
}

fn levels(codec: Codec) -> Option<RangeInclusive<i32>> {
    match codec {
        Codec::Zstd => Some(ZSTD_LEVELS),
        Codec::Gzip => Some(GZIP_LEVELS),
        Codec::None | Codec::Lz4 | Codec::Snappy => None,
    }
}

impl Default for CodecSetting {
    fn default() -> Self {
        Self::default_of(Codec::Zstd)
    }
}

impl fmt::Display for CodecSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match levels(self.codec) {
            Some(_) => write!(f, "{}:{}", self.codec, self.level),
            None => self.codec.fmt(f),
        }
    }
}

impl FromStr for CodecSetting {
    type Err = CodecSettingError;

    fn from_str(text: &str) -> Result<Self, CodecSettingError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let codec = Codec::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| CodecSettingError::UnknownName {
                name: name.to_owned(),
            })?;
        let Some(level) = level else {
            return Ok(Self::default_of(codec));
        };
        let levels = levels(codec).ok_or(CodecSettingError::NoLevels { codec })?;
        match level.parse::<i32>() {
            Ok(number) if levels.contains(&number) => Ok(Self { codec, level: number }),
            _ => Err(CodecSettingError::LevelOutOfRange {
                codec,
                level: level.to_owned(),
                levels,
            }),
        }
    }
}

impl serde::Serialize for CodecSetting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for CodecSetting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for CodecSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CodecSetting".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "title": "codec, such as `\"zstd:1\"` or `\"lz4\"`",
            "type": "string"
        })
    }
}

/// Why a codec setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecSettingError {
    /// No such codec.
    #[error(
        "unknown codec `{name}`; write one of zstd, gzip, lz4, snappy, none, with a level as in `zstd:3`"
    )]
    UnknownName {
        /// What was written.
        name: String,
    },
    /// The codec has only one way to work.
    #[error("`{codec}` has no levels; write just `{codec}`")]
    NoLevels {
        /// Which.
        codec: Codec,
    },
    /// Not a number, or outside the codec's levels.
    #[error("`{level}` is not a level of {codec}; write `{codec}:` and a whole number from {} to {}", levels.start(), levels.end())]
    LevelOutOfRange {
        /// Of which codec.
        codec: Codec,
        /// What was written.
        level: String,
        /// What can be written.
        levels: RangeInclusive<i32>,
    },
}
