//! Which pages of a file can hold samples with certain labels. The engine skips pages by plain columns; labels are maps.
//!
//! A row with a label has its value among the values of its map, so it lies in a page whose least and greatest value
//! enclose it. Samples of one series lie together (`order.rs`), so that these are few; of series with several labels, whose
//! values lie far apart, they are more.

use std::ops::Range;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use crate::schema::column;

/// A label is one of the sample or of its agent.
const MAPS: [&str; 2] = [column::LABELS, column::AGENT_LABELS];

/// What is to be read of a file to find all rows that have each of these values as a label. None: all of it.
pub fn access_plan(footer: &ParquetMetaData, values: &[String]) -> Option<ParquetAccessPlan> {
    if values.is_empty() {
        return None;
    }
    let leaves = footer
        .file_metadata()
        .schema_descr()
        .columns()
        .iter()
        .map(|leaf| leaf.path().parts());
    let places: Vec<usize> = leaves
        .enumerate()
        .filter(|(_, path)| {
            let is_map = path.first().is_some_and(|first| MAPS.contains(&first.as_str()));
            is_map && path.last().is_some_and(|last| last == "value")
        })
        .map(|(place, _)| place)
        .collect();
    let groups = (0..footer.num_row_groups()).map(|group| {
        let rows = usize::try_from(footer.row_group(group).num_rows()).ok()?;
        let mut chosen: Option<RowSelection> = None;
        for value in values {
            let mut holds: Option<RowSelection> = None;
            for place in &places {
                let pages = RowSelection::from_consecutive_ranges(
                    pages(footer, group, *place, rows, value.as_bytes())?.into_iter(),
                    rows,
                );
                holds = Some(holds.map_or_else(|| pages.clone(), |holds| holds.union(&pages)));
            }
            let holds = holds?;
            chosen = Some(chosen.map_or_else(|| holds.clone(), |chosen| chosen.intersection(&holds)));
        }
        let chosen = chosen?;
        Some(match chosen.row_count() {
            0 => RowGroupAccess::Skip,
            all if all == rows => RowGroupAccess::Scan,
            _ => RowGroupAccess::Selection(chosen),
        })
    });
    // Where a row group has no index all of it is read.
    let groups = groups
        .map(|group| group.unwrap_or(RowGroupAccess::Scan))
        .collect();
    Some(ParquetAccessPlan::new(groups))
}

/// Rows of the pages whose values enclose this one.
fn pages(
    footer: &ParquetMetaData,
    group: usize,
    place: usize,
    rows: usize,
    value: &[u8],
) -> Option<Vec<Range<usize>>> {
    let ColumnIndexMetaData::BYTE_ARRAY(index) = footer.column_index()?.get(group)?.get(place)? else {
        return None;
    };
    let locations = footer.offset_index()?.get(group)?.get(place)?.page_locations();
    let mut found: Vec<Range<usize>> = Vec::new();
    for (page, location) in locations.iter().enumerate() {
        let (least, greatest) = (index.min_value(page), index.max_value(page));
        let encloses =
            least.is_none_or(|least| least <= value) && greatest.is_none_or(|greatest| value <= greatest);
        if index.is_null_page(page) || !encloses {
            continue;
        }
        let first = usize::try_from(location.first_row_index).ok()?;
        let end = match locations.get(page + 1) {
            Some(next) => usize::try_from(next.first_row_index).ok()?,
            None => rows,
        };
        match found.last_mut() {
            Some(last) if last.end == first => last.end = end,
            _ => found.push(first..end),
        }
    }
    Some(found)
}
