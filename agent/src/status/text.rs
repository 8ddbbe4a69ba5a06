//! Words for a terminal: nothing that steers it, nothing that is wider than it.

use std::time::Duration;

/// Columns of a line: what every terminal has.
pub const COLUMNS: usize = 80;

/// A file's name may hold anything, also what steers a terminal, or turns the direction of what follows.
pub fn harmless(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// At most so many columns; of what is longer the end, which tells more of a path.
pub fn end_of(text: &str, columns: usize) -> String {
    let len = text.chars().count();
    if len <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    std::iter::once('…')
        .chain(text.chars().skip(len - kept))
        .collect()
}

/// Lines of at most [`COLUMNS`], broken between words, or within one that is too long; each after the first is indented.
/// Words that are joined by U+00A0 stay on one line.
pub fn wrap(first: &str, indent: usize, text: &str) -> String {
    let mut out = String::from(first);
    let mut column = first.chars().count();
    let mut is_fresh = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let len = word.chars().count();
        if !is_fresh && column + 1 + len > COLUMNS {
            break_line(&mut out, &mut column, indent);
            is_fresh = true;
        }
        if !is_fresh {
            out.push(' ');
            column += 1;
        }
        is_fresh = false;
        for c in word.chars() {
            if column >= COLUMNS {
                break_line(&mut out, &mut column, indent);
            }
            out.push(if c == '\u{a0}' { ' ' } else { c });
            column += 1;
        }
    }
    out.push('\n');
    out
}

fn break_line(out: &mut String, column: &mut usize, indent: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
    *column = indent;
}

/// `12.3 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Two units at most: `2 h 5 min`.
pub fn span_ns(ns: u64) -> String {
    let span = Duration::from_nanos(ns);
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `12/s`, `0.3/s`.
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate >= 10.0 => format!("{rate:.0}/s"),
        Some(rate) if rate > 0.0 && rate < 0.05 => "<0.1/s".to_owned(),
        Some(rate) => format!("{rate:.1}/s"),
    }
}

/// `1 file`, `2 files`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count if what.ends_with("ch") => format!("{count} {what}es"),
        count => format!("{count} {what}s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with two digits")]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "0 %".to_owned()
    } else {
        format!("{:.2} %", 100.0 * part as f64 / whole as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_hold_every_letter(text in "[ a-zä]{0,400}", indent in 0usize..20) {
            let out = wrap("  ! ", indent, &text);
            prop_assert!(out.lines().all(|line| line.chars().count() <= COLUMNS), "{}", out);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&out), format!("!{}", letters(&text)));
        }

        #[test]
        fn nothing_steers_the_terminal(text: String) {
            prop_assert!(!harmless(&text).chars().any(char::is_control));
        }
    }

    #[test]
    fn text_that_turns_direction_is_made_harmless() {
        assert_eq!(
            harmless("a\u{202e}gol.\u{200b}\u{7}"),
            "a\u{fffd}gol.\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        assert_eq!(end_of("/var/log/app.log", 8), "…app.log");
        assert_eq!(end_of("/var", 8), "/var");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (size(1536), span_ns(7_500_000_000_000)),
            ("1.5 KiB".into(), "2 h 5 min".into())
        );
        let rates = [None, Some(0.0), Some(0.01), Some(2.26), Some(1234.5)].map(rate);
        assert_eq!(rates, ["-", "0.0/s", "<0.1/s", "2.3/s", "1234/s"]);
    }
}
