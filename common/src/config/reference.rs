//! The reference of a configuration: its JSON Schema, described by the commented example file, and a page for people.
//!
//! The example is the one place where a key is explained: the comment above a key, or above the header of a table.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::reload::does_reload;

/// What the mark says.
const RELOAD: &str = "
Keys marked ↻ come into force while the program runs: write the file and send SIGHUP (`systemctl reload`). Other keys that
were changed wait for the next start; the log and `status` name them. A file that can't be used changes nothing, and
`status` says what is wrong with it.
";

/// The JSON Schema of a configuration, with what `example` says of each key.
///
/// # Errors
/// The first key that the example does not explain.
pub fn schema<T: JsonSchema>(title: &str, example: &str) -> Result<Value, String> {
    let mut schema = schemars::schema_for!(T).to_value();
    schema["title"] = title.into();
    let comments = comments(example);
    let mut tables = vec![(String::new(), String::new())];
    while let Some((path, pointer)) = tables.pop() {
        let properties = schema.pointer(&format!("{pointer}/properties"));
        let names: Vec<_> = properties
            .and_then(Value::as_object)
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default();
        for name in names {
            let key = below(&path, &name);
            let at = format!("{pointer}/properties/{name}");
            let property = schema.pointer(&at).unwrap_or(&Value::Null);
            let inner = pointer_of(property)
                .or_else(|| pointer_of(property.get("items")?))
                .filter(|inner| schema.pointer(&format!("{inner}/properties")).is_some());
            let comment = comments.iter().find(|(known, _)| *known == key);
            let comment = match (comment, &inner) {
                (Some((_, comment)), _) => comment.clone(),
                (None, Some(_)) => String::new(),
                (None, None) => return Err(key),
            };
            let described = inner.as_ref().unwrap_or(&at);
            if let Some(described) = schema.pointer_mut(described) {
                described["description"] = comment.into();
            }
            if let Some(inner) = inner {
                tables.push((key, inner));
            }
        }
    }
    Ok(schema)
}

/// Each key and table of a commented example with the comment above it. Keys below one comment share it.
fn comments(example: &str) -> Vec<(String, String)> {
    let (mut table, mut comment, mut ended) = (String::new(), String::new(), false);
    let mut comments = Vec::new();
    for line in example.lines() {
        let plain = line.trim_start_matches('#').trim();
        let key = plain.split_once(" = ").map(|(key, _)| key);
        let is_key = key.is_some_and(|key| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        if plain.starts_with('[') && plain.ends_with(']') {
            table = plain.trim_matches(['[', ']']).to_owned();
            comments.push((table.clone(), std::mem::take(&mut comment)));
        } else if let (true, Some(key)) = (is_key, key) {
            comments.push((below(&table, key), comment.clone()));
            ended = true;
        } else if plain.is_empty() || plain.starts_with("---") {
            comment.clear();
        } else {
            if std::mem::take(&mut ended) {
                comment.clear();
            }
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(plain);
        }
    }
    comments
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Where a reference points to.
fn pointer_of(property: &Value) -> Option<String> {
    let reference = property.get("$ref").or_else(|| {
        let options = property.get("anyOf")?.as_array()?;
        options.iter().find_map(|option| option.get("$ref"))
    });
    let text = reference.and_then(Value::as_str)?;
    text.strip_prefix('#').map(ToOwned::to_owned)
}

/// For tests: a file of the repository is what is generated now. With `UPDATE=1` it is written.
///
/// # Panics
/// It is not, or can't be read or written.
#[expect(clippy::panic, clippy::expect_used, reason = "for tests alone")]
pub fn assert_current(path: &str, generated: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, generated).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found != generated {
        panic!(
            "{} is not what the code says; write it anew with UPDATE=1",
            path.display()
        );
    }
}

/// A Markdown page of every key: a section for each table, a row for each setting. Those that come into force while the
/// program runs (`reloads`: settings and tables) are marked.
#[must_use]
pub fn reference(title: &str, schema: &Value, reloads: &[&str]) -> String {
    let mut page = format!("# {title}\n\n{}\n", text_of(schema));
    if !reloads.is_empty() {
        page.push_str(RELOAD);
    }
    let mut tables = vec![(String::new(), schema)];
    let mut at = 0;
    while let Some((path, table)) = tables.get(at).cloned() {
        at += 1;
        let Some(properties) = table.get("properties").and_then(Value::as_object) else {
            continue;
        };
        let mut rows = String::new();
        for (name, property) in properties {
            match table_of(schema, property) {
                Some((inner, is_array)) => {
                    let path = below(path.trim_matches(['[', ']']), name);
                    tables.push((if is_array { format!("[{path}]") } else { path }, inner));
                }
                None => {
                    let reloads = does_reload(&below(path.trim_matches(['[', ']']), name), reloads);
                    row(
                        &mut rows,
                        schema,
                        (name, property),
                        (required(table, name), reloads),
                    );
                }
            }
        }
        let is_shown = !rows.is_empty() || !text_of(table).is_empty();
        if !path.is_empty() && is_shown {
            let _ = write!(page, "\n## `[{path}]`\n\n{}\n", text_of(table));
        }
        if !rows.is_empty() {
            let _ = write!(
                page,
                "\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
            );
        }
    }
    page
}

fn required(table: &Value, name: &str) -> bool {
    let names = table.get("required").and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|required| required == name))
}

