//! JSON Schema of what the API sends and takes, made of the same declarations as the types themselves.
//!
//! ```ignore
//! described! {
//!     /// A page.
//!     #[derive(Serialize)]
//!     pub struct Page {
//!         /// The records.
//!         rows: Vec<Row>,
//!         /// Where the next page begins.
//!         next_cursor: Option<String>,
//!     }
//! }
//! ```
//! A member that serde may leave out (`skip_serializing_if`, `default`) is not required; `rename` is followed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Schemas that have a name, each once.
#[derive(Debug, Default)]
pub struct Components(pub BTreeMap<String, Value>);

impl Components {
    /// A reference to the named schema, which is made the first time.
    pub fn named(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.0.contains_key(name) {
            // First, so that a type that holds itself ends.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = make(self);
            self.0.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// One more member of an object that was made before.
    pub fn add_member(&mut self, reference: &Value, member: Member) {
        let of = reference["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let Some(schema) = of.and_then(|of| self.0.get_mut(of)) else {
            return;
        };
        let (name, is_optional) = (member.name, member.is_optional);
        schema["properties"][name] = member.described();
        if !is_optional && let Some(required) = schema["required"].as_array_mut() {
            required.push(name.into());
        }
    }
}

/// A type whose JSON has a schema.
pub trait Described {
    /// The schema, or a reference to it.
    fn schema(components: &mut Components) -> Value;
}

macro_rules! plain {
    ($($type:ty => $schema:tt;)*) => {
        $(impl Described for $type {
            fn schema(_: &mut Components) -> Value {
                json!($schema)
            }
        })*
    };
}

plain! {
    String => { "type": "string" };
    &'static str => { "type": "string" };
    bool => { "type": "boolean" };
    u8 => { "type": "integer", "minimum": 0, "maximum": 255 };
    u16 => { "type": "integer", "minimum": 0, "maximum": 65535 };
    u32 => { "type": "integer", "minimum": 0 };
    u64 => { "type": "integer", "minimum": 0 };
    usize => { "type": "integer", "minimum": 0 };
    i64 => { "type": "integer" };
    f64 => { "type": "number" };
    Value => {};
}

impl<T: Described> Described for Vec<T> {
    fn schema(components: &mut Components) -> Value {
        json!({ "type": "array", "items": T::schema(components) })
    }
}

impl<T: Described> Described for Option<T> {
    fn schema(components: &mut Components) -> Value {
        json!({ "anyOf": [T::schema(components), { "type": "null" }] })
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema(components: &mut Components) -> Value {
        json!({ "type": "object", "additionalProperties": T::schema(components) })
    }
}

/// One member of an object.
pub struct Member {
    /// In Rust, or as serde renames it.
    pub name: &'static str,
    /// Lines of documentation.
    pub about: String,
    /// May be left out.
    pub is_optional: bool,
    /// Of its value.
    pub schema: Value,
}

impl Member {
    fn described(self) -> Value {
        let mut schema = self.schema;
        if !self.about.is_empty() {
            schema["description"] = self.about.into();
        }
        schema
    }
}

/// The schema of an object.
#[must_use]
pub fn object(about: &str, members: Vec<Member>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for member in members {
        if !member.is_optional {
            required.push(member.name);
        }
        properties.insert(member.name.to_owned(), member.described());
    }
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Lines of documentation as one text.
#[must_use]
pub fn words(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// Declares structs with their schema.
macro_rules! described {
    ($($(#[$($meta:tt)*])* $vis:vis struct $name:ident {
        $($(#[$($member_meta:tt)*])* $member_vis:vis $member:ident : $type:ty),* $(,)?
    })*) => {$(
        $(#[$($meta)*])*
        $vis struct $name {
            $($(#[$($member_meta)*])* $member_vis $member: $type),*
        }

        impl $crate::api::described::Described for $name {
            fn schema(components: &mut $crate::api::described::Components) -> serde_json::Value {
                #[allow(unused_imports, reason = "in this very file the macros are known by their place")]
                use $crate::api::described::{Member, meta_doc, meta_name, meta_optional, object, words};
                components.named(stringify!($name), |_components| {
                    object(&words(&[$(meta_doc!($($meta)*)),*]), vec![$(Member {
                        name: [$(meta_name!($($member_meta)*)),*]
                            .into_iter()
                            .find_map(|renamed: Option<&'static str>| renamed)
                            .unwrap_or(stringify!($member)),
                        about: words(&[$(meta_doc!($($member_meta)*)),*]),
                        is_optional: [$(meta_optional!($($member_meta)*)),*].contains(&true),
                        schema: <$type as $crate::api::described::Described>::schema(_components),
                    }),*])
                })
            }
        }
    )*};
}

macro_rules! meta_doc {
    (doc = $line:expr) => {
        $line
    };
    ($($other:tt)*) => {
        ""
    };
}

macro_rules! meta_name {
    (serde(rename = $name:literal)) => {
        Some($name)
    };
    ($($other:tt)*) => {
        None
    };
}

macro_rules! meta_optional {
    (serde(skip_serializing_if = $how:literal)) => {
        true
    };
    (serde(default = $how:literal)) => {
        true
    };
    (serde(default)) => {
        true
    };
    ($($other:tt)*) => {
        false
    };
}

pub(crate) use {described, meta_doc, meta_name, meta_optional};

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    described! {
        /// An inner
        /// thing.
        #[derive(Serialize)]
        struct Inner {
            /// A number.
            n: u64,
        }

        /// An outer thing.
        #[derive(Serialize)]
        struct Outer {
            /// What it is.
            #[serde(rename = "type")]
            kind: String,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            inner: Vec<Inner>,
            next: Option<String>,
        }
    }

    #[test]
    fn a_schema_says_what_serde_does() {
        let mut components = Components::default();
        assert_eq!(
            Outer::schema(&mut components),
            json!({ "$ref": "#/components/schemas/Outer" })
        );
        let outer = &components.0["Outer"];
        assert_eq!(outer["required"], json!(["type", "next"]));
        assert_eq!(
            outer["properties"]["type"],
            json!({ "type": "string", "description": "What it is." })
        );
        assert_eq!(
            outer["properties"]["inner"]["items"]["$ref"],
            "#/components/schemas/Inner"
        );
        assert_eq!(components.0["Inner"]["description"], "An inner thing.");
        let sent = serde_json::to_value(Outer {
            kind: "a".into(),
            inner: vec![],
            next: None,
        })
        .unwrap();
        assert_eq!(sent, json!({ "type": "a", "next": null }));
        let _ = Inner { n: 1 };
    }
}
