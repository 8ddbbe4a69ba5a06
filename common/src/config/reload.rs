//! What has changed between two configurations, and what of that needs a restart.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::show::{flatten, is_within};

/// Settings that differ, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Come into force while the program runs.
    pub reloaded: Vec<String>,
    /// Do not before its next start.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// From one configuration to another. `reloads`: settings and tables that come into force while the program runs.
    ///
    /// # Errors
    /// A configuration can't be written as JSON.
    pub fn between<T: Serialize>(old: &T, new: &T, reloads: &[&str]) -> Result<Self, serde_json::Error> {
        let (old, new) = (leaves(old)?, leaves(new)?);
        let mut changes = Self::default();
        let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
        for key in keys.filter(|key| old.get(*key) != new.get(*key)) {
            let named = if old.contains_key(key) {
                name(key, &new)
            } else {
                name(key, &old)
            };
            let changed = if does_reload(key, reloads) {
                &mut changes.reloaded
            } else {
                &mut changes.needs_restart
            };
            changed.push(named.to_owned());
        }
        for changed in [&mut changes.reloaded, &mut changes.needs_restart] {
            changed.sort_unstable();
            changed.dedup();
        }
        Ok(changes)
    }

    /// Is anything of a setting or table among what comes into force?
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.reloaded.iter().any(|key| is_within(key, path))
    }
}

/// Is a setting one of these, or in one of these tables?
#[must_use]
pub fn does_reload(key: &str, reloads: &[&str]) -> bool {
    reloads.iter().any(|path| is_within(key, path))
}

/// An element of a list that came or went is named as a whole.
fn name<'a>(key: &'a str, other: &BTreeMap<String, Value>) -> &'a str {
    let ends = key.match_indices(']').map(|(at, _)| &key[..=at]);
    let gone = |element: &&str| !other.keys().any(|known| is_within(known, element));
    let mut gone = ends.filter(gone);
    gone.next().unwrap_or(key)
}

fn leaves<T: Serialize>(config: &T) -> Result<BTreeMap<String, Value>, serde_json::Error> {
    let mut leaves = Vec::new();
    flatten(String::new(), serde_json::to_value(config)?, &mut leaves);
    Ok(leaves.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_by_its_path_and_by_whether_it_needs_a_restart() {
        let old = json!({ "a": 1, "t": { "x": 1, "y": null }, "s": { "f": [{ "p": 1 }, { "p": 2 }] } });
        let new = json!({ "a": 2, "t": { "x": 1, "y": 5 }, "s": { "f": [{ "p": 1 }] }, "n": true });
        let changes = Changes::between(&old, &new, &["s.f", "a"]).unwrap();
        assert_eq!(changes.reloaded, ["a", "s.f[1]"]);
        assert_eq!(changes.needs_restart, ["n", "t.y"]);
        assert!(changes.has("s") && changes.has("s.f") && !changes.has("s.fx"));
        assert_eq!(Changes::between(&old, &old, &[]).unwrap(), Changes::default());
    }
}
