//! Text from machines, shown to people: nothing in it can steer a terminal.

use std::borrow::Cow;
use std::fmt::Write;

pub use edgelogger_common::wildcard::matches_wildcard;

/// Replaces what is no printable character by its escape (`\x1b`, `\u{202e}`); tabs stay. A backslash stays, too: this
/// is for reading, not for parsing.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !is_harmful(c) {
            out.push(c);
        } else if c.is_ascii() {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    Cow::Owned(out)
}

/// The same for text that may have several lines.
#[must_use]
pub fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

/// JSON on one line with all such characters as `\u202e`: the same value, and nothing in it can steer a terminal. The
/// serializer itself escapes no more than C0.
#[must_use]
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_harmful) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmful(c) {
            // All of them lie in the first plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Controls (C0, DEL, C1), and characters that reorder or hide text around them.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_text_around_is_shown_as_its_number() {
        assert_eq!(harmless("plain\ttext äö"), "plain\ttext äö");
        assert_eq!(harmless("a\x1b[2Jb\r\n\0\x7f"), "a\\x1b[2Jb\\x0d\\x0a\\x00\\x7f");
        assert_eq!(harmless_lines("a\x1b\nb\r\n"), "a\\x1b\nb");
        assert_eq!(harmless("a\u{9b}2Jb\u{202e}c"), "a\\u{9b}2Jb\\u{202e}c");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in "[\u{0}-\u{9f}\u{2020}-\u{2070}\u{feff}a]{0,20}") {
            prop_assert!(!harmless(&text).chars().any(is_harmful));
            let json = serde_json::json!({ "text": text }).to_string();
            let shown = harmless_json(&json);
            prop_assert!(!shown.chars().any(is_harmful));
            let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(back["text"].as_str(), Some(text.as_str()));
        }
    }
}
