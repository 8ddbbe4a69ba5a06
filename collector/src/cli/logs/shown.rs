//! Which records were shown: by their addresses, the newest [`SHOWN_MAX`] of them.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

/// Addresses that are remembered, some 20 MiB. What comes again comes from the last seconds: records that were applied
/// while the first ones were asked for, and what a collector repeats to a tail that comes back (10,000 at most).
const SHOWN_MAX: usize = 1 << 18;

/// Stream and position of a record.
pub(super) type Address = (u128, i64);

/// Of a record as the API sends it.
pub(super) fn address_of(row: &Value) -> Option<Address> {
    let stream_id = u128::from_str_radix(row["stream_id"].as_str()?, 16).ok()?;
    Some((stream_id, row["position"].as_i64()?))
}

#[derive(Debug)]
pub(super) struct Shown {
    known: HashSet<Address>,
    order: VecDeque<Address>,
    count_max: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Self::with_room_for(SHOWN_MAX)
    }
}

impl Shown {
    fn with_room_for(count_max: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            count_max,
        }
    }

    /// Remembers a record. False when it was known.
    pub(super) fn insert(&mut self, address: Address) -> bool {
        if !self.known.insert(address) {
            return false;
        }
        self.order.push_back(address);
        if self.order.len() > self.count_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_new_once_and_the_oldest_are_forgotten() {
        let mut shown = Shown::with_room_for(2);
        assert!(shown.insert((1, 1)) && shown.insert((1, 2)) && !shown.insert((1, 1)));
        assert!(shown.insert((2, 1)), "another stream");
        assert!(
            !shown.insert((1, 2)) && shown.insert((1, 1)),
            "the oldest was forgotten"
        );
        assert_eq!(shown.known.len(), 2);
    }

    #[test]
    fn a_record_without_an_address_has_none() {
        let stream = "00000000000000000000000000000011";
        assert_eq!(
            address_of(&json!({ "stream_id": stream, "position": 7 })),
            Some((17, 7))
        );
        assert_eq!(address_of(&json!({ "stream_id": "x", "position": 7 })), None);
        assert_eq!(address_of(&json!({})), None);
    }
}
