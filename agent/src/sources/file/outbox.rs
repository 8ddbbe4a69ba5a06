//! Events that must leave in order and before anything is read on: announcements, receipts, ends.
//!
//! They are few and small, but each waits for a slot or for credit like a block does. A source that waited for them
//! inside the ring would not notice that files are deleted meanwhile.

use std::collections::VecDeque;

use edgelogger_common::block::Block;
use edgelogger_proto::v1::{Lane, StreamDescriptor};

use crate::flow::{Resume, SourceBlock, SourceEvent, StreamClose};
use crate::ring::{CreditPermit, SourceHandle};

#[derive(Debug)]
enum Item {
    Open(Box<StreamDescriptor>),
    Receipt(Block, Resume),
    End(StreamClose),
    /// With its credit; another source took the last slot.
    Ready(Box<SourceEvent>),
}

/// What waits to be handed on. Bounded by the number of followed files: each adds a few items when it comes and when
/// it goes, and nothing is read while something waits here.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<Item>);

impl Outbox {
    pub fn open(&mut self, descriptor: StreamDescriptor) {
        self.0.push_back(Item::Open(Box::new(descriptor)));
    }

    pub fn receipt(&mut self, block: Block, resume: Resume) {
        self.0.push_back(Item::Receipt(block, resume));
    }

    pub fn end(&mut self, close: StreamClose) {
        self.0.push_back(Item::End(close));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands on an event behind everything that waits, or keeps it: to wait for a slot would mean not to notice what
    /// happens to files meanwhile.
    pub fn push(&mut self, event: SourceEvent, ring: &SourceHandle) {
        if !self.is_empty() {
            return self.0.push_back(Item::Ready(Box::new(event)));
        }
        if let Err(event) = ring.try_push(event) {
            self.0.push_back(Item::Ready(event));
        }
    }

    /// Empties it: nothing is handed on any more.
    pub fn drain(&mut self) -> impl Iterator<Item = SourceEvent> {
        std::mem::take(&mut self.0).into_iter().map(|item| match item {
            Item::Open(descriptor) => SourceEvent::Open(descriptor),
            Item::Receipt(block, resume) => {
                SourceEvent::Block(source_block(block, Lane::Live, resume, CreditPermit::uncounted()))
            }
            Item::End(close) => SourceEvent::End(close),
            Item::Ready(event) => *event,
        })
    }

    /// Hands on what can be handed on without waiting. `true`: everything.
    pub fn flush(&mut self, ring: &SourceHandle) -> bool {
        while let Some(item) = self.0.pop_front() {
            if let Err(item) = hand_on(item, ring) {
                self.0.push_front(item);
                return false;
            }
        }
        true
    }
}

fn hand_on(item: Item, ring: &SourceHandle) -> Result<(), Item> {
    let event = match item {
        Item::Open(descriptor) => SourceEvent::Open(descriptor),
        Item::End(close) => SourceEvent::End(close),
        Item::Ready(event) => *event,
        Item::Receipt(block, resume) => match ring.try_acquire(block.encoded_len()) {
            Some(credit) => SourceEvent::Block(source_block(block, Lane::Live, resume, credit)),
            None => return Err(Item::Receipt(block, resume)),
        },
    };
    ring.try_push(event).map_err(Item::Ready)
}

pub(super) const fn source_block(
    block: Block,
    lane: Lane,
    resume: Resume,
    credit: CreditPermit,
) -> SourceBlock {
    SourceBlock {
        block,
        lane,
        replayable: true,
        resume,
        credit,
    }
}
