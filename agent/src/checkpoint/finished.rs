//! What is remembered of a file whose stream is over: enough to know its content again, where a rotation compressed it
//! or it is found under another name.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{SourceKind, StreamDescriptor};

use super::format::array;
use super::progress::Progress;
use crate::flow::{ContentCheck, Resume};

/// Files remembered, some 150 bytes each: a year of daily rotations of ten logs. Of what is older the compressed form
/// would be read again, if it is included and found for the first time.
pub(super) const FINISHED_MAX: usize = 4096;

/// A record without its path, in bytes.
const FIXED_LEN: usize = 48;

/// A file whose stream is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedFile {
    /// Its stream.
    pub stream_id: StreamId,
    /// The path by which it was included.
    pub path: Bytes,
    /// When its stream was opened, ns UTC.
    pub opened_time_ns: i64,
    /// Of its first bytes.
    pub fingerprint: ContentCheck,
    /// Everything below was read and acknowledged.
    pub size: u64,
    /// Of the bytes before that.
    pub check: ContentCheck,
}

impl FinishedFile {
    /// Of a file of which something was read.
    pub(super) fn of(id: StreamId, descriptor: &StreamDescriptor, progress: &Progress) -> Option<Self> {
        let Resume::Content(check) = progress.resume else {
            return None;
        };
        let file = descriptor
            .file
            .as_ref()
            .filter(|_| descriptor.kind == i32::from(SourceKind::File))?;
        let fingerprint = ContentCheck {
            len: file.fingerprint_len,
            crc32c: file.fingerprint_crc32c,
        };
        (progress.upto > 0 && fingerprint.len > 0).then_some(Self {
            stream_id: id,
            path: file.path.clone(),
            opened_time_ns: descriptor.opened_time_ns,
            fingerprint,
            size: progress.upto,
            check,
        })
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.put_slice(self.stream_id.as_bytes());
        out.put_u64_le(self.size);
        for check in [self.fingerprint, self.check] {
            out.put_u32_le(check.len);
            out.put_u32_le(check.crc32c);
        }
        out.put_i64_le(self.opened_time_ns);
        out.put_slice(&self.path);
    }

    pub(super) fn read(body: &mut &[u8]) -> Option<Self> {
        let stream_id = StreamId::from_bytes(array(body)?);
        let size = body.try_get_u64_le().ok()?;
        let mut check = || {
            Some(ContentCheck {
                len: body.try_get_u32_le().ok()?,
                crc32c: body.try_get_u32_le().ok()?,
            })
        };
        let (fingerprint, check) = (check()?, check()?);
        let opened_time_ns = body.try_get_i64_le().ok()?;
        let path = Bytes::copy_from_slice(std::mem::take(body));
        Some(Self {
            stream_id,
            path,
            opened_time_ns,
            fingerprint,
            size,
            check,
        })
    }
}

/// The newest of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct FinishedFiles(VecDeque<FinishedFile>);

impl FinishedFiles {
    pub fn add(&mut self, file: FinishedFile) {
        self.0.retain(|known| known.stream_id != file.stream_id);
        if self.0.len() >= FINISHED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(file);
    }

    /// Length of all their records, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.0.iter().map(|file| FIXED_LEN + file.path.len()).sum()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &FinishedFile> {
        self.0.iter()
    }
}
