//! Tiny neighbouring blocks of a stream become one. A log that grows by ten lines a second comes as ten blocks, and
//! each costs a header here, a lookup at the collector and an entry in the ledger.

use edgelogger_common::block::{Block, BlockKind};

use crate::flow::SourceBlock;

/// A block up to this length is worth copying; a larger one is not, its header is noise.
const SMALL_BYTES_MAX: usize = 4 << 10;
/// What merged blocks may come to: still quick to decode one by one at a sink.
const MERGED_BYTES_MAX: usize = 256 << 10;
/// Blocks other than plain lines are decoded and built again, so only really small ones.
const REBUILT_BYTES_MAX: usize = 1 << 10;

/// Merges runs of small neighbours. Each stream's blocks must be next to each other, by position.
pub(super) fn merge_small(blocks: Vec<SourceBlock>) -> Vec<SourceBlock> {
    let mut merged = Vec::with_capacity(blocks.len());
    let mut run: Vec<SourceBlock> = Vec::new();
    let mut run_bytes = 0;
    for block in blocks {
        let len = block.block.encoded_len();
        let continues = run.last().is_some_and(|last| may_follow(last, &block));
        if !continues || run_bytes + len > MERGED_BYTES_MAX {
            merge_run(&mut run, &mut merged);
            run_bytes = 0;
        }
        run_bytes += len;
        run.push(block);
    }
    merge_run(&mut run, &mut merged);
    merged
}

fn may_follow(last: &SourceBlock, next: &SourceBlock) -> bool {
    let (left, right) = (&last.block.header, &next.block.header);
    left.stream_id == right.stream_id
        && left.end == right.start
        && left.kind == right.kind
        && left.kind != BlockKind::Receipt
        && left.counts_records == right.counts_records
        && last.block.encoded_len() <= SMALL_BYTES_MAX
        && next.block.encoded_len() <= SMALL_BYTES_MAX
}

/// Empties `run` into `out`, as one block where that works.
fn merge_run(run: &mut Vec<SourceBlock>, out: &mut Vec<SourceBlock>) {
    if run.len() < 2 {
        out.append(run);
        return;
    }
    let whole = Block::merge_lines(run.iter().map(|part| &part.block)).or_else(|| rebuild(run));
    let Some(block) = whole else {
        out.append(run);
        return;
    };
    let mut parts = run.drain(..);
    let Some(mut first) = parts.next() else { return };
    first.block = block;
    for part in parts {
        first.resume = part.resume;
        first.credit.absorb(part.credit);
    }
    out.push(first);
}

/// Halves are merged and then each other, so that a record is copied log₂(n) times, not n.
fn rebuild(run: &[SourceBlock]) -> Option<Block> {
    match run {
        [] => None,
        [one] => (one.block.encoded_len() <= REBUILT_BYTES_MAX).then(|| one.block.clone()),
        _ => {
            let (left, right) = run.split_at(run.len() / 2);
            rebuild(left)?.merge(&rebuild(right)?).ok()
        }
    }
}
