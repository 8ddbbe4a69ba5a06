//! What an operator can say about a file source.

use edgelogger_common::duration::HumanDuration;
use edgelogger_common::size::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Longest line that is kept whole, unless configured: what the collector takes as a record at most.
pub const LINE_BYTES_MAX_DEFAULT: ByteSize = ByteSize::kib(256);
/// Largest setting of `line_bytes_max`. The read buffer must hold a whole line, so this bounds the memory.
pub const LINE_BYTES_MAX_LIMIT: ByteSize = ByteSize::mib(1);
/// Smallest setting of `line_bytes_max`: below it a setting is a typing error (a missing unit).
pub const LINE_BYTES_MAX_LEAST: ByteSize = ByteSize::bytes(64);

/// Where a file that was there before the agent is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From its first line.
    #[default]
    Beginning,
    /// From its end: only what is written from now on. What is skipped gets a receipt.
    End,
}

/// One file source: which files, and how they are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSourceConfig {
    /// Which files: globs. `*` and `?` stay within one name, `**` is any number of directories.
    pub include: Vec<String>,
    /// Which of them not: globs of paths, or of names where there is no `/` in them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Where files are read from that are there when this source runs for the first time. A file that appears
    /// later is always read from its beginning.
    #[serde(default)]
    pub start: Start,
    /// Skip what a file holds that was last written longer ago than this when it is found.
    #[serde(default)]
    pub ignore_older: Option<HumanDuration>,
    /// How often directories and files are looked at without being told of a change.
    #[serde(default = "defaults::rescan_interval")]
    pub rescan_interval: HumanDuration,
    /// A longer line is cut to this and flagged; its full length is kept.
    #[serde(default = "defaults::line_bytes_max")]
    pub line_bytes_max: ByteSize,
    /// A last line without a line feed is sent after it has not grown for this long.
    #[serde(default = "defaults::partial_line_timeout")]
    pub partial_line_timeout: HumanDuration,
    /// Disk space that deleted files may keep occupied because they are not read to their end. Default: 1 GiB or
    /// 5 % of the file system, whichever is less.
    #[serde(default)]
    pub hold_bytes_max: Option<ByteSize>,
    /// How long a deleted file is held open for being read at most.
    #[serde(default = "defaults::hold_age_max")]
    pub hold_age_max: HumanDuration,
    /// Files open at the same time. Deleted files that are held come on top, at most as many again.
    #[serde(default = "defaults::open_files_max")]
    pub open_files_max: usize,
    /// Files that are followed. What is found beyond is reported and not read.
    #[serde(default = "defaults::files_max")]
    pub files_max: usize,
    /// Read files too that look binary.
    #[serde(default)]
    pub allow_binary: bool,
    /// Write to the spool what is gone with a deleted or moved file and not acknowledged.
    #[serde(default)]
    pub spool_before_loss: bool,
}

mod defaults {
    use super::{ByteSize, HumanDuration, LINE_BYTES_MAX_DEFAULT};

    pub(super) const fn rescan_interval() -> HumanDuration {
        HumanDuration::from_secs(10)
    }
    pub(super) const fn line_bytes_max() -> ByteSize {
        LINE_BYTES_MAX_DEFAULT
    }
    pub(super) const fn partial_line_timeout() -> HumanDuration {
        HumanDuration::from_secs(5)
    }
    pub(super) const fn hold_age_max() -> HumanDuration {
        HumanDuration::from_secs(3600)
    }
    /// A quarter of the 1,024 descriptors that a service has by default.
    pub(super) const fn open_files_max() -> usize {
        256
    }
    /// About 500 bytes of memory each.
    pub(super) const fn files_max() -> usize {
        100_000
    }
}

impl FileSourceConfig {
    /// Relative globs are relative to this folder; an exclude without a slash is a name anywhere.
    pub fn resolve(&mut self, dir: &Path) {
        let folder = globset::escape(&dir.display().to_string());
        let is_relative = |glob: &&mut String| !glob.is_empty() && !glob.starts_with('/');
        let excluded_paths = self.exclude.iter_mut().filter(|glob| glob.contains('/'));
        for glob in self.include.iter_mut().chain(excluded_paths).filter(is_relative) {
            *glob = Path::new(&folder).join(&*glob).display().to_string();
        }
    }

    /// The defaults for these globs.
    #[must_use]
    pub fn new(include: Vec<String>) -> Self {
        Self {
            include,
            exclude: Vec::new(),
            start: Start::default(),
            ignore_older: None,
            rescan_interval: defaults::rescan_interval(),
            line_bytes_max: defaults::line_bytes_max(),
            partial_line_timeout: defaults::partial_line_timeout(),
            hold_bytes_max: None,
            hold_age_max: defaults::hold_age_max(),
            open_files_max: defaults::open_files_max(),
            files_max: defaults::files_max(),
            allow_binary: false,
            spool_before_loss: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_common::config::parse;

    use super::*;

    #[test]
    fn globs_alone_are_a_configuration() {
        let config: FileSourceConfig = parse("t", "include = ['/var/log/*.log']", &|_| None).unwrap();
        assert_eq!(config, FileSourceConfig::new(vec!["/var/log/*.log".to_owned()]));
    }

    #[test]
    fn every_setting_can_be_written_with_its_unit() {
        let text = "include = ['/a']\nexclude = ['*.gz']\nstart = 'end'\nignore_older = '2d'\nrescan_interval = '30s'\n\
             line_bytes_max = '64KiB'\npartial_line_timeout = '1s'\nhold_bytes_max = '10MiB'\nhold_age_max = '5m'\n\
             open_files_max = 8\nfiles_max = 9\nallow_binary = true\nspool_before_loss = true";
        let config: FileSourceConfig = parse("t", text, &|_| None).unwrap();
        assert_eq!(config.start, Start::End);
        assert_eq!(config.line_bytes_max, ByteSize::kib(64));
        assert_eq!(config.hold_age_max, HumanDuration::from_secs(300));
        assert!(config.spool_before_loss);
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        assert!(parse::<FileSourceConfig>("t", "include = ['/a']\nexlude = []", &|_| None).is_err());
    }
}
