//! docs/api.md, made of the API's description; a test shows that it is current.

use std::fmt::Write as _;

use edgelogger_common::auth::Audience;
use serde_json::{Map, Value};

use crate::client::{Fixture, answer, client};

const HEAD: &str = "# API

What the collector answers over HTTP, on `127.0.0.1:7480` unless it is configured otherwise. This page is made of
`GET /api/v1/openapi.json` (`UPDATE=1 cargo test --workspace --test it reference` writes it anew); `scripts/api-check` tries what it
says against a running collector.

Away from the loopback interface, or with `token = true` in `[api]`, every request but `/livez` and `/readyz` needs the header
`Authorization: Bearer TOKEN` (`edgelogger-collector token create --audience people`), and is answered with 401 without it.

Times are RFC 3339, a date, `now`, or so long ago: `-15m`. A parameter that is not known is refused with the nearest one that
is. Answers are compressed where `Accept-Encoding` allows zstd or gzip.

Errors are problem documents (RFC 9457) of the type `application/problem+json`; `code` is stable, and
`edgelogger-collector explain CODE` says what to do about it.
";

fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    for (path, methods) in object(&document["paths"]) {
        for (method, described) in object(methods) {
            operation_section(&mut page, method, path, described);
        }
    }
    page.push_str("\n## What is sent and taken\n");
    for (name, schema) in object(&document["components"]["schemas"]) {
        schema_section(&mut page, name, schema);
    }
    page
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn operation_section(page: &mut String, method: &str, path: &str, described: &Value) {
    let (summary, about) = (text(&described["summary"]), text(&described["description"]));
    let _ = write!(
        page,
        "\n## {} {path}\n\n{summary}. {about}\n",
        method.to_uppercase()
    );
    let parameters = described["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        page.push_str("\n| parameter | may be | |\n| --- | --- | --- |\n");
    }
    for parameter in parameters {
        let schema = &parameter["schema"];
        let place = if parameter["in"] == "header" {
            " (header)"
        } else {
            ""
        };
        let needed = if parameter["required"] == true {
            ", needed"
        } else {
            ""
        };
        let default = match &schema["default"] {
            Value::Null => String::new(),
            Value::String(word) => format!("; {word} when left out"),
            other => format!("; {other} when left out"),
        };
        let name = text(&parameter["name"]);
        let name = if schema["propertyNames"].is_object() {
            format!("{name}.KEY")
        } else {
            name.to_owned()
        };
        let about = text(&parameter["description"]).replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{name}`{place} | {}{default}{needed} | {about} |",
            kind(schema)
        );
    }
    if let Some(schema) = described.pointer("/requestBody/content/application~1json/schema") {
        let _ = write!(page, "\nThe body is JSON: {}.\n", kind(schema));
    }
    page.push_str("\n| status | as | |\n| --- | --- | --- |\n");
    for (status, response) in object(&described["responses"]) {
        let mut about = text(&response["description"]).to_owned();
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let _ = write!(about, " Header `{name}`: {}", text(&header["description"]));
        }
        let forms =
            object(&response["content"]).map(|(media, content)| match kind(&content["schema"]).as_str() {
                "text" | "anything" => format!("`{media}`"),
                kind => format!("`{media}`: {kind}"),
            });
        let forms: Vec<String> = forms.collect();
        let _ = writeln!(page, "| {status} | {} | {about} |", forms.join("<br>"));
    }
}

fn schema_section(page: &mut String, name: &str, schema: &Value) {
    let _ = write!(
        page,
        "\n### {name}\n\n{}\n\n| member | is | |\n| --- | --- | --- |\n",
        text(&schema["description"])
    );
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (member, schema) in object(&schema["properties"]) {
        let is_optional = !required.iter().any(|required| required == member);
        let optional = if is_optional { ", or absent" } else { "" };
        let about = text(&schema["description"]).replace('|', "\\|");
        let _ = writeln!(page, "| `{member}` | {}{optional} | {about} |", kind(schema));
    }
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    let words = |values: &Value| {
        let values = values.as_array().map_or(&[][..], Vec::as_slice);
        let words: Vec<String> = values.iter().map(|word| format!("`{}`", text(word))).collect();
        words.join(", ")
    };
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if schema["enum"].is_array() {
        return words(&schema["enum"]);
    }
    if schema["examples"].is_array() {
        return format!("a time: {}", words(&schema["examples"]));
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let kinds: Vec<String> = options.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    let bound = |name: &str| schema[name].as_u64();
    match schema["type"].as_str() {
        Some("integer") => match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            _ => "a whole number".to_owned(),
        },
        Some("number") => "a number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("null") => "null".to_owned(),
        Some("array") if schema["items"]["enum"].is_array() => {
            format!("some of {}, with commas between", words(&schema["items"]["enum"]))
        }
        Some("array") => format!("a list, each {}", kind(&schema["items"])),
        Some("object") if schema["propertyNames"].is_object() => "text".to_owned(),
        Some("object") => format!("an object, each value {}", kind(&schema["additionalProperties"])),
        Some("string") => match (
            schema["pattern"].as_str(),
            bound("maxLength"),
            schema["format"].as_str(),
        ) {
            (Some(pattern), ..) => format!("`{}`", pattern.replace('|', "\\|")),
            (_, Some(most), _) => format!("text of up to {most} characters"),
            (.., Some(_)) => "a time".to_owned(),
            _ => "text".to_owned(),
        },
        _ if schema["type"].is_array() => "text or null".to_owned(),
        _ => "anything".to_owned(),
    }
}

#[tokio::test]
async fn the_reference_page_is_current() {
    let fixture = Fixture::start().await;
    let (status, document) = fixture.get("/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    edgelogger_common::config::assert_current("docs/api.md", &page(&document));
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_says_what_it_answers() {
    let fixture = Fixture::start_with(|config| config.api.needs_token = true).await;
    let ttl = std::time::Duration::from_secs(60);
    let token = fixture
        .collector
        .issue_token(Audience::People, "ada", ttl)
        .unwrap();
    let url = format!("http://{}/api/v1/openapi.json", fixture.collector.api_addr);
    let (status, document) = answer(client().get(url).bearer_auth(token)).await;
    assert_eq!(status, 200);
    let mut names = std::collections::HashSet::new();
    for (path, methods) in object(&document["paths"]) {
        for (method, described) in object(methods) {
            assert!(
                names.insert(text(&described["operationId"]).to_owned()),
                "{method} {path}"
            );
            assert!(described["responses"]["200"].is_object(), "{method} {path}");
            let needs_token = described["security"][0]["token"].is_array();
            let is_open = path == "/livez" || path == "/readyz";
            assert_eq!(needs_token, !is_open, "{method} {path}");
            assert_eq!(
                described["responses"]["401"].is_object(),
                !is_open,
                "{method} {path}"
            );
        }
    }
}
