//! Read buffers that are used again once the encoder is done with the block that was cut from them.

use std::collections::VecDeque;

use bytes::Bytes;

/// Buffers that are remembered: what a full ring of the default size keeps on its way. More may be on their way;
/// those are freed when they come back.
const BUFFERS_MAX: usize = 32;

/// A pool of equal buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    capacity: usize,
    spare: Option<Vec<u8>>,
    /// Empty handles to buffers that are in blocks, oldest first. One is free again when ours is the only one.
    lent: VecDeque<Bytes>,
}

impl Buffers {
    pub const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            spare: None,
            lent: VecDeque::new(),
        }
    }

    /// Of each.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        if let Some(oldest) = self.lent.pop_front() {
            match oldest.try_into_mut() {
                Ok(free) => {
                    let mut buffer = Vec::from(free);
                    buffer.clear();
                    // A handle that does not give back the whole buffer is no use.
                    if buffer.capacity() >= self.capacity {
                        return buffer;
                    }
                }
                Err(busy) => self.lent.push_front(busy),
            }
        }
        Vec::with_capacity(self.capacity)
    }

    /// Gives back a buffer that no block shares.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare = Some(buffer);
    }

    /// Makes a buffer into shared bytes, and remembers it.
    pub fn share(&mut self, buffer: Vec<u8>) -> Bytes {
        let bytes = Bytes::from(buffer);
        if self.lent.len() < BUFFERS_MAX {
            let mut handle = bytes.clone();
            handle.clear();
            self.lent.push_back(handle);
        }
        bytes
    }

    #[cfg(test)]
    pub fn memory_bytes(&self) -> usize {
        self.spare.as_ref().map_or(0, Vec::capacity) + self.lent.len() * self.capacity
    }

    /// Lets go of all memory but what is under way: there is nothing to read.
    pub fn idle(&mut self) {
        self.spare = None;
        self.lent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_block_is_dropped() {
        let mut buffers = Buffers::new(4096);
        let mut first = buffers.take();
        first.extend_from_slice(&[7; 4096]);
        let address = first.as_ptr();
        let block = buffers.share(first).slice(10..20);
        let second = buffers.take();
        assert_ne!(second.as_ptr(), address, "it is still in use");
        drop(block);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert!(again.capacity() >= 4096);
    }

    #[test]
    fn a_partly_filled_buffer_comes_back_whole() {
        let mut buffers = Buffers::new(4096);
        let mut first = buffers.take();
        first.extend_from_slice(&[7; 100]);
        let address = first.as_ptr();
        drop(buffers.share(first));
        let again = buffers.take();
        assert_eq!(again.as_ptr(), address);
        assert!(again.capacity() >= 4096);
    }
}
