//! `config show`, `config schema`: what is in force, and what may be written.

use edgelogger_common::config::show::{Flagged, render, settings};
use edgelogger_common::config::{Source, process_environment};

use super::arguments::{ConfigArguments, ConfigCommand};
use super::{FAILED, Failure};
use crate::config::{AgentConfig, Overrides, schema};

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn config(command: &ConfigCommand) -> Result<u8, Failure> {
    let text = match command {
        ConfigCommand::Show { config, json } => show(config, *json)?,
        ConfigCommand::Schema => pretty(&schema())?,
    };
    print!("{text}");
    Ok(0)
}

fn show(arguments: &ConfigArguments, json: bool) -> Result<String, Failure> {
    let config = arguments.load()?;
    config.check()?;
    let source = arguments.file().map(Source::read).transpose()?;
    if let Some(source) = &source {
        // A mistake is told here, and not found missing below.
        source.parse::<AgentConfig>(&process_environment)?;
    }
    let flags = flagged(&arguments.overrides(), &config);
    let settings =
        settings(&config, source.as_ref(), &flags).map_err(|error| Failure::new(FAILED, &error))?;
    if json {
        pretty(&settings)
    } else {
        Ok(render(&settings))
    }
}

fn pretty<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(FAILED, &error))?;
    Ok(text + "\n")
}

/// What the flags set, and in which part.
fn flagged(flags: &Overrides, config: &AgentConfig) -> Vec<Flagged> {
    let last_file = config.source.file.len().saturating_sub(1);
    let set = [
        (
            flags.collector.is_some(),
            "collector.url".to_owned(),
            "--collector",
        ),
        (flags.ca.is_some(), "collector.ca".to_owned(), "--ca"),
        (
            flags.token_file.is_some(),
            "collector.token_file".to_owned(),
            "--token-file",
        ),
        (flags.state_dir.is_some(), "state_dir".to_owned(), "--state-dir"),
        (
            !flags.files.is_empty(),
            format!("source.file[{last_file}].include"),
            "--file",
        ),
    ];
    let labels = flags
        .labels
        .iter()
        .map(|(name, _)| (format!("labels.{name}"), "--label"));
    set.into_iter()
        .filter(|(is_set, ..)| *is_set)
        .map(|(_, path, flag)| (path, flag))
        .chain(labels)
        .collect()
}
