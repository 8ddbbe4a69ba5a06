use clap::{CommandFactory, Parser};

use super::*;

fn load(words: &[&str]) -> Result<crate::config::AgentConfig, String> {
    let all = ["edgelogger-agent", "run"].iter().chain(words);
    match Arguments::try_parse_from(all)
        .map_err(|error| error.to_string())?
        .command
    {
        Command::Run(run) => run.config.load().map_err(|failure| failure.message),
        other => panic!("expected run, got {other:?}"),
    }
}

#[test]
fn the_definition_of_the_commands_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn the_help_of_each_command_begins_with_examples() {
    for name in [
        "run", "check", "status", "files", "audit", "spool", "rewind", "explain",
    ] {
        let mut command = Arguments::command();
        let help = command
            .find_subcommand_mut(name)
            .unwrap()
            .render_help()
            .to_string();
        assert!(help.starts_with("Examples:\n  edgelogger-agent"), "{help}");
        assert!(help.contains("Exit codes:"), "{help}");
    }
}

#[test]
fn run_works_from_flags_alone() {
    let config = load(&[
        "--collector",
        "wss://c:7443",
        "--ca",
        "ca.pem",
        "--token-file",
        "token",
        "--file",
        "/a",
        "--file",
        "/b",
        "--journald",
        "--host-metrics",
        "--state-dir",
        "/s",
        "--label",
        "site=a=b",
    ])
    .unwrap();
    config.check().unwrap();
    assert_eq!(config.source.file[0].include, ["/a", "/b"]);
    assert!(config.source.journald.is_some() && config.source.host_metrics.is_some());
    assert_eq!(config.labels["site"], "a=b");
    assert_eq!(config.state_dir.to_str(), Some("/s"));
}

#[test]
fn what_is_missing_is_said_with_the_flag_that_gives_it() {
    assert!(load(&["--collector", "wss://c"]).unwrap_err().contains("--ca"));
    assert!(
        load(&["--label", "no value", "--collector", "c"])
            .unwrap_err()
            .contains("NAME=VALUE")
    );
    assert!(
        load(&["--config", "/nowhere/agent.toml"])
            .unwrap_err()
            .contains("/nowhere/agent.toml")
    );
}

#[test]
fn the_help_of_each_command_of_the_spool_begins_with_examples() {
    let mut command = Arguments::command();
    let spool = command.find_subcommand_mut("spool").unwrap();
    for name in ["ls", "verify", "repair", "export"] {
        let help = spool.find_subcommand_mut(name).unwrap().render_help().to_string();
        assert!(help.starts_with("Examples:\n  edgelogger-agent spool"), "{help}");
    }
}
