//! Many small blocks of plain lines to one, without decoding them: what a log that grows line by line gives.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Block, BlockHeader, Column, ColumnId, I64Column, RECORDS_MAX};
use crate::crc;

impl Block {
    /// One block of neighbouring blocks as [`Block::from_lines`] makes them: bodies are put behind each other, each
    /// record keeps the time at which it was observed, the CRC of the whole is computed from those of the parts.
    ///
    /// `None` where there are fewer than two, one is of another shape, they are not neighbours of one stream, or
    /// they have too many records together; [`Block::merge`] serves the general case.
    #[must_use]
    pub fn merge_lines<'a>(blocks: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        let (first, last) = (blocks.clone().next()?, blocks.clone().last()?);
        let mut records = 0u32;
        let mut next = first.header.start;
        for block in blocks.clone() {
            let header = &block.header;
            let continues = header.stream_id == first.header.stream_id && header.start == next;
            if !continues || !block.is_plain_lines() {
                return None;
            }
            next = header.end;
            records = records
                .checked_add(header.record_count)
                .filter(|records| *records <= RECORDS_MAX)?;
        }
        if first.header.end == last.header.end {
            return None;
        }
        let header = BlockHeader {
            end: last.header.end,
            record_count: records,
            source_crc32c: combined_crc(blocks.clone()),
            ..first.header.clone()
        };
        let observed = observed_times(blocks.clone(), records)?;
        Some(Self {
            header,
            columns: vec![observed, bodies(first, blocks)?],
        })
    }
}

fn combined_crc<'a>(blocks: impl Iterator<Item = &'a Block>) -> Option<u32> {
    blocks
        .map(|block| Some((block.header.source_crc32c?, body(block)?.len())))
        .try_fold(0, |crc, part| {
            part.map(|(next, len)| crc::combine(crc, next, len as u64))
        })
}

fn body(block: &Block) -> Option<&Bytes> {
    block.column(ColumnId::BODY).map(|column| &column.data)
}

fn bodies<'a>(first: &Block, blocks: impl Iterator<Item = &'a Block> + Clone) -> Option<Column> {
    let len = blocks.clone().filter_map(body).map(Bytes::len).sum();
    let mut data = BytesMut::with_capacity(len);
    blocks.filter_map(body).for_each(|lines| data.put_slice(lines));
    let column = first.column(ColumnId::BODY)?;
    Some(Column {
        data: data.freeze(),
        ..column.clone()
    })
}

fn observed_times<'a>(blocks: impl Iterator<Item = &'a Block>, records: u32) -> Option<Column> {
    let mut times = Vec::with_capacity(records as usize);
    for block in blocks {
        let constant = block.column(ColumnId::OBSERVED_TIME)?.data.as_ref();
        let time = i64::from_le_bytes(constant.try_into().ok()?);
        times.extend(std::iter::repeat_n(
            Some(time),
            block.header.record_count as usize,
        ));
    }
    I64Column::encode(ColumnId::OBSERVED_TIME, &times)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::StreamId;

    fn plain(start: u64, lines: &str, observed: i64) -> Block {
        let bytes = Bytes::copy_from_slice(lines.as_bytes());
        let records = u32::try_from(lines.matches('\n').count()).unwrap();
        let crc = crc32c::crc32c(&bytes);
        Block::from_lines(
            StreamId::from_bytes([1; 16]),
            start,
            bytes,
            records,
            crc,
            observed,
        )
    }

    proptest! {
        #[test]
        fn merging_at_once_gives_the_records_of_merging_one_by_one(
            parts in prop::collection::vec(("([a-c]{0,3}\n){1,3}", 0i64..3), 2..8),
        ) {
            let mut at = 100;
            let blocks: Vec<_> = parts.iter().map(|(lines, observed)| {
                let block = plain(at, lines, *observed);
                at = block.header.end;
                block
            }).collect();
            let merged = Block::merge_lines(blocks.iter()).unwrap();
            let one_by_one = blocks[1..].iter().fold(blocks[0].clone(), |left, right| left.merge(right).unwrap());
            prop_assert_eq!(&merged.header, &one_by_one.header);
            prop_assert_eq!(merged.view().unwrap(), one_by_one.view().unwrap());
        }
    }

    #[test]
    fn what_is_not_plain_or_no_neighbour_stays_apart() {
        let (one, two, far) = (plain(0, "a\n", 1), plain(2, "b\n", 2), plain(9, "c\n", 3));
        assert!(Block::merge_lines([&one].into_iter()).is_none());
        assert!(Block::merge_lines([&one, &far].into_iter()).is_none());
        let merged = Block::merge_lines([&one, &two].into_iter()).unwrap();
        assert!(Block::merge_lines([&merged, &plain(4, "d\n", 4)].into_iter()).is_none());
    }
}
