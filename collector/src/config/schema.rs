//! The JSON Schema of the configuration file.

use edgelogger_common::config;
use serde_json::Value;

use super::FileConfig;

const EXAMPLE: &str = include_str!("../../../config/collector.toml");

/// With what `config/collector.toml` says of each key.
///
/// # Panics
/// Never: a test shows that the example explains every key.
#[must_use]
#[expect(clippy::expect_used, reason = "a test shows that every key is explained")]
pub fn schema() -> Value {
    config::schema::<FileConfig>("Configuration of edgelogger-collector", EXAMPLE)
        .expect("every key is explained")
}

#[cfg(test)]
mod tests {
    use super::super::RELOADS;
    use super::*;

    #[test]
    fn schema_and_reference_are_current() {
        let schema = schema();
        let page = config::reference("Configuration of the collector", &schema, RELOADS);
        config::assert_current("config/collector.schema.json", &format!("{schema:#}\n"));
        config::assert_current("docs/configuration-collector.md", &page);
    }
}
