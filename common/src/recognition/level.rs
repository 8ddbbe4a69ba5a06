//! Severity: words, numbers, and the words found in a line.
//!
//! Numbers are OpenTelemetry's; syslog's eight levels map as its data model says.

/// OpenTelemetry TRACE.
pub const TRACE: u8 = 1;
/// OpenTelemetry DEBUG.
pub const DEBUG: u8 = 5;
/// OpenTelemetry INFO.
pub const INFO: u8 = 9;
/// OpenTelemetry INFO2: syslog's notice.
pub const NOTICE: u8 = 10;
/// OpenTelemetry WARN.
pub const WARN: u8 = 13;
/// OpenTelemetry ERROR.
pub const ERROR: u8 = 17;
/// OpenTelemetry ERROR2: syslog's critical.
pub const CRITICAL: u8 = 18;
/// OpenTelemetry ERROR3: syslog's alert.
pub const ALERT: u8 = 19;
/// OpenTelemetry FATAL: also panic and syslog's emergency.
pub const FATAL: u8 = 21;

/// Words of at most [`SHORT_WORD_LEN_MAX`] letters, in lower case.
const SHORT_WORDS: [(&[u8], u8); 16] = [
    (b"trace", TRACE),
    (b"verbose", TRACE),
    (b"debug", DEBUG),
    (b"info", INFO),
    (b"notice", NOTICE),
    (b"warn", WARN),
    (b"warning", WARN),
    (b"err", ERROR),
    (b"error", ERROR),
    (b"severe", ERROR),
    (b"crit", CRITICAL),
    (b"critical", CRITICAL),
    (b"alert", ALERT),
    (b"fatal", FATAL),
    (b"panic", FATAL),
    (b"emerg", FATAL),
];

/// Longer words; read in fields only.
const LONG_WORDS: [(&[u8], u8); 3] = [
    (b"information", INFO),
    (b"informational", INFO),
    (b"emergency", FATAL),
];

/// As many letters as compare at once in a `u64`.
const SHORT_WORD_LEN_MAX: usize = 8;

/// The severity that a word names, whatever its case.
#[must_use]
pub fn of_word(word: &[u8]) -> Option<u8> {
    if word.len() > SHORT_WORD_LEN_MAX {
        let long = LONG_WORDS
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name));
        return long.map(|&(_, severity)| severity);
    }
    let mut bytes = [0; SHORT_WORD_LEN_MAX];
    bytes[..word.len()].copy_from_slice(word);
    of_key(u64::from_le_bytes(bytes) | LOWER_CASE)
}

/// Makes lower case of letters in a key. What it makes of other bytes is no letter, and what it makes of the zeroes
/// behind a word is the same in [`key`].
const LOWER_CASE: u64 = u64::from_le_bytes([0x20; SHORT_WORD_LEN_MAX]);

/// A short word as a number.
const fn key(word: &[u8]) -> u64 {
    let mut bytes = [0; SHORT_WORD_LEN_MAX];
    let mut index = 0;
    while index < word.len() {
        bytes[index] = word[index];
        index += 1;
    }
    u64::from_le_bytes(bytes) | LOWER_CASE
}

/// The words by a hash without collisions: one look and one comparison that is hardly ever true, where a search
/// would take a branch per step that no processor can predict.
const KEYS: [(u64, u8); 64] = {
    let mut table = [(0, 0); 64];
    let mut index = 0;
    while index < SHORT_WORDS.len() {
        let (word, severity) = SHORT_WORDS[index];
        let place = &mut table[slot(key(word))];
        assert!(place.0 == 0, "two words share a slot: choose another multiplier");
        *place = (key(word), severity);
        index += 1;
    }
    table
};

const fn slot(key: u64) -> usize {
    (key.wrapping_mul(MULTIPLIER) >> 58) as usize
}

/// Found by trial; that it fits is asserted above when this is compiled.
const MULTIPLIER: u64 = 0x1e2f_eb89_414c_343d;

fn of_key(key: u64) -> Option<u8> {
    let (known, severity) = KEYS[slot(key)];
    (known == key).then_some(severity)
}

/// The severity of a syslog level, 0 (emergency) to 7 (debug).
#[must_use]
pub const fn of_syslog(level: u32) -> Option<u8> {
    let severity = match level {
        0 => FATAL,
        1 => ALERT,
        2 => CRITICAL,
        3 => ERROR,
        4 => WARN,
        5 => NOTICE,
        6 => INFO,
        7 => DEBUG,
        _ => return None,
    };
    Some(severity)
}

/// The severity of a number in a field: syslog's 0-7, or the tens of bunyan and pino (10 trace … 60 fatal). Python's own
/// numbers look like theirs and can't be told apart; they are read as pino's.
#[must_use]
pub const fn of_number(number: u32) -> Option<u8> {
    let severity = match number {
        0..=7 => return of_syslog(number),
        10..=19 => TRACE,
        20..=29 => DEBUG,
        30..=39 => INFO,
        40..=49 => WARN,
        50..=59 => ERROR,
        60..=69 => FATAL,
        _ => return None,
    };
    Some(severity)
}

