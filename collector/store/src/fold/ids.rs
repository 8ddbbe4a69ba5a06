//! Files of ids: which streams were folded, and up to where each is stored.
//!
//! ```text
//! header  16 bytes  magic "EDGEIDS\n", version 1 (u32), CRC32C of these twelve (u32)
//! page    up to 128 records of 28 bytes, sorted, and their CRC32C; only the last page has fewer
//! record  16 id, 4 CRC32C of the machine's name, 8 end
//! ```
//!
//! Little-endian. A lookup reads one page; the first id of each page is in memory (an eighth of a byte for each stream).

use std::io::IoSlice;
use std::path::Path;

use edgelogger_common::disk::{Access, At, Disk, DiskError, DiskFile};
use edgelogger_common::stream::StreamId;

use crate::error::StoreError;

const MAGIC: &[u8; 8] = b"EDGEIDS\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 28;
const PAGE_RECORDS: usize = 128;
const PAGE_BYTES: usize = PAGE_RECORDS * RECORD_BYTES + 4;

/// One folded stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    id: [u8; 16],
    machine_crc: u32,
    end: u64,
}

impl Record {
    /// Of a stream of this machine.
    pub fn new(id: StreamId, machine_id: &str, end: u64) -> Self {
        Self {
            id: *id.as_bytes(),
            machine_crc: crc32c::crc32c(machine_id.as_bytes()),
            end,
        }
    }

    fn key(&self) -> ([u8; 16], u32) {
        (self.id, self.machine_crc)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.machine_crc.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let (mut id, mut crc, mut end) = ([0; 16], [0; 4], [0; 8]);
        id.copy_from_slice(&bytes[..16]);
        crc.copy_from_slice(&bytes[16..20]);
        end.copy_from_slice(&bytes[20..]);
        Self {
            id,
            machine_crc: u32::from_le_bytes(crc),
            end: u64::from_le_bytes(end),
        }
    }
}

/// One file.
#[derive(Debug)]
pub struct IdsRun {
    name: String,
    file: Box<dyn DiskFile>,
    count: u64,
    /// The first id of each page.
    firsts: Vec<[u8; 16]>,
}

