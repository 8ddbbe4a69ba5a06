//! Page cursors: the address of the last record of a page, in an order that is total.

use super::Order;
use crate::error::QueryError;

/// Digits of a cursor: version and order, time, stream, position.
const CURSOR_LEN: usize = 2 + 16 + 32 + 16;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub order: Order,
    pub time: i64,
    /// 32 hexadecimal digits.
    pub stream_id: String,
    pub position: i64,
}

impl Cursor {
    pub fn encode(&self) -> String {
        let order = match self.order {
            Order::NewestFirst => '0',
            Order::OldestFirst => '1',
        };
        format!(
            "1{order}{:016x}{}{:016x}",
            self.time.cast_unsigned(),
            self.stream_id,
            self.position.cast_unsigned()
        )
    }

    pub fn decode(text: &str, order: Order) -> Result<Self, QueryError> {
        let is_hex = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        if text.len() != CURSOR_LEN || !is_hex {
            return Err(QueryError::BadCursor);
        }
        let number = |digits: &str| u64::from_str_radix(digits, 16).map(u64::cast_signed);
        let (time, position) = (number(&text[2..18]), number(&text[50..]));
        let (Ok(time), Ok(position)) = (time, position) else {
            return Err(QueryError::BadCursor);
        };
        let cursor = Self {
            order,
            time,
            stream_id: text[18..50].to_owned(),
            position,
        };
        // Encoding it again also checks version and order.
        if cursor.encode() == text {
            Ok(cursor)
        } else {
            Err(QueryError::BadCursor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(time: i64, stream: u128, position: i64, newest: bool) {
            let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
            let cursor = Cursor { order, time, stream_id: format!("{stream:032x}"), position };
            prop_assert_eq!(Cursor::decode(&cursor.encode(), order).unwrap(), cursor);
        }

        #[test]
        fn no_text_makes_a_cursor_panic(text in ".{0,80}", hex in "[0-9a-g]{66}") {
            let _ = Cursor::decode(&text, Order::NewestFirst);
            let _ = Cursor::decode(&hex, Order::NewestFirst);
        }
    }

    #[test]
    fn a_cursor_of_the_other_order_is_refused() {
        let cursor = Cursor {
            order: Order::NewestFirst,
            time: 5,
            stream_id: "0".repeat(32),
            position: 9,
        };
        assert!(Cursor::decode(&cursor.encode(), Order::OldestFirst).is_err());
    }
}