/// The severity that the whole value of a field says: a word, or digits.
#[must_use]
pub fn of_value(value: &[u8]) -> Option<u8> {
    match value {
        [a @ b'0'..=b'9'] => of_number(u32::from(a - b'0')),
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => of_number(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => of_word(value),
    }
}

/// The first short level word in `text`, which is the bounded prefix of a line.
///
/// A word of a sentence must not make an error of a line, so a word counts only where a logger would put it:
/// - in capitals, anywhere;
/// - in any case in brackets (`[error]`, `<warn>`, `[core:error]`), after a field's name (`level=error`), with a colon at
///   the start of the message (`error: …`, `sshd[1]: error: …`);
/// - in any case as the very first word, where `first_word_counts`.
pub(super) fn find(text: &[u8], first_word_counts: bool) -> Option<u8> {
    let mut no_word_yet = first_word_counts;
    let mut base = 0;
    while base < text.len() {
        let words = Words::of(&text[base..]);
        let first = words.starts & words.starts.wrapping_neg();
        let mut candidates = words.candidates;
        while candidates != 0 {
            let bit = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let Some(severity) = of_key(words.key_at(bit)) else {
                continue;
            };
            let (start, end) = (base + bit, base + bit + words.len_at(bit));
            let is_first = no_word_yet && first == 1 << bit;
            if is_first || is_level_here(text, start, end) {
                return Some(severity);
            }
        }
        no_word_yet &= words.starts == 0;
        base += words.consumed;
    }
    None
}

/// Bytes that are looked at together, one for each bit of a `u64`.
const CHUNK: usize = 64;

/// Where words are in a piece of text; bit n of a mask stands for byte n. Made without a branch for each byte, for where
/// words end can't be predicted.
struct Words {
    /// The text, with zeroes behind it so that a key can be read at every place.
    bytes: [u8; CHUNK + SHORT_WORD_LEN_MAX],
    in_word: u64,
    /// First bytes of words.
    starts: u64,
    /// First bytes of words of 3 to 8 letters.
    candidates: u64,
    /// Bytes done with: all, or all before a word that goes on behind them.
    consumed: usize,
}

impl Words {
    fn of(text: &[u8]) -> Self {
        let len = text.len().min(CHUNK);
        let mut bytes = [0; CHUNK + SHORT_WORD_LEN_MAX];
        bytes[..len].copy_from_slice(&text[..len]);
        let mut in_word = mask_of_words(bytes.first_chunk().unwrap_or(&[0; CHUNK]));
        let word_at_end = in_word.leading_ones() as usize;
        let goes_on = word_at_end > 0 && word_at_end < CHUNK && text.len() > CHUNK;
        let consumed = if goes_on { CHUNK - word_at_end } else { CHUNK };
        if goes_on {
            in_word &= u64::MAX >> word_at_end;
        }
        let starts = in_word & !(in_word << 1);
        let two = in_word & in_word >> 1;
        let four = two & two >> 2;
        let nine = four & four >> 4 & in_word >> 8;
        Self {
            bytes,
            in_word,
            starts,
            candidates: starts & two & in_word >> 2 & !nine,
            consumed,
        }
    }

    fn len_at(&self, bit: usize) -> usize {
        (self.in_word >> bit).trailing_ones() as usize
    }

    /// The word that starts at `bit`, as [`key`] makes it.
    fn key_at(&self, bit: usize) -> u64 {
        let word = self.bytes[bit..]
            .first_chunk()
            .copied()
            .map_or(0, u64::from_le_bytes);
        let beyond = 8 * (SHORT_WORD_LEN_MAX - self.len_at(bit));
        word << beyond >> beyond | LOWER_CASE
    }
}

/// One bit for each byte that is in a word. Two loops, so that the first becomes vector instructions.
fn mask_of_words(bytes: &[u8; CHUNK]) -> u64 {
    let flags = bytes.map(|byte| u8::from(is_in_word(byte)));
    let mut mask = 0;
    for (group, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Gathers the lowest bits of eight bytes into one byte.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= gathered << (8 * group);
    }
    mask
}

/// Does a byte belong to a word? Points, dashes and slashes do, so that `error.log` and `/var/ERROR` are no level; so does
/// everything beyond ASCII.
fn is_in_word(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let point_dash_slash_digit = byte.wrapping_sub(b'-') <= b'9' - b'-';
    letter | point_dash_slash_digit | (byte == b'_') | (byte >= 0x80)
}

/// Does a logger put the word at `start..end` where it stands?
fn is_level_here(text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).map_or(b' ', |index| text[index]);
    let after = text.get(end).copied().unwrap_or(b' ');
    if before == b'=' || (before == b'"' && start >= 2 && text[start - 2] == b'=') {
        let key_end = if before == b'=' { start - 1 } else { start - 2 };
        return is_level_key(&text[..key_end]);
    }
    let in_capitals = text[start..end].iter().all(u8::is_ascii_uppercase);
    match (before, after) {
        (b'[' | b':', b']') | (b'(', b')') | (b'<', b'>') => true,
        (b' ' | b'\t', b':') if !in_capitals => start < 2 || text[start - 2] == b':',
        (
            b' ' | b'\t' | b'[' | b'(' | b'<' | b'|' | b':' | b']',
            b' ' | b'\t' | b']' | b')' | b'>' | b':' | b'|' | b',',
        ) => in_capitals,
        _ => false,
    }
}

fn is_level_key(before: &[u8]) -> bool {
    [b"level".as_slice(), b"lvl", b"severity", b"LEVEL"]
        .iter()
        .any(|key| before.ends_with(key))
}
