//! Reading digits, and the parts of a time that all formats share.

/// Digits of a fraction that count: nanoseconds.
const FRACTION_DIGITS: usize = 9;

/// Exactly two digits.
pub(super) fn two(bytes: [u8; 2]) -> Option<u32> {
    let [tens, ones] = bytes.map(|byte| byte.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// Exactly four digits.
pub(super) fn four(bytes: [u8; 4]) -> Option<u32> {
    let [a, b, c, d] = bytes;
    Some(two([a, b])? * 100 + two([c, d])?)
}

/// `hh:mm:ss` at the start of `text`.
pub(super) fn clock(text: &[u8]) -> Option<(u32, u32, u32)> {
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = text.first_chunk::<8>()? else {
        return None;
    };
    let clock = (two([h1, h2])?, two([m1, m2])?, two([s1, s2])?);
    // A third digit would make the seconds something else.
    (!text.get(8).is_some_and(u8::is_ascii_digit)).then_some(clock)
}

/// A fraction of a second at the start of `text`, with its `.` or `,`: nanoseconds, and the bytes it takes. No
/// fraction takes none.
pub(super) fn fraction(text: &[u8]) -> (u32, usize) {
    let [b'.' | b',', digits @ ..] = text else {
        return (0, 0);
    };
    let mut ns = 0;
    let mut count = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if count < FRACTION_DIGITS {
            ns = ns * 10 + u32::from(digit);
        }
        count += 1;
    }
    if count == 0 {
        return (0, 0);
    }
    for _ in count..FRACTION_DIGITS {
        ns *= 10;
    }
    (ns, count + 1)
}

/// The offset of a zone at the start of `text`, in seconds east of UTC, and the bytes it takes: `Z`, `UTC`, `GMT`,
/// `+01`, `+0100`, `+01:00`, with at most one space before. No zone gives `None`.
pub(super) fn zone(text: &[u8]) -> Option<(i32, usize)> {
    let (text, space) = match text {
        [b' ', rest @ ..] => (rest, 1),
        _ => (text, 0),
    };
    let (offset, len) = match text {
        [b'Z' | b'z', ..] => (0, 1),
        [b'U', b'T', b'C', ..] | [b'G', b'M', b'T', ..] => (0, 3),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => signed_offset(*sign, [*h1, *h2], rest)?,
        _ => return None,
    };
    let ends = !text.get(len).is_some_and(u8::is_ascii_alphanumeric);
    ends.then_some((offset, len + space))
}

fn signed_offset(sign: u8, hours: [u8; 2], rest: &[u8]) -> Option<(i32, usize)> {
    let hours = two(hours)?;
    let (minutes, len) = match rest {
        [b':', m1, m2, ..] => (two([*m1, *m2])?, 6),
        [m1 @ b'0'..=b'9', m2, ..] => (two([*m1, *m2])?, 5),
        _ => (0, 3),
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    Some((if sign == b'-' { -seconds } else { seconds }, len))
}

/// Skips spaces, at most `max`.
pub(super) fn spaces(text: &[u8], max: usize) -> usize {
    text.iter().take(max).take_while(|&&byte| byte == b' ').count()
}
