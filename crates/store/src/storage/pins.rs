//! Marks by which the handles of one file, in any process, know of each other.

use std::{io, ops::Range};

/// Marks on a storage: numbers that a handle holds, that other handles of the same bytes see, in this process and in
/// others, and that go with the handle however it ends.
///
/// Any number of handles may hold one number at a time, and nobody ever waits for another. What the numbers mean is the
/// engine's affair.
pub trait Pins: Send + Sync {
    /// Holds a number, until it is released or the handle is gone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if somebody has locked the storage against such marks, and what the system answers.
    fn hold(&self, number: u64) -> io::Result<()>;

    /// Ends the holding of a number.
    fn release(&self, number: u64) -> io::Result<()>;

    /// A number of the range that another handle holds; if there are several, any of them. What is held from before the
    /// call until after it is seen, and so is what was released only after something else in the range was held.
    fn held(&self, numbers: Range<u64>) -> io::Result<Option<u64>>;
}

/// Locks on single bytes that belong to the open file and not to the process, so that handles within one process see
/// each other too, and closing one of them ends its own locks only. They lie behind everything a file can have.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bytes {
    use std::{fs::File, io, ops::Range};

    use nix::{
        fcntl::{FcntlArg, fcntl},
        libc,
    };

    /// Files have at most 2^44 pages of 2^16 bytes.
    const FIRST: u64 = 1 << 62;

    pub(in crate::storage) fn hold(file: &File, number: u64) -> io::Result<()> {
        set(file, libc::F_RDLCK, number)
    }

    pub(in crate::storage) fn release(file: &File, number: u64) -> io::Result<()> {
        set(file, libc::F_UNLCK, number)
    }

    pub(in crate::storage) fn held(file: &File, numbers: Range<u64>) -> io::Result<Option<u64>> {
        if numbers.is_empty() {
            // A length of 0 would mean everything behind.
            return Ok(None);
        }
        let mut found = lock(libc::F_WRLCK, &numbers)?;
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        // Locks on neighbours are told as one.
        let first = (found.l_start as u64).saturating_sub(FIRST);
        Ok(Some(first.max(numbers.start)))
    }

    fn set(file: &File, kind: libc::c_int, number: u64) -> io::Result<()> {
        let lock = lock(kind, &(number..number.saturating_add(1)))?;
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock))?;
        Ok(())
    }

    fn lock(kind: libc::c_int, numbers: &Range<u64>) -> io::Result<libc::flock> {
        // The last byte that can be locked is the greatest offset.
        let start = FIRST.saturating_add(numbers.start);
        let end = FIRST.saturating_add(numbers.end).min(i64::MAX as u64);
        if start >= end {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a number too great to be marked",
            ));
        }
        Ok(libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: start as i64,
            l_len: (end - start) as i64,
            l_pid: 0,
        })
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
impl Pins for super::FileStorage {
    fn hold(&self, number: u64) -> io::Result<()> {
        bytes::hold(self.file(), number)
    }

    fn release(&self, number: u64) -> io::Result<()> {
        bytes::release(self.file(), number)
    }

    fn held(&self, numbers: Range<u64>) -> io::Result<Option<u64>> {
        bytes::held(self.file(), numbers)
    }
}
