//! Page cursors as they are handed out: the store's cursor, the range of time of the first page (`-15m` moves on while
//! pages are read) and a fingerprint of the question, so that a cursor of another one is refused.

use edgelogger_common::codec::sha256;
use edgelogger_common::error_code;
use edgelogger_store::LogQuery;

use crate::api::parameters::{Kind, Parameter};
use crate::api::problem::Problem;

/// Digits: version, fingerprint, which ends of the range there are, both ends, the store's own.
const LEN: usize = 1 + 16 + 1 + 16 + 16 + STORE_LEN;
const STORE_LEN: usize = 66;
const VERSION: &str = "2";

/// The parameter.
pub static CURSOR: Parameter = Parameter::new(
    "cursor",
    "Where the page before ended: its `next_cursor`, with the parameters of the first page",
    Kind::Hex { min: LEN, max: LEN },
);

/// What must not change from page to page: everything but the range, whose ends move with the clock.
fn fingerprint(query: &LogQuery) -> String {
    let LogQuery {
        machine,
        source,
        severity_min,
        substring,
        regex,
        case_insensitive,
        attributes,
        labels,
        order,
        ..
    } = query;
    let text = format!(
        "{:?}",
        (
            machine,
            source,
            severity_min,
            substring,
            regex,
            case_insensitive,
            attributes,
            labels,
            order
        )
    );
    let hash = sha256(text.as_bytes());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cursor of the page behind this one.
#[must_use]
pub fn encode(query: &LogQuery, store_cursor: &str) -> String {
    let ends = u8::from(query.from.is_some()) | u8::from(query.to.is_some()) << 1;
    format!(
        "{VERSION}{}{ends}{:016x}{:016x}{store_cursor}",
        fingerprint(query),
        query.from.unwrap_or_default().cast_unsigned(),
        query.to.unwrap_or_default().cast_unsigned()
    )
}

/// Goes on with a search where a cursor says.
///
/// # Errors
/// No cursor of ours, or one of another question.
pub fn resume(query: &mut LogQuery, text: &str) -> Result<(), Problem> {
    let malformed = || {
        Problem::unprocessable("`cursor` is not one that was given here; begin again without it")
            .with_code(error_code::OTHER_CURSOR)
    };
    if text.len() != LEN || !text.is_ascii() || !text.starts_with(VERSION) {
        return Err(malformed());
    }
    let other = |what: &str| {
        Err(
            Problem::unprocessable(format!("`cursor` is of another question: {what}"))
                .with_code(error_code::OTHER_CURSOR),
        )
    };
    let number = |digits: &str| u64::from_str_radix(digits, 16).map(u64::cast_signed);
    let (Ok(from), Ok(to)) = (number(&text[18..34]), number(&text[34..50])) else {
        return Err(malformed());
    };
    if text[1..17] != fingerprint(query) {
        return other("the filters or the order differ");
    }
    let (has_from, has_to) = match &text[17..18] {
        "0" => (false, false),
        "1" => (true, false),
        "2" => (false, true),
        "3" => (true, true),
        _ => return Err(malformed()),
    };
    if (has_from, has_to) != (query.from.is_some(), query.to.is_some()) {
        return other("`from` or `to` was left out or added");
    }
    query.from = has_from.then_some(from);
    query.to = has_to.then_some(to);
    query.cursor = Some(text[50..].to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use edgelogger_store::Order;
    use proptest::prelude::*;

    use super::*;

    fn query() -> LogQuery {
        LogQuery {
            from: Some(5),
            machine: Some("a".into()),
            ..LogQuery::default()
        }
    }

    #[test]
    fn a_cursor_keeps_the_range_of_the_first_page_and_refuses_other_questions() {
        let store = "1".repeat(STORE_LEN);
        let text = encode(&query(), &store);
        assert_eq!(text.len(), LEN);
        let mut later = LogQuery {
            from: Some(9),
            limit: 7,
            ..query()
        };
        resume(&mut later, &text).unwrap();
        assert_eq!((later.from, later.to, later.cursor), (Some(5), None, Some(store)));
        let change: [fn(&mut LogQuery); 6] = [
            |query| query.machine = None,
            |query| query.order = Order::OldestFirst,
            |query| query.regex = Some("x".into()),
            |query| query.attributes.push(("a".into(), "b".into())),
            |query| query.from = None,
            |query| query.to = Some(10),
        ];
        for change in change {
            let mut other = query();
            change(&mut other);
            let refused = format!("{:?}", resume(&mut other, &text).unwrap_err());
            assert!(refused.contains("E0510"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,120}", hex in "2[0-9a-f]{115}") {
            let _ = resume(&mut query(), &text);
            let _ = resume(&mut query(), &hex);
        }
    }
}