fn row(
    rows: &mut String,
    schema: &Value,
    (name, property): (&str, &Value),
    (required, reloads): (bool, bool),
) {
    let default = match property.get("default") {
        Some(Value::Null) | None if required => "**required**".to_owned(),
        Some(Value::Null) | None => String::new(),
        Some(value) => format!("`{value}`"),
    };
    let _ = writeln!(
        rows,
        "| `{name}`{} | {} | {default} | {} |",
        if reloads { " ↻" } else { "" },
        type_of(schema, property),
        text_of(property).replace('\n', " ").replace('|', "\\|")
    );
}

fn text_of(schema: &Value) -> &str {
    schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The definition that a reference points to, or the thing itself.
fn resolved<'a>(schema: &'a Value, property: &'a Value) -> &'a Value {
    pointer_of(property)
        .and_then(|pointer| schema.pointer(&pointer))
        .unwrap_or(property)
}

/// The table behind a key, and whether there may be several.
fn table_of<'a>(schema: &'a Value, property: &'a Value) -> Option<(&'a Value, bool)> {
    let is_table = |value: &Value| value.get("properties").is_some();
    let plain = resolved(schema, property);
    if is_table(plain) {
        return Some((plain, false));
    }
    let item = resolved(schema, property.get("items")?);
    is_table(item).then_some((item, true))
}

fn type_of(schema: &Value, property: &Value) -> String {
    let plain = resolved(schema, property);
    let words = |values: &[Value]| {
        let words: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        words.join(", ")
    };
    if let Some(values) = plain.get("enum").and_then(Value::as_array) {
        return words(values);
    }
    if let Some(options) = plain.get("oneOf").and_then(Value::as_array) {
        let constants: Vec<_> = options
            .iter()
            .filter_map(|option| option.get("const").cloned())
            .collect();
        return words(&constants);
    }
    if let Some(title) = plain.get("title").and_then(Value::as_str) {
        return title.to_owned();
    }
    if let Some(item) = plain.get("items") {
        return format!("list of {}", type_of(schema, item));
    }
    if let Some(Map { .. }) = plain.get("additionalProperties").and_then(Value::as_object) {
        return "table of texts".to_owned();
    }
    let name = match plain.get("type") {
        Some(Value::Array(names)) => names.iter().find(|name| *name != "null"),
        name => name,
    };
    match name.and_then(Value::as_str) {
        Some("string") => "text",
        Some("boolean") => "`true` or `false`",
        Some("integer") => "whole number",
        Some("number") => "number",
        _ => "",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize, JsonSchema)]
    #[serde(default)]
    struct Config {
        name: String,
        part: Part,
        many: Vec<Part>,
    }

    #[derive(Serialize, JsonSchema, Default)]
    #[serde(default)]
    struct Part {
        size: u32,
        names: Option<Vec<String>>,
    }

    impl Default for Config {
        fn default() -> Self {
            Self {
                name: "x".to_owned(),
                part: Part::default(),
                many: Vec::new(),
            }
        }
    }

    const EXAMPLE: &str = "\
# About the file.

# Who it is,
# in two lines.
# name = \"x\"
# The first part.
[part]
# Of it.
# size = 0
# All of them.
# names = []
[[many]]
# Of one.
# size = 0
# names = []
";

    #[test]
    fn the_example_explains_every_key() {
        let schema = schema::<Config>("A", EXAMPLE).unwrap();
        assert_eq!(
            schema["properties"]["name"]["description"],
            "Who it is, in two lines."
        );
        let page = reference("A", &schema, &[]);
        assert!(page.contains("## `[part]`"), "{page}");
        assert!(page.contains("## `[[many]]`"), "{page}");
        assert!(
            page.contains("| `name` | text | `\"x\"` | Who it is, in two lines. |"),
            "{page}"
        );
        assert!(page.contains("| `names` | list of text |"), "{page}");
    }

    #[test]
    fn a_key_that_is_not_explained_is_named() {
        let short = EXAMPLE.replace("# size = 0\n# All", "# All");
        assert_eq!(schema::<Config>("A", &short), Err("part.size".to_owned()));
    }
}
