//! The prompt: statements over several lines, with a history and completion.

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use serde_json::Value;

use super::{CliError, SqlArguments, answer, show};
use crate::cli::client::ApiClient;
use crate::cli::{runtime, table};

const PROMPT: &str = "edgelogger> ";
const HISTORY_MAX: usize = 10_000;
const HELP: &str = "\
A statement ends in a semicolon and may have several lines.
  \\d          the tables
  \\d TABLE    its columns
  \\x          rows one below the other, or as a table
  \\q, Ctrl-D  leave
Tab completes; arrow up and Ctrl-R search what was typed before.";

/// Words of the language that are completed, beside tables and columns.
const WORDS: &[&str] = &[
    "AND", "AS", "ASC", "AVG", "BETWEEN", "BY", "CASE", "COUNT", "DESC", "DISTINCT", "ELSE", "END",
    "EXPLAIN", "FROM", "GROUP", "HAVING", "ILIKE", "IN", "INTERVAL", "IS", "JOIN", "LEFT", "LIKE", "LIMIT",
    "MAX", "MIN", "NOT", "NULL", "ON", "OR", "ORDER", "SELECT", "SUM", "THEN", "UNION", "WHEN", "WHERE",
    "WITH",
];

pub(super) fn run(client: &ApiClient, arguments: &SqlArguments) -> Result<(), CliError> {
    let runtime = runtime()?;
    let schema = runtime.block_on(client.get("/api/v1/schema", &[]))?;
    let failed = |error: ReadlineError| CliError::Plain(format!("cannot use the terminal: {error}"));
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_MAX)
        .map_err(failed)?
        .build();
    let mut editor: Editor<Prompt, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Prompt::new(&schema)));
    let history = history_path();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    println(&format!("{HELP}\n"));
    let mut is_expanded = false;
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        };
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(text);
        match command(text) {
            Some(Command::Leave) => break,
            Some(Command::Expand) => is_expanded = !is_expanded,
            Some(Command::Describe(name)) => println(&describe(&schema, name)),
            Some(Command::Help) => println(HELP),
            None => {
                let statement = text.trim_end_matches(';');
                let shown = runtime
                    .block_on(answer(client, statement))
                    .and_then(|answer| show(&answer, arguments.form(is_expanded)));
                match shown {
                    Ok(()) => {}
                    Err(CliError::OutputClosed) => break,
                    Err(error) => println(&error.to_string()),
                }
            }
        }
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a prompt talks to its terminal")]
fn println(text: &str) {
    println!("{text}");
}

enum Command<'a> {
    Leave,
    Expand,
    Help,
    /// All tables where no name is given.
    Describe(Option<&'a str>),
}

fn command(text: &str) -> Option<Command<'_>> {
    let mut words = text.trim_end_matches(';').split_whitespace();
    Some(match words.next()? {
        "\\q" | "quit" | "exit" => Command::Leave,
        "\\x" => Command::Expand,
        "\\d" => Command::Describe(words.next()),
        "help" => Command::Help,
        other if other.starts_with('\\') => Command::Help,
        _ => return None,
    })
}

fn describe(schema: &Value, name: Option<&str>) -> String {
    let tables = schema["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(name) = name else {
        let rows: Vec<_> = tables
            .iter()
            .map(|table| vec![table["name"].clone(), table["description"].clone()])
            .collect();
        return table::draw(&["table".to_owned(), "what a row is".to_owned()], &rows);
    };
    let Some(found) = tables.iter().find(|table| table["name"] == name) else {
        return format!("there is no table {name}; \\d lists them");
    };
    let columns = found["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = columns
        .iter()
        .map(|column| {
            ["name", "type", "description"]
                .map(|key| column[key].clone())
                .to_vec()
        })
        .collect();
    table::draw(&["column", "type", "what it says"].map(ToOwned::to_owned), &rows)
}

/// `$XDG_STATE_HOME/edgelogger/sql_history`, readable by its owner alone: statements may hold what is nobody else's.
fn history_path() -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    let dir = state.join("edgelogger");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("sql_history"))
}

/// What the line editor asks.
struct Prompt {
    /// Tables, columns and words of the language.
    names: Vec<String>,
    hinter: HistoryHinter,
}

impl Prompt {
    fn new(schema: &Value) -> Self {
        let tables = schema["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |value: &Value| value["name"].as_str().map(ToOwned::to_owned);
        let columns = tables
            .iter()
            .filter_map(|table| table["columns"].as_array())
            .flatten();
        let mut names: Vec<String> = tables.iter().chain(columns).filter_map(named).collect();
        names.extend(WORDS.iter().map(|word| (*word).to_owned()));
        names.sort_unstable();
        names.dedup();
        Self {
            names,
            hinter: HistoryHinter::new(),
        }
    }

    /// What the word before the cursor may become, and where it begins.
    fn candidates(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = &line[..position];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = before[start..].to_lowercase();
        if word.is_empty() {
            return (start, Vec::new());
        }
        let fitting = self
            .names
            .iter()
            .filter(|name| name.to_lowercase().starts_with(&word));
        (start, fitting.cloned().collect())
    }
}

impl Completer for Prompt {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line, position))
    }
}

impl Validator for Prompt {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        if text.is_empty() || text.ends_with(';') || command(text).is_some() {
            Ok(ValidationResult::Valid(None))
        } else {
            Ok(ValidationResult::Incomplete)
        }
    }
}

impl Hinter for Prompt {
    type Hint = String;

    fn hint(&self, line: &str, position: usize, context: &Context<'_>) -> Option<String> {
        self.hinter.hint(line, position, context)
    }
}

impl Highlighter for Prompt {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        let style = anstyle::Style::new().dimmed();
        Cow::Owned(format!("{style}{hint}{style:#}"))
    }
}

impl Helper for Prompt {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"tables": [{"name": "logs", "description": "Records.", "columns": [
            {"name": "machine_id", "type": "text", "description": "Whose."},
            {"name": "body", "type": "text", "description": "The line."},
        ]}]})
    }

    #[test]
    fn the_word_at_the_cursor_is_completed() {
        let prompt = Prompt::new(&schema());
        assert_eq!(
            prompt.candidates("SELECT mach", 11),
            (7, vec!["machine_id".to_owned()])
        );
        assert_eq!(prompt.candidates("sel", 3), (0, vec!["SELECT".to_owned()]));
        assert_eq!(prompt.candidates("SELECT ", 7).1, Vec::<String>::new());
        assert_eq!(prompt.candidates("ü(bo", 5), (3, vec!["body".to_owned()]));
    }

    #[test]
    fn tables_and_columns_are_described() {
        assert!(describe(&schema(), None).contains("logs"));
        assert!(describe(&schema(), Some("logs")).contains("machine_id"));
        assert!(describe(&schema(), Some("nothing")).contains("no table"));
    }

    #[test]
    fn what_begins_with_a_backslash_is_no_statement() {
        assert!(matches!(command("\\q"), Some(Command::Leave)));
        assert!(matches!(
            command("\\d logs;"),
            Some(Command::Describe(Some("logs")))
        ));
        assert!(matches!(command("\\unknown"), Some(Command::Help)));
        assert!(command("SELECT 1").is_none());
    }
}