impl IdsRun {
    /// Opens and checks a file. A page that is damaged is told and holds nothing.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path, Access::Read).at("open", path)?;
        let bad = |problem: &str| StoreError::Manifest {
            path: path.to_path_buf(),
            problem: problem.to_owned(),
        };
        let mut header = [0; HEADER_BYTES];
        if read_full(&*file, &mut header, 0).at("read", path)? < HEADER_BYTES || header != *header_bytes() {
            return Err(bad("it does not begin like a file of ids"));
        }
        let pages_bytes = usize::try_from(file.end()).unwrap_or(usize::MAX) - HEADER_BYTES;
        let mut run = Self {
            name: path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned(),
            file,
            count: 0,
            firsts: Vec::new(),
        };
        for page in 0..pages_bytes.div_ceil(PAGE_BYTES) {
            let records = run.page(page).at("read", path)?;
            match records.first() {
                Some(first) => run.firsts.push(first.id),
                None => {
                    tracing::error!(path = %path.display(), page, "ids of folded streams are damaged");
                    // In order all the same: what is looked for here is not found.
                    run.firsts.push(run.firsts.last().copied().unwrap_or_default());
                }
            }
            run.count += records.len() as u64;
        }
        Ok(run)
    }

    /// Its name in the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Streams in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Every position of the stream below this is stored, if it is here.
    pub fn end_of(&self, machine_id: &str, id: StreamId) -> Result<Option<u64>, DiskError> {
        let wanted = Record::new(id, machine_id, 0);
        // The id may begin one page or more before the first that begins behind it.
        let behind = self.firsts.partition_point(|first| *first <= wanted.id);
        for page in (0..behind).rev() {
            let records = match self.page(page) {
                Ok(records) => records,
                Err(error) => return Err(DiskError::new("read", Path::new(&self.name), error)),
            };
            if let Some(found) = records.iter().rev().find(|record| record.key() == wanted.key()) {
                return Ok(Some(found.end));
            }
            // Of a damaged page nothing is known, not even where it begins.
            if !records.is_empty() && self.firsts[page] < wanted.id {
                break;
            }
        }
        Ok(None)
    }

    /// The records of a page; none where it is damaged.
    fn page(&self, page: usize) -> std::io::Result<Vec<Record>> {
        let mut bytes = vec![0; PAGE_BYTES];
        let offset = (HEADER_BYTES + page * PAGE_BYTES) as u64;
        let len = match read_full(&*self.file, &mut bytes, offset) {
            Ok(len) => len,
            // The medium has lost it; waiting does not bring it back.
            Err(error) if error.raw_os_error() == Some(EIO) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let Some((records, crc)) = bytes[..len].split_last_chunk::<4>() else {
            return Ok(Vec::new());
        };
        let (records, rest) = records.as_chunks::<RECORD_BYTES>();
        let whole: Vec<Record> = records.iter().map(Record::decode).collect();
        let is_good = rest.is_empty() && crc32c::crc32c(&bytes[..len - 4]) == u32::from_le_bytes(*crc);
        Ok(if is_good { whole } else { Vec::new() })
    }

    /// Writes a new file of sorted records and of what is in other files, durable but for its name. Of a stream that is
    /// there twice the greater end stands.
    pub fn write(
        disk: &dyn Disk,
        path: &Path,
        records: Vec<Record>,
        merged: &[std::sync::Arc<Self>],
    ) -> Result<Self, StoreError> {
        let mut file = disk.create_new(path).at("create", path)?;
        file.append(&[IoSlice::new(header_bytes())]).at("write", path)?;
        let mut pages = Pages {
            file: &mut *file,
            path,
            page: Vec::with_capacity(PAGE_RECORDS),
            buffer: Vec::new(),
        };
        let mut sources: Vec<Source<'_>> = merged.iter().map(|run| Source::of(run)).collect();
        let mut own = records.into_iter().peekable();
        let mut pending: Option<Record> = None;
        loop {
            let mut next: Option<(Record, Option<usize>)> = own.peek().map(|record| (*record, None));
            for (index, source) in sources.iter_mut().enumerate() {
                let head = source.peek().at("read", path)?;
                if let Some(head) = head.filter(|head| next.is_none_or(|(least, _)| *head < least)) {
                    next = Some((head, Some(index)));
                }
            }
            let Some((record, from)) = next else { break };
            match from {
                None => drop(own.next()),
                Some(index) => sources[index].at += 1,
            }
            // Sorted by end within a key: the later one is greater.
            if let Some(before) = pending.replace(record)
                && before.key() != record.key()
            {
                pages.push(before)?;
            }
        }
        pending.map_or(Ok(()), |last| pages.push(last))?;
        pages.finish()?;
        file.sync_data().at("sync", path)?;
        drop(file);
        Self::open(disk, path)
    }
}

const EIO: i32 = 5;

/// Writes full pages, several at once.
struct Pages<'a> {
    file: &'a mut dyn DiskFile,
    path: &'a Path,
    page: Vec<Record>,
    buffer: Vec<u8>,
}

/// What is written at once.
const WRITE_BYTES: usize = 256 << 10;

