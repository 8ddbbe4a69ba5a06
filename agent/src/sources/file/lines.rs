//! Source bytes to blocks. Pure: a slice of a file in, a block out.
//!
//! A line is what ends with a line feed; a carriage return before it belongs to the line's end, not to its body. A
//! block of lines that all end in a bare line feed is the read buffer itself. Where there are carriage returns or
//! lines over the limit, bodies are copied together and a column says how many source bytes each line took.

use bytes::{BufMut, Bytes, BytesMut};
use edgelogger_common::block::{
    Block, BlockError, BlockHeader, BlockKind, Column, ColumnId, ColumnType, Encoding, LogBlockBuilder,
    LogRow, RecordFlags,
};
use edgelogger_common::stream::StreamId;
use memchr::{memchr, memchr_iter};

use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck};

/// CRC32C of the last bytes of `content`, as many as a check covers.
pub(super) fn check_at_end_of(content: &[u8]) -> ContentCheck {
    let window = &content[content.len().saturating_sub(CONTENT_CHECK_BYTES_MAX as usize)..];
    #[expect(clippy::cast_possible_truncation, reason = "at most CONTENT_CHECK_BYTES_MAX")]
    let len = window.len() as u32;
    ContentCheck {
        len,
        crc32c: crc32c::crc32c(window),
    }
}

/// What all blocks of one read share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub stream_id: StreamId,
    /// Position of the first byte.
    pub start: u64,
    /// ns UTC of the read.
    pub observed_time_ns: i64,
    /// Longest body in bytes.
    pub line_bytes_max: usize,
}

/// A line's body without what ends it: a line feed, or a carriage return and a line feed.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Are the bodies exactly the lines without their line feeds? Then the block is the very bytes that were read.
pub(super) fn is_plain(lines: &[u8], line_bytes_max: usize) -> bool {
    // A line over the limit is longer than the limit and its line feed, so most reads need no look at each line.
    let fits = |lines: &[u8]| {
        lines.len() <= line_bytes_max + 1 || {
            let mut start = 0;
            memchr_iter(b'\n', lines)
                .all(|end| end - std::mem::replace(&mut start, end + 1) <= line_bytes_max)
        }
    };
    memchr(b'\r', lines).is_none() && fits(lines)
}

#[expect(clippy::cast_possible_truncation, reason = "a read is far below 4 GiB")]
fn count_lines(lines: &[u8]) -> u32 {
    memchr_iter(b'\n', lines).count() as u32
}

/// A block of plain lines ([`is_plain`]); the last ends with a line feed.
pub(super) fn block_of_plain_lines(cut: &Cut, lines: Bytes) -> Block {
    let (count, crc) = (count_lines(&lines), crc32c::crc32c(&lines));
    Block::from_lines(cut.stream_id, cut.start, lines, count, crc, cut.observed_time_ns)
}

/// A block of any lines, also with carriage returns or over the limit; the last ends with a line feed.
pub(super) fn block_of_lines(cut: &Cut, lines: &[u8]) -> Block {
    let count = count_lines(lines);
    let crc = crc32c::crc32c(lines);
    let mut bodies = BytesMut::with_capacity(lines.len());
    let mut extras = Vec::with_capacity(count as usize);
    let mut flags = Vec::new();
    let mut start = 0;
    for (row, line_feed) in memchr_iter(b'\n', lines).enumerate() {
        let line = &lines[start..=line_feed];
        let mut body = without_end(line);
        if body.len() > cut.line_bytes_max {
            body = &body[..cut.line_bytes_max];
            flags.resize(count as usize, 0);
            flags[row] = RecordFlags::TRUNCATED.0;
        }
        extras.push((line.len() - body.len()) as i64);
        bodies.put_slice(body);
        bodies.put_u8(b'\n');
        start = line_feed + 1;
    }
    let mut columns = vec![
        Column::constant_i64(ColumnId::OBSERVED_TIME, cut.observed_time_ns),
        column(
            ColumnId::BODY,
            ColumnType::Bytes,
            Encoding::Lines,
            bodies.freeze(),
        ),
    ];
    columns.extend(source_len(&extras));
    if !flags.is_empty() {
        columns.push(column(
            ColumnId::RECORD_FLAGS,
            ColumnType::U8,
            Encoding::Plain,
            flags.into(),
        ));
    }
    Block {
        header: header(cut, lines.len() as u64, count, crc),
        columns,
    }
}

fn header(cut: &Cut, len: u64, record_count: u32, crc: u32) -> BlockHeader {
    BlockHeader {
        kind: BlockKind::Log,
        counts_records: false,
        stream_id: cut.stream_id,
        start: cut.start,
        end: cut.start + len,
        record_count,
        source_crc32c: Some(crc),
    }
}

const fn column(id: ColumnId, column_type: ColumnType, encoding: Encoding, data: Bytes) -> Column {
    Column {
        id,
        column_type,
        encoding,
        nullable: false,
        data,
    }
}

/// Nothing where all lines end in a bare line feed, one value where all end alike, else 8 bytes a line, which
/// compress to nearly nothing.
fn source_len(extras: &[i64]) -> Option<Column> {
    let first = extras.first().copied().unwrap_or(1);
    if extras.iter().any(|extra| *extra != first) {
        let data = extras
            .iter()
            .flat_map(|extra| extra.to_le_bytes())
            .collect::<Vec<u8>>();
        return Some(column(
            ColumnId::SOURCE_LEN,
            ColumnType::I64,
            Encoding::Plain,
            data.into(),
        ));
    }
    (first != 1).then(|| Column::constant_i64(ColumnId::SOURCE_LEN, first))
}

