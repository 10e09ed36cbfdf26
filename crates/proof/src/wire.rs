//! The canonical encoding: fixed-width big-endian integers, and byte strings after their length.
//!
//! What is hashed is encoded with this and nothing else, so that hashes can be recomputed from the
//! documentation alone. There is one encoding for each value, and the reader refuses every other.

use alloc::vec::Vec;

/// The bytes are not the canonical encoding of what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end in the middle.
    #[error("{bytes} bytes end in the middle of {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// How many bytes there were in all.
        bytes: usize,
    },
    /// A tag that nothing has.
    #[error("{what} cannot start with the byte {tag:#04x}")]
    Tag {
        /// What was being read.
        what: &'static str,
        /// The byte found.
        tag: u8,
    },
    /// A count or length above the limit.
    #[error("{what}: {count} is more than {limit}")]
    TooMany {
        /// What was being counted.
        what: &'static str,
        /// The number found.
        count: u64,
        /// The largest one allowed.
        limit: u64,
    },
    /// A name that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// What was being read.
        what: &'static str,
    },
    /// Bytes after the end.
    #[error("{0} bytes follow after the end")]
    Trailing(usize),
}

/// Appends canonical encodings to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The number of things that follow. Every list and string of the ledger is far below four
    /// billion.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("the limits of the ledger are below 2^32"));
    }

    /// A byte string: its length as four bytes, then the bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// 0 for none, or 1 and the integer.
    pub(crate) fn optional_u64(&mut self, value: Option<u64>) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                self.u64(value);
            }
        }
    }
}

/// Reads canonical encodings off the front of a slice. Nothing is allocated before its length has
/// been checked against the bytes that are there.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader {
            rest: bytes,
            total: bytes.len(),
        }
    }

    pub(crate) fn raw(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated {
                what,
                bytes: self.total,
            })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn count(&mut self, limit: usize, what: &'static str) -> Result<usize, WireError> {
        let count = self.u32(what)?;
        match usize::try_from(count) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(WireError::TooMany {
                what,
                count: count.into(),
                limit: limit as u64,
            }),
        }
    }

    pub(crate) fn bytes(
        &mut self,
        limit: usize,
        what: &'static str,
    ) -> Result<&'a [u8], WireError> {
        let length = self.count(limit, what)?;
        self.raw(length, what)
    }

    pub(crate) fn text(&mut self, limit: usize, what: &'static str) -> Result<&'a str, WireError> {
        core::str::from_utf8(self.bytes(limit, what)?).map_err(|_| WireError::Text { what })
    }

    pub(crate) fn optional_u64(&mut self, what: &'static str) -> Result<Option<u64>, WireError> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => self.u64(what).map(Some),
            tag => Err(WireError::Tag { what, tag }),
        }
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing(self.rest.len()))
        }
    }
}
