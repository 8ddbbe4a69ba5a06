//! The maps of a column as bytes that can be compared: the order of series in files.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};

/// Behind a key, and behind a value: bytes that UTF-8 does not have, so that no two maps have the same bytes.
const AFTER_KEY: u8 = 0xFF;
const AFTER_VALUE: u8 = 0xFE;

/// For each row of a column its map, as bytes. What rows have in common is there once.
#[derive(Debug)]
pub struct MapKeys {
    values: Vec<Box<[u8]>>,
    rows: Vec<u32>,
}

impl MapKeys {
    /// Of a column of maps whose keys are sorted.
    pub fn of(column: &ArrayRef) -> Self {
        let maps = column.as_map();
        let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
        let mut known: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut bytes = Vec::new();
        let rows = maps.value_offsets().windows(2).map(|ends| {
            bytes.clear();
            for entry in ends[0]..ends[1] {
                let entry = usize::try_from(entry).unwrap_or_default();
                bytes.extend_from_slice(keys.value(entry).as_bytes());
                bytes.push(AFTER_KEY);
                if values.is_valid(entry) {
                    bytes.extend_from_slice(values.value(entry).as_bytes());
                }
                bytes.push(AFTER_VALUE);
            }
            if let Some(place) = known.get(bytes.as_slice()) {
                return *place;
            }
            let place = u32::try_from(known.len()).unwrap_or(u32::MAX);
            known.insert(bytes.as_slice().into(), place);
            place
        });
        let rows = rows.collect();
        let mut sorted: Vec<_> = known.into_iter().collect();
        sorted.sort_unstable_by_key(|(_, place)| *place);
        Self {
            values: sorted.into_iter().map(|(value, _)| value).collect(),
            rows,
        }
    }

    /// The map of a row.
    pub fn get(&self, row: usize) -> &[u8] {
        let place = usize::try_from(self.rows[row]).unwrap_or(usize::MAX);
        self.values.get(place).map_or(&[], |value| value)
    }
}

/// The maps of several batches, each row's as a number; numbers compare as the maps do.
#[derive(Debug)]
pub struct MapRanks(Vec<Vec<u32>>);

impl MapRanks {
    /// Of these columns.
    pub fn of<'a>(columns: impl Iterator<Item = &'a ArrayRef>) -> Self {
        let batches: Vec<MapKeys> = columns.map(MapKeys::of).collect();
        let mut all: Vec<&[u8]> = batches
            .iter()
            .flat_map(|keys| &keys.values)
            .map(|value| &**value)
            .collect();
        all.sort_unstable();
        all.dedup();
        let rank =
            |value: &[u8]| u32::try_from(all.partition_point(|other| *other < value)).unwrap_or(u32::MAX);
        let ranked = batches.iter().map(|keys| {
            let ranks: Vec<u32> = keys.values.iter().map(|value| rank(value)).collect();
            let places = keys
                .rows
                .iter()
                .map(|place| usize::try_from(*place).unwrap_or(usize::MAX));
            places
                .map(|place| ranks.get(place).copied().unwrap_or_default())
                .collect()
        });
        Self(ranked.collect())
    }

    /// Of a row of a batch.
    pub fn get(&self, (batch, row): (usize, usize)) -> u32 {
        self.0[batch][row]
    }
}