impl Pages<'_> {
    fn push(&mut self, record: Record) -> Result<(), DiskError> {
        self.page.push(record);
        if self.page.len() == PAGE_RECORDS {
            self.end_page();
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn end_page(&mut self) {
        let start = self.buffer.len();
        self.page
            .iter()
            .for_each(|record| record.encode(&mut self.buffer));
        self.page.clear();
        let crc = crc32c::crc32c(&self.buffer[start..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file
            .append(&[IoSlice::new(&self.buffer)])
            .at("write", self.path)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), DiskError> {
        if !self.page.is_empty() {
            self.end_page();
        }
        self.flush()
    }
}

/// The records of a file, one after another.
struct Source<'a> {
    run: &'a IdsRun,
    page: Option<(usize, Vec<Record>)>,
    at: usize,
}

impl<'a> Source<'a> {
    fn of(run: &'a IdsRun) -> Self {
        Self {
            run,
            page: None,
            at: 0,
        }
    }

    fn peek(&mut self) -> std::io::Result<Option<Record>> {
        loop {
            let next = match &self.page {
                Some((_, records)) if self.at < records.len() => return Ok(Some(records[self.at])),
                Some((page, _)) => page + 1,
                None => 0,
            };
            if next >= self.run.firsts.len() {
                return Ok(None);
            }
            self.page = Some((next, self.run.page(next)?));
            self.at = 0;
        }
    }
}

fn header_bytes() -> &'static [u8; HEADER_BYTES] {
    static HEADER: std::sync::OnceLock<[u8; HEADER_BYTES]> = std::sync::OnceLock::new();
    HEADER.get_or_init(|| {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&header[..12]);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        header
    })
}

fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use edgelogger_common::disk::FaultDisk;
    use proptest::prelude::*;

    use super::*;

    fn id(number: u16) -> StreamId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        StreamId::from_bytes(id)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_was_folded_is_found_as_in_a_map(
            runs in proptest::collection::vec(proptest::collection::vec((0u16..600, 0u8..3, 1u64..1000), 0..500), 1..4),
        ) {
            let disk = FaultDisk::new(1);
            disk.create_dir_all("/f".as_ref()).unwrap();
            let mut model: BTreeMap<(u16, u8), u64> = BTreeMap::new();
            let mut merged = Vec::new();
            for (number, run) in runs.iter().enumerate() {
                let mut records: Vec<Record> = run.iter().map(|(stream, machine, end)| Record::new(id(*stream), &machine.to_string(), *end)).collect();
                records.sort_unstable();
                for (stream, machine, end) in run {
                    let known = model.entry((*stream, *machine)).or_default();
                    *known = (*known).max(*end);
                }
                let path = format!("/f/{number}");
                merged = vec![Arc::new(IdsRun::write(&disk, path.as_ref(), records, &merged).unwrap())];
            }
            let run = &merged[0];
            prop_assert_eq!(run.count(), model.len() as u64);
            for stream in 0..600 {
                for machine in 0..3u8 {
                    let found = run.end_of(&machine.to_string(), id(stream)).unwrap();
                    prop_assert_eq!(found, model.get(&(stream, machine)).copied());
                }
            }
        }
    }

    fn three_pages() -> (FaultDisk, Vec<u8>) {
        let disk = FaultDisk::new(1);
        disk.create_dir_all("/f".as_ref()).unwrap();
        let records = (0..300)
            .map(|number| Record::new(id(number), "m", u64::from(number) + 1))
            .collect();
        drop(IdsRun::write(&disk, "/f/a".as_ref(), records, &[]).unwrap());
        let bytes = disk.contents("/f/a".as_ref()).unwrap();
        (disk, bytes)
    }

    #[test]
    fn a_damaged_page_costs_its_own_records_only() {
        let (disk, bytes) = three_pages();
        assert_eq!(bytes.len(), HEADER_BYTES + 300 * RECORD_BYTES + 3 * 4);
        disk.corrupt("/f/a".as_ref(), |bytes| bytes[HEADER_BYTES + PAGE_BYTES + 5] ^= 1);
        let run = IdsRun::open(&disk, "/f/a".as_ref()).unwrap();
        for number in 0..300u16 {
            let expected = (!(128..256).contains(&number)).then_some(u64::from(number) + 1);
            assert_eq!(run.end_of("m", id(number)).unwrap(), expected, "{number}");
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay() {
        let (_, bytes) = three_pages();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&bytes[..HEADER_BYTES + RECORD_BYTES]),
            "454447454944530a01000000b559637f00000000000000000000000000000000e08c938c0100000000000000"
        );
    }
}
