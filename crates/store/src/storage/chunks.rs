//! A long byte sequence in chunks that copies share until one of them is written.

use std::sync::{Arc, LazyLock};

/// Small enough that the first write into a shared chunk is cheap, large enough that a gigabyte has few of them.
const CHUNK: usize = 32 * 1024;

/// Every stretch of zeros nobody has written into yet is this one chunk.
static ZEROS: LazyLock<Arc<[u8]>> = LazyLock::new(|| Arc::from(vec![0; CHUNK]));

/// Bytes that grow without being moved, and of which a clone costs one reference count a chunk.
///
/// Invariant: the bytes of the last chunk behind `len` are zero, so growing needs to write nothing.
#[derive(Clone, Default)]
pub(super) struct ChunkedBytes {
    chunks: Vec<Arc<[u8]>>,
    len: u64,
}

impl ChunkedBytes {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies out the bytes at `offset`; false, with nothing copied, when they reach past the end.
    #[must_use]
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if !self.holds(offset, buffer.len()) {
            return false;
        }
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (chunk, start) = locate(position);
            let step = rest.len().min(CHUNK - start);
            let (now, later) = rest.split_at_mut(step);
            now.copy_from_slice(&self.chunks[chunk][start..start + step]);
            rest = later;
            position += step as u64;
        }
        true
    }

    /// Writes `bytes` at `offset`, extending the sequence when they reach past its end.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.extend_to(offset + bytes.len() as u64);
        let mut position = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (chunk, start) = locate(position);
            let step = rest.len().min(CHUNK - start);
            let (now, later) = rest.split_at(step);
            Arc::make_mut(&mut self.chunks[chunk])[start..start + step].copy_from_slice(now);
            rest = later;
            position += step as u64;
        }
    }

    /// Appends zeros up to `len`; a sequence that is not shorter stays as it is.
    pub(super) fn extend_to(&mut self, len: u64) {
        if len > self.len {
            self.chunks.resize(chunks_for(len), Arc::clone(&ZEROS));
            self.len = len;
        }
    }

    /// Sets `from..to` to zero, extending the sequence to at least `to`.
    pub(super) fn zero(&mut self, from: u64, to: u64) {
        let overwritten_end = to.min(self.len);
        let mut position = from;
        while position < overwritten_end {
            let (chunk, start) = locate(position);
            let step = (CHUNK - start).min(usize_from(overwritten_end - position));
            if step == CHUNK {
                self.chunks[chunk] = Arc::clone(&ZEROS);
            } else {
                Arc::make_mut(&mut self.chunks[chunk])[start..start + step].fill(0);
            }
            position += step as u64;
        }
        self.extend_to(to);
    }

    /// Drops everything from `len` on; a sequence that is not longer stays as it is.
    pub(super) fn truncate(&mut self, len: u64) {
        if len >= self.len {
            return;
        }
        self.chunks.truncate(chunks_for(len));
        self.len = len;
        let (chunk, start) = locate(len);
        if start > 0 {
            Arc::make_mut(&mut self.chunks[chunk])[start..].fill(0);
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.chunks.len() * CHUNK);
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk);
        }
        bytes.truncate(usize_from(self.len));
        bytes
    }

    fn holds(&self, offset: u64, count: usize) -> bool {
        offset
            .checked_add(count as u64)
            .is_some_and(|end| end <= self.len)
    }
}

impl From<&[u8]> for ChunkedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut chunked = Self::default();
        chunked.write(0, bytes);
        chunked
    }
}

fn locate(position: u64) -> (usize, usize) {
    let chunk = CHUNK as u64;
    (usize_from(position / chunk), usize_from(position % chunk))
}

fn chunks_for(len: u64) -> usize {
    usize_from(len.div_ceil(CHUNK as u64))
}

fn usize_from(count: u64) -> usize {
    usize::try_from(count).expect("what is held in memory is addressable")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = CHUNK as u64 * 3 + 100;

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut bytes = ChunkedBytes::from(&b"before"[..]);
        let copy = bytes.clone();
        bytes.write(0, b"behind");
        assert_eq!(copy.to_vec(), b"before");
        assert_eq!(bytes.to_vec(), b"behind");
    }

    #[test]
    fn a_write_may_span_chunks() {
        let mut bytes = ChunkedBytes::default();
        let pattern: Vec<u8> = (0..CHUNK * 2).map(|index| (index % 251) as u8).collect();
        bytes.write(CHUNK as u64 - 7, &pattern);
        let mut back = vec![0; pattern.len()];
        assert!(bytes.read(CHUNK as u64 - 7, &mut back));
        assert_eq!(back, pattern);
        assert!(
            !bytes.read(CHUNK as u64 - 6, &mut back),
            "one byte past the end"
        );
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut bytes = ChunkedBytes::default();
        bytes.write(0, &vec![7; LONG as usize]);
        bytes.truncate(CHUNK as u64 + 5);
        bytes.extend_to(LONG);
        let expected: Vec<u8> = (0..LONG)
            .map(|at| if at < CHUNK as u64 + 5 { 7 } else { 0 })
            .collect();
        assert_eq!(bytes.to_vec(), expected);
    }

    #[test]
    fn zeroing_touches_its_range_only() {
        let mut bytes = ChunkedBytes::default();
        bytes.write(0, &vec![7; LONG as usize]);
        let (from, to) = (10, CHUNK as u64 * 2 + 3);
        bytes.zero(from, to);
        let expected: Vec<u8> = (0..LONG)
            .map(|at| if (from..to).contains(&at) { 0 } else { 7 })
            .collect();
        assert_eq!(bytes.to_vec(), expected);
        bytes.zero(LONG - 1, LONG + 10);
        assert_eq!(bytes.len(), LONG + 10);
        assert_eq!(
            bytes.to_vec()[LONG as usize - 2..],
            [&[7][..], &[0; 11]].concat()
        );
    }
}
