//! `${NAME}` and `${NAME:-default}` in a string; `$${` stands for a literal `${`.
//!
//! As in a shell, the default also replaces an empty value; without a default an empty value is kept. A `$`
//! without a brace is an ordinary character (regular expressions end in one). What a variable contains is
//! never expanded again.

/// Why a string could not be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The variable has no value and no default.
    Unset { name: String },
    /// `${` without a name or without its `}`.
    Malformed { written: String },
}

impl ExpandError {
    /// How the offending part begins in the text.
    pub(super) fn needle(&self) -> &str {
        match self {
            Self::Unset { name } => name,
            Self::Malformed { written } => written,
        }
    }
}

/// The string with its variables replaced; `None` if it has none.
pub(super) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let malformed = || ExpandError::Malformed {
            written: reference.chars().take(2).collect(),
        };
        let (inside, after) = reference[2..].split_once('}').ok_or_else(malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(malformed());
        }
        match (lookup(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(ExpandError::Unset {
                    name: name.to_owned(),
                });
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("machine-17".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".into()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let expanded = expand(text, &lookup).map(|expanded| expanded.unwrap_or_else(|| text.to_owned()));
        assert_eq!(expanded, Ok(expected.to_owned()), "{text}");
    }

    #[test]
    fn variables_and_defaults_are_replaced() {
        check("${HOST}", "machine-17");
        check("a-${HOST}-b-${HOST}", "a-machine-17-b-machine-17");
        check("${NOPE:-fallback}", "fallback");
        check("${NOPE:-}", "");
        check("${EMPTY:-fallback}", "fallback");
        check("${EMPTY}", "");
        check("${HOST:-unused}", "machine-17");
    }

    #[test]
    fn dollars_that_are_no_variables_stay() {
        check("^error$", "^error$");
        check("$HOST $5 $$", "$HOST $5 $$");
        check("$${HOST}", "${HOST}");
        check("$${HOST} ${HOST}", "${HOST} machine-17");
    }

    #[test]
    fn what_a_variable_contains_is_not_expanded_again() {
        check("${TRICK}", "${HOST}");
    }

    #[test]
    fn an_unset_variable_and_a_broken_reference_are_errors() {
        assert_eq!(
            expand("x ${NOPE}", &lookup),
            Err(ExpandError::Unset { name: "NOPE".into() })
        );
        for text in ["${", "${HOST", "${}", "${1A}", "${A B}", "${:-x}"] {
            assert!(
                matches!(expand(text, &lookup), Err(ExpandError::Malformed { .. })),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[${}:a-z -]{0,40}") {
            let _ = expand(&text, &lookup);
        }

        #[test]
        fn doubling_the_dollar_keeps_any_text(text in "[${}A-Z:-]{0,40}") {
            prop_assume!(!text.contains("$${"));
            let escaped = text.replace("${", "$${");
            let expanded = expand(&escaped, &lookup).unwrap().unwrap_or(escaped);
            prop_assert_eq!(expanded, text);
        }
    }
}
