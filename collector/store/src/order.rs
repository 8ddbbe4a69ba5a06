//! The order of rows in files: by day, then (machine_id, time, stream_id, position); metrics by (machine_id, name, labels,
//! time, …), so that the samples of one series lie together and a query for it skips the pages of the others.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use crate::gather::{Gather, Pick};
use crate::map_keys::MapRanks;
use crate::partition::partition_day;
use crate::schema::column;

/// The number of this order. Before it, metrics were ordered as logs are; such files have no number.
pub const ORDER: u8 = 1;

/// The rows of one day, in order.
pub struct Day {
    pub day: i64,
    pub picks: Vec<Pick>,
    pub machines: Vec<String>,
    /// First and last of `time`.
    pub time: (i64, i64),
    /// First and last of `received_time`.
    pub received: (i64, i64),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    day: i64,
    machine: i32,
    /// Of a metric; logs have none.
    name: i32,
    /// Of a sample; logs have their agent's, which order nothing.
    labels: u32,
    time: i64,
    stream: i32,
    position: i64,
    pick: Pick,
}

/// All rows by day.
pub fn days(rows: &Gather<'_>) -> Vec<Day> {
    let mut keys = keys(rows);
    // Stable sort: the rows of each batch are mostly in order already, and it makes use of that.
    keys.sort();
    keys.chunk_by(|left, right| left.day == right.day)
        .map(|keys| day(rows, keys))
        .collect()
}

fn keys(rows: &Gather<'_>) -> Vec<Key> {
    let [machines, names, streams] =
        [column::MACHINE_ID, column::NAME, column::STREAM_ID].map(|name| rows.dictionary(name));
    let key = |dictionary: Option<&crate::gather::Dictionary<'_>>, pick| {
        dictionary.map_or(0, |found| found.key(pick))
    };
    let labels = names.map(|_| MapRanks::of(rows.batches().iter().map(|batch| &batch[column::LABELS])));
    let mut keys = Vec::with_capacity(rows.batches().iter().map(|batch| batch.num_rows()).sum());
    for (index, batch) in rows.batches().iter().enumerate() {
        let (time, received) = (times(batch, column::TIME), times(batch, column::RECEIVED_TIME));
        let event = batch[column::EVENT_TIME].as_primitive::<TimestampNanosecondType>();
        let position = batch[column::POSITION].as_primitive::<Int64Type>().values();
        for row in 0..batch.num_rows() {
            let pick = (index, row);
            let event = event.is_valid(row).then(|| event.value(row));
            keys.push(Key {
                day: partition_day(event, received[row]),
                machine: key(machines, pick),
                name: key(names, pick),
                labels: labels.as_ref().map_or(0, |labels| labels.get(pick)),
                time: time[row],
                stream: key(streams, pick),
                position: position[row],
                pick,
            });
        }
    }
    keys
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch[name].as_primitive::<TimestampNanosecondType>().values()
}

fn day(rows: &Gather<'_>, keys: &[Key]) -> Day {
    let received = keys
        .iter()
        .map(|key| times(rows.batches()[key.pick.0], column::RECEIVED_TIME)[key.pick.1]);
    let machines = keys
        .chunk_by(|left, right| left.machine == right.machine)
        .filter_map(|same| {
            let dictionary = rows.dictionary(column::MACHINE_ID)?;
            Some(
                (*dictionary
                    .values
                    .get(usize::try_from(same.first()?.machine).ok()?)?)
                .to_owned(),
            )
        });
    Day {
        day: keys.first().map_or(0, |key| key.day),
        picks: keys.iter().map(|key| key.pick).collect(),
        machines: machines.collect(),
        time: range(keys.iter().map(|key| key.time)),
        received: range(received),
    }
}

fn range(values: impl Iterator<Item = i64>) -> (i64, i64) {
    values.fold((i64::MAX, i64::MIN), |(min, max), value| {
        (min.min(value), max.max(value))
    })
}
