use edgelogger_common::config::parse;

use super::*;

const COMMENTED: &str = include_str!("../../../config/agent.toml");

fn parsed(text: &str) -> Result<AgentConfig, String> {
    parse("agent.toml", text, &|_| Some("x".to_owned())).map_err(|error: ConfigError| error.to_string())
}

/// Takes the comment sign off every line that looks like a setting.
fn uncommented() -> String {
    let is_setting = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        line.contains('=')
            && !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_\"".contains(c))
            || (line.starts_with('[') && line.ends_with(']'))
    };
    COMMENTED
        .lines()
        .map(
            |line| match line.strip_prefix("# ").or_else(|| line.strip_prefix('#')) {
                Some(rest) if is_setting(rest) => rest,
                _ => line,
            },
        )
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_is_read_as_it_stands() {
    parsed(COMMENTED).unwrap().check().unwrap();
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let config = parsed(&uncommented()).unwrap_or_else(|error| panic!("{error}\n{}", uncommented()));
    let plain = AgentConfig::new(config.collector.clone());
    assert_eq!(config.batch, plain.batch);
    assert_eq!(config.memory, plain.memory);
    assert_eq!(config.log.format, plain.log.format);
    assert_eq!(config.shutdown_timeout, plain.shutdown_timeout);
    assert_eq!(
        config.collector.in_flight_bytes,
        CollectorConfig::new("c", "ca").in_flight_bytes
    );
    assert_eq!(config.source.host_metrics, Some(HostMetricsConfig::default()));
    assert!(!config.keeps_files(), "it is for the operator to say");
    for key in [
        "state_dir",
        "shutdown_timeout",
        "url",
        "ca",
        "token",
        "token_file",
        "server_name",
        "in_flight_bytes",
        "connect_timeout",
        "max_age",
        "bytes",
        "codec",
        "ring_bytes",
        "format",
        "filter",
        "include",
        "exclude",
        "start",
        "ignore_older",
        "rescan_interval",
        "line_bytes_max",
        "partial_line_timeout",
        "hold_bytes_max",
        "hold_age_max",
        "open_files_max",
        "files_max",
        "allow_binary",
        "spool_before_loss",
        "units",
        "exclude_units",
        "identifiers",
        "priority_max",
        "fields",
        "directory",
        "namespace",
        "journalctl",
        "interval",
        "cpu",
        "per_cpu",
        "load",
        "memory",
        "file_systems",
        "disks",
        "network",
        "temperatures",
        "exclude_interfaces",
        "exclude_mount_points",
    ] {
        assert!(
            uncommented()
                .lines()
                .any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is not in the example"
        );
    }
}

#[test]
fn unknown_keys_are_refused() {
    for text in [
        "stat_dir = '/x'",
        "[batch]\nmaxage = '1s'",
        "[source.journal]",
        "[[source.file]]\npaths = ['/a']",
    ] {
        let text = format!("{text}\n[collector]\nurl = 'wss://c'\nca = 'ca.pem'");
        assert!(parsed(&text).is_err(), "{text}");
    }
}

fn flags() -> Overrides {
    Overrides {
        collector: Some("wss://c:7443".into()),
        ca: Some("ca.pem".into()),
        token_file: Some("token".into()),
        files: vec!["/var/log/*.log".into()],
        ..Overrides::default()
    }
}

#[test]
fn flags_alone_are_a_configuration() {
    let config = AgentConfig::from_flags(&Overrides {
        labels: vec![("site".into(), "a".into())],
        ..flags()
    })
    .unwrap();
    config.check().unwrap();
    assert_eq!(config.source.file.len(), 1);
    assert_eq!(config.labels.get("site").map(String::as_str), Some("a"));
}

#[test]
fn flags_win_over_a_file() {
    let text = "[collector]\nurl = 'wss://file'\nca = 'file.pem'\ntoken = 'secret'\n[source.journald]\nunits = ['a']";
    let mut config = parsed(text).unwrap();
    config.apply(&Overrides {
        journald: true,
        ..flags()
    });
    assert_eq!(config.collector.url, "wss://c:7443");
    assert_eq!(config.collector.token, None);
    assert_eq!(
        config
            .source
            .journald
            .as_ref()
            .map(|journald| journald.units.len()),
        Some(1)
    );
    config.check().unwrap();
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(
        &path,
        "state_dir = 'state'\n[collector]\nurl = 'c'\nca = 'ca.pem'\ntoken_file = '/token'\n\
         [[source.file]]\ninclude = ['logs/*.log', '/var/log/*.log']\nexclude = ['*.gz', 'logs/old.log']",
    )
    .unwrap();
    let config = AgentConfig::read(&path, &|_| None).unwrap();
    assert_eq!(config.state_dir, dir.path().join("state"));
    assert_eq!(config.collector.ca, dir.path().join("ca.pem"));
    assert_eq!(config.collector.token_file, Some("/token".into()));
    let here = |name: &str| dir.path().join(name).display().to_string();
    let files = &config.source.file[0];
    assert_eq!(files.include, [here("logs/*.log"), "/var/log/*.log".to_owned()]);
    assert_eq!(files.exclude, ["*.gz".to_owned(), here("logs/old.log")]);
}

#[test]
fn what_cannot_be_used_is_said_with_its_remedy() {
    let missing = AgentConfig::from_flags(&Overrides { ca: None, ..flags() })
        .unwrap_err()
        .to_string();
    assert!(missing.contains("--ca"), "{missing}");
    let check = |change: fn(&mut AgentConfig), expected: &str| {
        let mut config = AgentConfig::from_flags(&flags()).unwrap();
        change(&mut config);
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(
        |config| {
            let fields = vec!["a,b".into()];
            config.source.journald = Some(JournaldConfig {
                fields,
                ..JournaldConfig::default()
            });
        },
        "no name of a journal field",
    );
    check(
        |config| {
            let exclude_interfaces = vec!["[".into()];
            config.source.host_metrics = Some(HostMetricsConfig {
                exclude_interfaces,
                ..HostMetricsConfig::default()
            });
        },
        "[source.host_metrics]",
    );
    check(|config| config.source.file.clear(), "--journald");
    check(|config| config.collector.token_file = None, "--token-file");
    check(|config| config.collector.url = "http://c".into(), "wss://");
    check(|config| config.batch.bytes = ByteSize::bytes(1), "4 KiB to 8 MiB");
    check(
        |config| config.batch.max_age = HumanDuration::from_secs(7200),
        "max_age",
    );
    check(|config| config.batch.backfill_percent = 91, "0 to 90");
    check(|config| config.memory.ring_bytes = ByteSize::kib(1), "ring_bytes");
    check(
        |config| drop(config.labels.insert("a\n".into(), String::new())),
        "control",
    );
    check(
        |config| drop(config.labels.insert(String::new(), String::new())),
        "empty",
    );
}

#[test]
fn files_need_a_spool_that_has_room_for_their_lines() {
    let with = |bytes_max: &str, keeps: bool| {
        let text = format!(
            "[collector]\nurl = 'wss://c'\nca = 'ca.pem'\ntoken = 't'\n[spool]\nbytes_max = '{bytes_max}'\n\
             [[source.file]]\ninclude = ['/a']\nspool_before_loss = {keeps}"
        );
        parsed(&text).unwrap().check()
    };
    assert!(with("1 MiB", false).is_ok() && with("4 MiB", true).is_ok());
    let refused = with("3 MiB", true).unwrap_err().to_string();
    assert!(
        refused.contains("spool_before_loss") && refused.contains("4 MiB"),
        "{refused}"
    );
}
