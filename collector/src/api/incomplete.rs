//! What is missing from an answer: files of the store that can't be used. Every answer that reads the store says it in the
//! same way, by the header [`INCOMPLETE`] and, where it is a JSON document, by the member `incomplete`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use edgelogger_store::{Answered, MissingFile};
use serde::Serialize;
use serde_json::{Value, json};

use super::described::{Components, Described, Member, described};

/// Says of how many files rows may be missing.
pub const INCOMPLETE: &str = "x-edgelogger-incomplete";
/// The member of JSON documents.
const MEMBER: &str = "incomplete";

described! {
    /// A file of the store that can't be used.
    #[derive(Debug, Serialize)]
    pub struct IncompleteFile {
        /// Its name.
        file: String,
        /// What is wrong with it.
        reason: String,
    }
}

/// The header; none for an answer that is whole.
pub fn header(missing: &[MissingFile]) -> Option<[(&'static str, String); 1]> {
    (!missing.is_empty()).then(|| [(INCOMPLETE, missing.len().to_string())])
}

/// As the API's description tells it.
pub fn described_header() -> Value {
    json!({
        "description": "Files of the store that can't be used and may hold what was asked for; absent from an answer that \
                        is whole. JSON documents name them as `incomplete`.",
        "schema": { "type": "integer", "minimum": 1 },
    })
}

/// The member of a JSON document.
pub fn member(components: &mut Components) -> Member {
    Member {
        name: MEMBER,
        about: "Files of the store that can't be used and may hold what was asked for. Absent: the answer is whole."
            .to_owned(),
        is_optional: true,
        schema: Vec::<IncompleteFile>::schema(components),
    }
}

/// The same, behind the other members of an object that is written by hand.
pub fn write_member(text: &mut Vec<u8>, missing: &[MissingFile]) {
    if !missing.is_empty() {
        text.extend(format!(",\"{MEMBER}\":{}", json!(missing)).into_bytes());
    }
}

/// A JSON document made of what the store answered.
pub struct FromStore<T>(pub Answered<T>);

#[derive(Serialize)]
struct Document<'a, T> {
    #[serde(flatten)]
    answer: T,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    incomplete: &'a [MissingFile],
}

impl<T: Serialize> IntoResponse for FromStore<T> {
    fn into_response(self) -> Response {
        let Answered { answer, incomplete } = self.0;
        let document = Document {
            answer,
            incomplete: &incomplete,
        };
        (header(&incomplete), Json(document)).into_response()
    }
}

impl<T: Described> Described for FromStore<T> {
    fn schema(components: &mut Components) -> Value {
        let schema = T::schema(components);
        let member = member(components);
        components.add_member(&schema, member);
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    described! {
        /// An answer.
        #[derive(Serialize)]
        struct Numbers {
            /// Some.
            numbers: Vec<u64>,
        }
    }

    async fn sent(incomplete: Vec<MissingFile>) -> (Option<String>, String) {
        let answer = Numbers { numbers: vec![1, 2] };
        let response = FromStore(Answered { answer, incomplete }).into_response();
        let said = response.headers().get(INCOMPLETE);
        let said = said.map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        (said, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_answer_says_what_is_missing_from_it_as_its_schema_does() {
        assert_eq!(sent(Vec::new()).await, (None, r#"{"numbers":[1,2]}"#.to_owned()));
        let missing = MissingFile {
            file: "logs-1".to_owned(),
            reason: "it is gone".to_owned(),
        };
        let incomplete = r#""incomplete":[{"file":"logs-1","reason":"it is gone"}]"#;
        let expected = format!(r#"{{"numbers":[1,2],{incomplete}}}"#);
        assert_eq!(
            sent(vec![missing.clone()]).await,
            (Some("1".to_owned()), expected)
        );
        let mut by_hand = Vec::new();
        write_member(&mut by_hand, &[missing]);
        assert_eq!(String::from_utf8(by_hand).unwrap(), format!(",{incomplete}"));

        let mut components = Components::default();
        let reference = FromStore::<Numbers>::schema(&mut components);
        assert_eq!(reference, Numbers::schema(&mut components));
        let schema = &components.0["Numbers"];
        assert_eq!(schema["required"], json!(["numbers"]));
        assert_eq!(
            schema["properties"][MEMBER]["items"]["$ref"],
            "#/components/schemas/IncompleteFile"
        );
    }
}