/// A block of one record whose body is not simply the line: it has no line feed, or it was cut.
///
/// `body` may be longer than the limit; `source_len` is what the record takes of the source.
pub(super) fn block_of_one(
    cut: &Cut,
    body: &[u8],
    source_len: u64,
    source_crc32c: u32,
    flags: RecordFlags,
) -> Result<Block, BlockError> {
    let body_len = body.len().min(cut.line_bytes_max);
    let flags = if body_len < body.len() {
        flags.with(RecordFlags::TRUNCATED)
    } else {
        flags
    };
    let mut builder = LogBlockBuilder::new(cut.stream_id, false, cut.start);
    builder.push(LogRow {
        observed_time: cut.observed_time_ns,
        body: body[..body_len].to_vec(),
        source_len,
        flags,
        ..LogRow::default()
    });
    builder.set_source_crc32c(Some(source_crc32c));
    builder.finish()
}

#[cfg(test)]
mod tests {
    use edgelogger_common::block::BlockView;

    use super::*;

    const CUT: Cut = Cut {
        stream_id: StreamId::from_bytes([1; 16]),
        start: 100,
        observed_time_ns: 7,
        line_bytes_max: 8,
    };

    /// Bodies, source lengths, flags.
    fn check(lines: &[u8], expected: &[(&[u8], u64, u8)]) {
        let block = if is_plain(lines, CUT.line_bytes_max) {
            block_of_plain_lines(&CUT, Bytes::copy_from_slice(lines))
        } else {
            block_of_lines(&CUT, lines)
        };
        let BlockView::Log(view) = block.view().unwrap() else {
            panic!("a log block")
        };
        let rows: Vec<_> = view
            .rows()
            .map(|row| (row.body, row.source_len, row.flags.0))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(body, len, flags)| (body.to_vec(), *len, *flags))
            .collect();
        assert_eq!(rows, expected, "{lines:?}");
        assert_eq!(block.header.range(), 100..100 + lines.len() as u64);
        assert_eq!(block.header.source_crc32c, Some(crc32c::crc32c(lines)));
    }

    #[test]
    fn bare_lines_are_the_bytes_that_were_read() {
        check(b"a\n\nbc\n", &[(b"a", 2, 0), (b"", 1, 0), (b"bc", 3, 0)]);
        let lines = Bytes::from_static(b"a\nbc\n");
        let block = block_of_plain_lines(&CUT, lines.clone());
        assert_eq!(
            block.column(ColumnId::BODY).unwrap().data.as_ptr(),
            lines.as_ptr()
        );
        assert!(block.column(ColumnId::SOURCE_LEN).is_none());
    }

    #[test]
    fn one_carriage_return_belongs_to_the_end_of_a_line() {
        check(b"a\r\nb\r\n", &[(b"a", 3, 0), (b"b", 3, 0)]);
        check(b"a\r\nb\n\r\n", &[(b"a", 3, 0), (b"b", 2, 0), (b"", 2, 0)]);
        check(b"a\rb\nc\r\r\n", &[(b"a\rb", 4, 0), (b"c\r", 4, 0)]);
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_keeps_its_length() {
        check(
            b"12345678\n123456789\nx\n",
            &[(b"12345678", 9, 0), (b"12345678", 10, 1), (b"x", 2, 0)],
        );
        check(
            b"12345678\r\n12345678\r\r\n",
            &[(b"12345678", 10, 0), (b"12345678", 11, 1)],
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        check(b"\xff\0\n", &[(b"\xff\0", 3, 0)]);
    }

    #[test]
    fn one_record_without_a_line_feed_has_its_length_only() {
        let block = block_of_one(&CUT, b"abc", 3, 1, RecordFlags::NO_LINE_FEED).unwrap();
        let BlockView::Log(view) = block.view().unwrap() else {
            panic!("a log block")
        };
        assert_eq!(view.row(0, (100, 103)).body, b"abc");
        assert_eq!(view.flags(0), RecordFlags::NO_LINE_FEED);
        assert_eq!(block.header.range(), 100..103);
    }

    /// Its cut body and a line feed are as long as the line itself was, and not the same.
    #[test]
    fn a_record_one_byte_over_the_limit_without_a_line_feed_is_a_good_block() {
        let line = b"123456789";
        let crc = crc32c::crc32c(line);
        let block = block_of_one(&CUT, line, 9, crc, RecordFlags::NO_LINE_FEED).unwrap();
        let BlockView::Log(view) = block.view().unwrap() else {
            panic!("a log block")
        };
        assert_eq!(view.row(0, (100, 109)).body, b"12345678");
        assert_eq!(
            view.flags(0),
            RecordFlags::NO_LINE_FEED.with(RecordFlags::TRUNCATED)
        );
        assert_eq!(block.header.source_crc32c, Some(crc));
    }

    #[test]
    fn a_check_covers_at_most_its_window() {
        assert_eq!(check_at_end_of(b""), ContentCheck::default());
        let content = [9u8; 3000];
        assert_eq!(check_at_end_of(&content), check_at_end_of(&content[..1024]));
        assert_eq!(check_at_end_of(&content).len, 1024);
    }
}
