//! What the transport learns goes to the checkpoints, to the account and to the spool.

use std::sync::Arc;

use bytes::Bytes;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{StoredStream, StreamDescriptor};

use crate::adoption::Adoption;
use crate::checkpoint::{Checkpoints, LogReplaced};
use crate::flow::SentBlock;
use crate::spool::Spool;
use crate::tally::{Settled, Tally};
use crate::transport::{Delivered, Journal};

pub(super) struct TalliedJournal {
    checkpoints: Arc<Checkpoints>,
    tally: Arc<Tally>,
    spool: Option<Spool>,
    adoption: Option<Adoption>,
}

impl TalliedJournal {
    pub const fn new(
        checkpoints: Arc<Checkpoints>,
        tally: Arc<Tally>,
        spool: Option<Spool>,
        adoption: Option<Adoption>,
    ) -> Self {
        Self {
            checkpoints,
            tally,
            spool,
            adoption,
        }
    }
}

impl Journal for TalliedJournal {
    fn acked(&self, block: &SentBlock, how: Delivered) {
        self.tally.settled(
            block,
            match how {
                Delivered::Stored => Settled::Acked,
                Delivered::Rejected => Settled::Rejected,
            },
        );
        self.checkpoints.acked(block);
        if let Some(spool) = &self.spool {
            spool.acked(block);
        }
    }

    fn ended(&self, stream_id: &StreamId) {
        self.checkpoints.ended(stream_id);
        if let Some(spool) = &self.spool {
            spool.ended(stream_id);
        }
    }

    fn descriptor(&self, stream_id: &StreamId) -> Option<StreamDescriptor> {
        self.checkpoints.stream(stream_id).map(|state| state.descriptor)
    }

    fn instance_id(&self) -> [u8; 16] {
        self.checkpoints.instance_id()
    }

    fn next_epoch(&self) -> u64 {
        self.checkpoints.next_epoch()
    }

    fn log_id(&self) -> Option<[u8; 16]> {
        self.checkpoints.log_id()
    }

    fn set_log_id(&self, log_id: [u8; 16]) {
        self.checkpoints.set_log_id(log_id);
    }

    fn log_replaced(&self) -> Option<LogReplaced> {
        self.checkpoints.log_replaced()
    }

    fn set_log_replaced(&self, replaced: Option<LogReplaced>) {
        self.checkpoints.set_log_replaced(replaced);
    }

    fn adoption_question(&self) -> Option<Bytes> {
        Some(self.adoption.as_ref()?.question()?.to_proto())
    }

    fn adoption_answer(&self, stored: &[StoredStream]) {
        if let Some(adoption) = &self.adoption {
            adoption.answered(stored.to_vec());
        }
    }
}
