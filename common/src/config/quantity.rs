//! A decimal number followed by letters, the shape that sizes and durations share.

/// Most digits after the point; more would promise an exactness that no unit here has.
const FRACTION_DIGITS_MAX: u32 = 9;

/// `1.5 GiB` in parts: the number as `mantissa / 10^scale`, and the unit as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Quantity<'a> {
    mantissa: u128,
    scale: u32,
    pub(crate) unit: &'a str,
}

impl<'a> Quantity<'a> {
    /// Reads one quantity from the start of `text` and returns it with what follows its unit. `None` where no
    /// number starts or the number is too long.
    pub(crate) fn take(text: &'a str) -> Option<(Self, &'a str)> {
        let number_len = text
            .find(|c: char| !matches!(c, '0'..='9' | '.' | '_'))
            .unwrap_or(text.len());
        let (number, rest) = text.split_at(number_len);
        let (mantissa, scale) = decimal(number)?;
        let rest = rest.trim_start();
        let unit_len = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_len);
        Some((
            Self {
                mantissa,
                scale,
                unit,
            },
            rest,
        ))
    }

    /// The number times `factor`, if that is whole and fits.
    pub(crate) fn times(&self, factor: u128) -> Option<u128> {
        let product = self.mantissa.checked_mul(factor)?;
        let divisor = 10_u128.pow(self.scale);
        (product % divisor == 0).then_some(product / divisor)
    }
}

/// `1_000.5` as (10005, 1).
fn decimal(number: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.starts_with('_') || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let scale = u32::try_from(fraction.len())
        .ok()
        .filter(|digits| *digits <= FRACTION_DIGITS_MAX)?;
    if fraction.bytes().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = whole
        .chars()
        .filter(|c| *c != '_')
        .chain(fraction.chars())
        .collect();
    Some((digits.parse().ok()?, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_number_and_a_unit() {
        let (quantity, rest) = Quantity::take("1.5 GiB left").unwrap();
        assert_eq!((quantity.unit, rest), ("GiB", " left"));
        assert_eq!(quantity.times(1 << 30), Some(3 << 29));
        assert_eq!(quantity.times(1), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "GiB",
            ".5 s",
            "1. s",
            "1.2.3 s",
            "-1 s",
            "_1 s",
            "1.1234567890 s",
        ] {
            assert_eq!(Quantity::take(text), None, "{text}");
        }
    }
}
