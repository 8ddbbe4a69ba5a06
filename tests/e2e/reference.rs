//! docs/cli-agent.md and docs/cli-collector.md, made of what the programs' `--help` is made of; a test shows that they are
//! current.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use edgelogger_agent::cli::Arguments;
use edgelogger_common::config::assert_current;

#[test]
fn the_pages_of_both_command_lines_are_current() {
    for (path, title, command) in [
        ("docs/cli-agent.md", "Commands of the agent", Arguments::command()),
        (
            "docs/cli-collector.md",
            "Commands of the collector",
            edgelogger_collector::cli::command(),
        ),
    ] {
        assert_current(path, &page(title, command));
    }
}

fn page(title: &str, mut command: Command) -> String {
    command.build();
    let name = command.get_name().to_owned();
    let mut page = format!(
        "# {title}\n\nWhat can be typed, as `{name} --help` says it. This page is written by \
         `UPDATE=1 cargo test --workspace --test e2e reference`.\n"
    );
    section(&mut page, &name, &command);
    page
}

fn section(page: &mut String, path: &str, command: &Command) {
    let _ = write!(page, "\n## {path}\n");
    if let Some(about) = command.get_about() {
        let _ = write!(page, "\n{}\n", sentence(&about.to_string()));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ");
    block(page, usage);
    for more in [command.get_before_help(), command.get_after_help()]
        .into_iter()
        .flatten()
    {
        let more = more.to_string();
        if more.starts_with("Exit codes") && path.contains(' ') {
            // The same for every command; said once, above.
            continue;
        }
        page.push('\n');
        if let Some(examples) = more.strip_prefix("Examples:\n") {
            let (examples, rest) = examples.split_once("\n\n").unwrap_or((examples, ""));
            page.push_str("Examples:\n");
            block(page, &outdented(examples));
            if !rest.is_empty() {
                let _ = write!(page, "\n{}\n", escaped(rest.trim()));
            }
        } else {
            page.truncate(page.trim_end().len() + 1);
            block(page, &more);
        }
    }
    table(page, "argument", command.get_positionals(), positional);
    let options = command.get_arguments().filter(|arg| !arg.is_positional());
    table(page, "option", options, option);
    let subcommands = || {
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
    };
    if subcommands().next().is_some() {
        page.push_str("\n| command | |\n| --- | --- |\n");
        for subcommand in subcommands() {
            let about = subcommand
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let anchor = format!("{path} {}", subcommand.get_name()).replace(' ', "-");
            let _ = writeln!(
                page,
                "| [{}](#{anchor}) | {} |",
                subcommand.get_name(),
                cell(&about)
            );
        }
    }
    for subcommand in subcommands() {
        section(page, &format!("{path} {}", subcommand.get_name()), subcommand);
    }
}

fn block(page: &mut String, text: &str) {
    let _ = write!(page, "\n```text\n{}\n```\n", text.trim_end());
}

fn outdented(text: &str) -> String {
    text.lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned() + "\n")
        .collect()
}

fn table<'a>(
    page: &mut String,
    what: &str,
    arguments: impl Iterator<Item = &'a Arg>,
    name: impl Fn(&Arg) -> String,
) {
    let is_shown = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let mut rows = String::new();
    for arg in arguments.filter(is_shown) {
        let _ = writeln!(rows, "| {} | {} |", name(arg), meaning(arg));
    }
    if !rows.is_empty() {
        let _ = write!(page, "\n| {what} | |\n| --- | --- |\n{rows}");
    }
}

fn positional(arg: &Arg) -> String {
    let name = value_names(arg).unwrap_or_else(|| arg.get_id().to_string().to_uppercase());
    format!("`{name}`")
}

fn option(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = [short, long].into_iter().flatten().collect();
    let takes_value = arg.get_action().takes_values();
    let value = value_names(arg)
        .filter(|_| takes_value)
        .map(|value| format!(" {value}"));
    format!("`{}{}`", names.join(", "), value.unwrap_or_default())
}

fn value_names(arg: &Arg) -> Option<String> {
    let names = arg.get_value_names()?.iter().map(ToString::to_string);
    Some(names.collect::<Vec<_>>().join(" "))
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let takes_value = arg.get_action().takes_values();
    if takes_value && !values.is_empty() {
        let _ = write!(text, " ({})", values.join(", "));
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, "; `{}` when left out", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, "; or `{}` in the environment", variable.to_string_lossy());
    }
    cell(&text)
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with('.') { "" } else { "." };
    escaped(text) + end
}

fn cell(text: &str) -> String {
    escaped(&text.replace('\n', " ")).replace('|', "\\|")
}

/// Stars are patterns here, and no emphasis.
fn escaped(text: &str) -> String {
    let mut is_code = false;
    let mut out = String::new();
    for char in text.chars() {
        is_code ^= char == '`';
        if !is_code && matches!(char, '*' | '<' | '_') {
            out.push('\\');
        }
        out.push(char);
    }
    out
}
