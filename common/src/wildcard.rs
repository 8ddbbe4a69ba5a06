//! Patterns of `*` and `?`.

/// Does `text` match, where `*` in the pattern stands for any characters and `?` for any one?
#[must_use]
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last `*` is, and up to where of the text it reaches now.
    let mut star = None;
    while from < text.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, from));
            at += 1;
        } else if pattern.get(at).is_some_and(|c| *c == '?' || *c == text[from]) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((star_at, reach)) = star {
            star = Some((star_at, reach + 1));
            (at, from) = (star_at + 1, reach + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, text, expected) in [
            ("web-*", "web-17", true),
            ("web-*", "db-1", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?eb", "web", true),
            ("?eb", "eb", false),
            ("*.log", "/var/log/a.log", true),
            ("*a*b", "xaxxbxb", true),
            ("*a*b", "xaxxbxbc", false),
            ("a[b", "a[b", true),
        ] {
            assert_eq!(matches_wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }
}
