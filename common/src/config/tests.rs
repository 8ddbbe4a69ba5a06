//! What a person sees for each kind of mistake.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde::Deserialize;

use super::*;
use crate::duration::HumanDuration;
use crate::error_code::{self as code, ErrorCode};
use crate::size::ByteSize;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    #[serde(default)]
    ingest: Ingest,
    #[serde(default)]
    sources: Vec<FileSource>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Ingest {
    listen: Located<String>,
    port: u16,
    codec: Codec,
    buffer: ByteSize,
    timeout: HumanDuration,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Codec {
    #[default]
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct FileSource {
    path: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

fn lookup(name: &str) -> Option<String> {
    (name == "HOST").then(|| "machine-17".to_owned())
}

fn config(text: &str) -> Result<Config, ConfigError> {
    parse("edgelogger.toml", text, &lookup)
}

/// The rendered error without the spaces that end lines.
fn rendered(text: &str) -> String {
    let report = config(text).unwrap_err().render(false);
    report
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[track_caller]
fn check(text: &str, code: ErrorCode, one_line: &str) {
    let error = config(text).unwrap_err();
    let shown = format!("{error:#}");
    let shown = shown.strip_prefix("edgelogger.toml:").unwrap();
    assert_eq!((error.error_code().code, shown), (code.code, one_line));
}

#[test]
fn a_configuration_is_read_with_units_and_variables() {
    let text = r#"
        name = "${HOST}"
        [ingest]
        listen = "${ADDRESS:-0.0.0.0}"
        buffer = "64 MiB"
        timeout = "1m 30s"
        codec = "zstd"
        [[sources]]
        path = "/var/log/$${HOST}/*.log"
        labels = { host = "${HOST}" }
    "#;
    let config = config(text).unwrap();
    assert_eq!(config.name, "machine-17");
    assert_eq!(config.ingest.listen.as_str(), "0.0.0.0");
    assert_eq!(config.ingest.buffer, ByteSize::mib(64));
    assert_eq!(config.ingest.timeout, HumanDuration::from_secs(90));
    assert_eq!(config.ingest.codec, Codec::Zstd);
    assert_eq!(config.sources[0].path, "/var/log/${HOST}/*.log");
    assert_eq!(config.sources[0].labels["host"], "machine-17");
}

#[test]
fn an_unknown_key_is_marked_and_the_right_one_suggested() {
    assert_eq!(
        rendered("name = \"a\"\n\n[ingest]\nlisen = \"0.0.0.0\"\n"),
        r#"E0104

  × unknown key `lisen` in [ingest]
   ╭─[edgelogger.toml:4:1]
 4 │ lisen = "0.0.0.0"
   · ──┬──
   ·   ╰── not a key that EdgeLogger knows here
   ╰────
  help: did you mean `listen`?
"#
    );
}

#[test]
fn a_wrong_type_names_what_is_expected() {
    assert_eq!(
        rendered("name = \"a\"\n[ingest]\nport = \"http\"\n"),
        r#"E0105

  × `ingest.port` must be a whole number from 0 to 65535, not a string
   ╭─[edgelogger.toml:3:8]
 3 │ port = "http"
   ·        ───┬──
   ·           ╰── expected a whole number from 0 to 65535
   ╰────
  help: write a whole number from 0 to 65535
"#
    );
}

#[test]
fn an_unset_variable_is_marked_itself() {
    assert_eq!(
        rendered("name = \"machine-${RACK}-1\"\n"),
        r#"E0107

  × the environment variable RACK is not set
   ╭─[edgelogger.toml:1:19]
 1 │ name = "machine-${RACK}-1"
   ·                   ──┬─
   ·                     ╰── used here
   ╰────
  help: set RACK for the service, or give a default: ${RACK:-default}; a literal ${ is written $${
"#
    );
}

#[test]
fn a_syntax_error_is_marked() {
    assert_eq!(
        rendered("name = \"a\"\n[ingest\nport = 1\n"),
        r#"E0103

  × not valid TOML: unclosed table, expected `]`
   ╭─[edgelogger.toml:2:7]
 2 │ [ingest
   ·       ┬
   ·       ╰── here
   ╰────
  help: Correct the marked place. Strings need quotes, a table starts with [name], a list with
        [ and ends with ].
"#
    );
}

#[test]
fn every_mistake_has_a_code_and_its_place() {
    check(
        "",
        code::CONFIG_MISSING_KEY,
        " the required key `name` is missing",
    );
    check(
        "name = 5",
        code::CONFIG_WRONG_VALUE,
        "1:8: `name` must be a string in quotes, not 5",
    );
    check(
        "name = 'a'\ncolour = 1",
        code::CONFIG_UNKNOWN_KEY,
        "2:1: unknown key `colour`",
    );
    check(
        "name = 'a'\n[ingest]\nport = 70000",
        code::CONFIG_WRONG_VALUE,
        "3:8: `ingest.port` must be a whole number from 0 to 65535, not 70000",
    );
    check(
        "name = 'a'\n[ingest]\ncodec = 'lz5'",
        code::CONFIG_WRONG_VALUE,
        "3:9: `ingest.codec` cannot be `lz5`",
    );
    check(
        "name = 'a'\n[ingest]\nbuffer = '64M'",
        code::CONFIG_WRONG_VALUE,
        "3:10: `ingest.buffer`: the unit of `64M` can be read in two ways; write MiB (powers of 1,024) or MB (powers of 1,000)",
    );
    check(
        "name = 'a'\n[ingest]\ntimeout = 30",
        code::CONFIG_WRONG_VALUE,
        "3:11: `ingest.timeout`: `30` has no unit; write for example \"30s\" or \"30ms\"",
    );
    check(
        "name = 'a'\n[ingest]\ntimeout = true",
        code::CONFIG_WRONG_VALUE,
        "3:11: `ingest.timeout` must be a duration with its unit, such as \"500ms\" or \"5m\", not true",
    );
    check(
        "name = 'a'\n[[sources]]\n[[sources]]\npath = 'b'",
        code::CONFIG_MISSING_KEY,
        "2:1: the required key `path` is missing in `sources[0]`",
    );
    check(
        "name = 'a'\nsources = [{ path = 'a', pth = 'b' }]",
        code::CONFIG_UNKNOWN_KEY,
        "2:26: unknown key `pth` in `sources[0]`",
    );
    check(
        "name = 'a'\nsources = 'x'",
        code::CONFIG_WRONG_VALUE,
        "2:11: `sources` must be a list in [ ], not a string",
    );
    check(
        "name = 'a'\ningest = 'x'",
        code::CONFIG_WRONG_VALUE,
        "2:10: `ingest` must be a table, not a string",
    );
    check(
        "name = 'a'\nname = 'b'",
        code::CONFIG_SYNTAX,
        "2:1: not valid TOML: duplicate key",
    );
    check(
        "name = 'ä${",
        code::CONFIG_SYNTAX,
        "1:11: not valid TOML: invalid literal string, expected `'`",
    );
    check(
        "name = 'ä${'",
        code::CONFIG_SYNTAX,
        "1:10: `${` does not begin a variable here",
    );
    check(
        "name = \"\\u0024{RACK}\"",
        code::CONFIG_VARIABLE_UNSET,
        "1:16: the environment variable RACK is not set",
    );
    check(
        "name = 'a'\n[[sources]]\npath = 'b'\nlabels.a = 1",
        code::CONFIG_WRONG_VALUE,
        "4:12: `sources[0].labels.a` must be a string in quotes, not 1",
    );
}

#[test]
fn a_check_after_parsing_points_at_the_value() {
    let text = "name = \"a\"\n[ingest]\nlisten = \"nowhere\"\n";
    let source = Source::new("edgelogger.toml", text);
    let config: Config = source.parse(&lookup).unwrap();
    let error = ConfigError::at(
        &source,
        config.ingest.listen.span(),
        "not an address",
        "write HOST:PORT",
    );
    assert_eq!(format!("{error:#}"), "edgelogger.toml:3:10: not an address");
    assert_eq!(&text[config.ingest.listen.span().unwrap()], "\"nowhere\"");
    assert_eq!(error.advice(), "write HOST:PORT");

    let unwritten = ConfigError::at(&source, Located::from(5).span(), "no port is free", "free one");
    assert_eq!(format!("{unwritten:#}"), "edgelogger.toml: no port is free");
}

#[test]
fn values_in_lists_and_options_know_their_place_too() {
    #[derive(Deserialize)]
    struct Lists {
        names: Vec<Located<String>>,
        port: Option<Located<u16>>,
        host: Option<Located<String>>,
    }
    let text = "names = [\"a\",\n  \"${HOST}\"]\nport = 5";
    let lists: Lists = parse("x", text, &lookup).unwrap();
    let second = &lists.names[1];
    assert_eq!(
        (second.as_str(), &text[second.span().unwrap()]),
        ("machine-17", "\"${HOST}\"")
    );
    assert_eq!(&text[lists.port.unwrap().span().unwrap()], "5");
    assert!(lists.host.is_none());
}

#[test]
fn expanding_a_variable_does_not_shift_the_place() {
    let text = "name = \"${HOST}${HOST}${HOST}\"\n[ingest]\nport = -1\n";
    assert_eq!(config(text).unwrap_err().line_column(), Some((3, 8)));
}

#[test]
fn a_variable_cannot_add_keys() {
    let inject = |_: &str| Some("x\"\n[ingest]\nport = 1 #".to_owned());
    let config: Config = parse("edgelogger.toml", "name = \"${HOST}\"", &inject).unwrap();
    assert_eq!(config.ingest, Ingest::default());
}

#[test]
fn the_value_of_a_variable_is_not_shown_in_a_type_error() {
    let secret = |_: &str| Some("hunter2".to_owned());
    let error = parse::<Config>("x", "name = 'a'\ningest.port = '${SECRET}'", &secret).unwrap_err();
    assert!(!error.render(false).contains("hunter2"), "{error}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| load::<Config>(dir.path().join(name)).unwrap_err();

    let missing = load("missing.toml");
    assert_eq!(missing.error_code(), code::CONFIG_NOT_FOUND);
    assert!(missing.to_string().ends_with("/missing.toml"), "{missing}");

    let directory = load("");
    assert_eq!(directory.error_code(), code::CONFIG_UNREADABLE);
    assert!(directory.to_string().contains("Is a directory"), "{directory}");

    fs::write(dir.path().join("latin1.toml"), b"name = 'a'\n# f\xfcr\n").unwrap();
    let latin1 = load("latin1.toml");
    assert_eq!(
        (latin1.error_code(), latin1.line_column()),
        (code::CONFIG_SYNTAX, Some((2, 4)))
    );

    fs::write(dir.path().join("large.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(load("large.toml").error_code(), code::CONFIG_TOO_LARGE);

    fs::write(dir.path().join("good.toml"), "name = 'a'").unwrap();
    assert_eq!(
        super::load::<Config>(dir.path().join("good.toml")).unwrap().name,
        "a"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics_and_every_error_renders(text in "[a-z=\\[\\]{}\"'$#.,ä\n \\\\0-9-]{0,60}") {
        if let Err(error) = config(&text) {
            assert!(!error.render(false).is_empty());
        }
    }
}
