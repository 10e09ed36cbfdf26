//! A storage in a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
#[cfg(target_os = "linux")]
use nix::fcntl::PosixFadviseAdvice;

use super::{Storage, past_the_end, total_len};

/// The most buffers one call may carry on the systems supported (`IOV_MAX`).
const MOST_BUFFERS: usize = 1024;

/// What one call writes of the zeros that the file grows by. The system keeps what comes in one call in one piece of its
/// cache, of up to 4 MiB; on ext4 a later write of a page goes through all blocks of the piece it lies in, which costs 34 us
/// there and 2 us in a piece of this size (Linux 6.18).
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// A file, locked for as long as it is open: one writer, or any number of readers; and beside them readers that
/// [take no lock](Self::open_beside_writer).
///
/// The lock is advisory and belongs to the open file, so it ends with the process however that ends, and also keeps
/// a second handle in the same process out. A file somebody else holds is [`io::ErrorKind::WouldBlock`].
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    path: PathBuf,
    read_only: bool,
}

impl FileStorage {
    /// Creates the file, which must not exist, and makes its directory entry durable.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the system answers.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        lock(&file, Access::Exclusive)?;
        sync_folder_of(path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            read_only: false,
        })
    }

    /// Opens the file, which must exist, for reading and writing. Nobody else may have it open.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when somebody has, and what the system answers.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        refuse_other_than_files(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file, Access::Exclusive)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            read_only: false,
        })
    }

    /// Opens the file, which must exist, for reading. Nobody else may have it open for writing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when somebody has, and what the system answers.
    pub fn open_read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        refuse_other_than_files(path)?;
        let file = File::open(path)?;
        lock(&file, Access::Shared)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            read_only: true,
        })
    }

    /// Opens the file, which must exist, for reading, while another handle may write to it. What is read stays as it is
    /// only as far as the writer respects the [`Pins`](super::Pins) of this handle, as the engine does.
    ///
    /// Where open files have no locks on single bytes, on systems other than Linux, this is
    /// [`open_read_only`](Self::open_read_only).
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn open_beside_writer(path: impl AsRef<Path>) -> io::Result<Self> {
        if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
            return Self::open_read_only(path);
        }
        let path = path.as_ref();
        refuse_other_than_files(path)?;
        Ok(Self {
            file: File::open(path)?,
            path: path.to_owned(),
            read_only: true,
        })
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The path it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened read-only",
            ));
        }
        Ok(())
    }
}

impl Storage for FileStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // The system calls such an offset invalid; for whoever follows a damaged reference it is past the end.
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(past_the_end(offset, buffer.len(), self.len()?));
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.check_writable()?;
        let mut position = offset;
        for group in buffers.chunks(MOST_BUFFERS) {
            write_group(&self.file, position, group)?;
            position += total_len(group) as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn sync(&self) -> io::Result<()> {
        // Not `File::sync_data`, which calls again when a signal interrupted it: a sync is never repeated.
        Ok(nix::unistd::fdatasync(&self.file)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync(&self) -> io::Result<()> {
        // On macOS this is the call that empties the drive's cache, which a plain fsync does not there.
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut position = from;
        while position < to {
            let step = (to - position).min(ZEROS.len() as u64);
            write_group(
                &self.file,
                position,
                &[IoSlice::new(&ZEROS[..step as usize])],
            )?;
            position += step;
        }
        Ok(())
    }

    /// What the file system has left for users without privileges. Others may take it first.
    #[allow(
        clippy::useless_conversion,
        reason = "not everywhere are blocks counted in 64 bits"
    )]
    fn room(&self) -> io::Result<Option<u64>> {
        let system = nix::sys::statvfs::fstatvfs(&self.file)?;
        let blocks = u64::from(system.blocks_available());
        Ok(Some(blocks.saturating_mul(system.fragment_size())))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if len < self.len()? {
            self.file.set_len(len)
        } else {
            Ok(())
        }
    }

    #[cfg(target_os = "linux")]
    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        advise(
            &self.file,
            offset,
            len,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )
    }

    #[cfg(target_os = "linux")]
    fn will_read(&self, offset: u64, len: u64) -> io::Result<()> {
        advise(
            &self.file,
            offset,
            len,
            PosixFadviseAdvice::POSIX_FADV_WILLNEED,
        )
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn pins(&self) -> Option<&dyn super::Pins> {
        Some(self)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(target_os = "linux")]
fn advise(file: &File, offset: u64, len: u64, advice: PosixFadviseAdvice) -> io::Result<()> {
    let most = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let outcome = nix::fcntl::posix_fadvise(file, most(offset), most(len), advice);
    Ok(outcome?)
}

/// Writes all of at most [`MOST_BUFFERS`] buffers.
fn write_group(file: &File, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
    write_all(offset, buffers, |position, rest| {
        loop {
            let at = i64::try_from(position).map_err(|_| Errno::EFBIG)?;
            match nix::sys::uio::pwritev(file, rest, at) {
                // Interrupted before the first byte: nothing was written and, unlike with a sync, nothing is in doubt.
                Err(Errno::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    })
}

/// Calls `write` until all is written, each time with what is left and where that belongs.
fn write_all(
    offset: u64,
    buffers: &[IoSlice<'_>],
    mut write: impl FnMut(u64, &[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut missing = total_len(buffers);
    if missing == 0 {
        return Ok(());
    }
    let mut written = some(write(offset, buffers)?)?;
    if written == missing {
        return Ok(());
    }
    // Nearly every write is taken whole, so the list is copied only for the rest of one that was not.
    let mut copy = buffers.to_vec();
    let mut rest = copy.as_mut_slice();
    let mut position = offset;
    loop {
        missing -= written;
        position += written as u64;
        if missing == 0 {
            return Ok(());
        }
        IoSlice::advance_slices(&mut rest, written);
        written = some(write(position, rest)?)?;
    }
}

/// A write that takes nothing would be repeated for ever.
fn some(written: usize) -> io::Result<usize> {
    if written == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(written)
    }
}

#[derive(Clone, Copy)]
enum Access {
    Exclusive,
    Shared,
}

fn lock(file: &File, access: Access) -> io::Result<()> {
    let outcome = match access {
        Access::Exclusive => file.try_lock(),
        Access::Shared => file.try_lock_shared(),
    };
    outcome.map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            "the file is open in another process or through another handle",
        ),
        TryLockError::Error(error) => error,
    })
}

/// A folder would fail later and a pipe would block in `open`, so both are turned away before.
fn refuse_other_than_files(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// A new file is found again after a power cut only once the folder that names it is durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder)?;
    #[cfg(target_os = "linux")]
    {
        // As with the file itself: not a call that is repeated when a signal interrupts it.
        Ok(nix::unistd::fsync(&folder)?)
    }
    #[cfg(not(target_os = "linux"))]
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn it_behaves_like_a_file() {
        let folder = folder();
        let storage = FileStorage::create(folder.path().join("file")).expect("create");
        super::super::conformance::behaves_like_a_file(&storage);
    }

    #[test]
    fn an_existing_file_is_not_created_again() {
        let folder = folder();
        let path = folder.path().join("file");
        fs::write(&path, "something").expect("write");
        let refused = FileStorage::create(&path).expect_err("it exists");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"something");
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_opened() {
        let folder = folder();
        for open in [FileStorage::open, FileStorage::open_read_only] {
            let refused = open(folder.path().join("file")).expect_err("it does not exist");
            assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_folder_is_not_opened() {
        let folder = folder();
        for open in [FileStorage::open, FileStorage::open_read_only] {
            let refused = open(folder.path().to_owned()).expect_err("it is a folder");
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_writer_keeps_everybody_else_out_until_it_is_dropped() {
        let folder = folder();
        let path = folder.path().join("file");
        let writer = FileStorage::create(&path).expect("create");
        for open in [FileStorage::open, FileStorage::open_read_only] {
            let refused = open(path.clone()).expect_err("it is locked");
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        }
        drop(writer);
        FileStorage::open(&path).expect("the lock is gone");
    }

    #[test]
    fn readers_share_and_keep_a_writer_out() {
        let folder = folder();
        let path = folder.path().join("file");
        drop(FileStorage::create(&path).expect("create"));
        let first = FileStorage::open_read_only(&path).expect("first reader");
        let second = FileStorage::open_read_only(&path).expect("second reader");
        let refused = FileStorage::open(&path).expect_err("readers hold it");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop((first, second));
        FileStorage::open(&path).expect("the locks are gone");
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn a_reader_beside_a_writer_and_the_writer_see_what_the_other_holds() {
        use super::super::Pins;

        let folder = folder();
        let path = folder.path().join("file");
        let writer = FileStorage::create(&path).expect("create");
        let reader = FileStorage::open_beside_writer(&path).expect("beside");
        let all = 0..u64::MAX;
        assert_eq!(writer.held(all.clone()).expect("look"), None);
        writer.hold(0).expect("hold");
        reader.hold(7).expect("hold");
        reader.hold(9).expect("hold");
        assert_eq!(writer.held(0..7).expect("look"), None, "its own");
        assert_eq!(writer.held(7..8).expect("look"), Some(7));
        assert_eq!(writer.held(8..u64::MAX).expect("look"), Some(9));
        assert_eq!(writer.held(9..9).expect("look"), None);
        assert_eq!(reader.held(all.clone()).expect("look"), Some(0));
        reader.release(7).expect("release");
        assert_eq!(writer.held(all.clone()).expect("look"), Some(9));
        let other = FileStorage::open_beside_writer(&path).expect("beside");
        other.hold(9).expect("shared");
        drop(reader);
        assert_eq!(writer.held(all.clone()).expect("look"), Some(9));
        drop(other);
        assert_eq!(writer.held(all).expect("look"), None);
        writer.hold(1 << 62).expect_err("no such offset");
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn neighbours_that_one_handle_holds_are_told_apart() {
        use super::super::Pins;

        let folder = folder();
        let path = folder.path().join("file");
        let writer = FileStorage::create(&path).expect("create");
        let reader = FileStorage::open_beside_writer(&path).expect("beside");
        (4..8).for_each(|number| reader.hold(number).expect("hold"));
        assert_eq!(writer.held(6..7).expect("look"), Some(6));
        reader.release(6).expect("release");
        assert_eq!(writer.held(6..7).expect("look"), None);
        assert_eq!(writer.held(7..9).expect("look"), Some(7));
    }

    #[test]
    fn a_reader_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("file");
        fs::write(&path, "kept").expect("write");
        let storage = FileStorage::open_read_only(&path).expect("open");
        for refused in [
            storage.write_at(0, &[IoSlice::new(b"lost")]),
            storage.grow(4, 8),
            storage.truncate(0),
        ] {
            assert_eq!(
                refused.expect_err("read-only").kind(),
                io::ErrorKind::PermissionDenied
            );
        }
        assert_eq!(fs::read(&path).expect("read"), b"kept");
    }

    #[test]
    fn more_buffers_than_one_call_takes_are_all_written() {
        let folder = folder();
        let storage = FileStorage::create(folder.path().join("file")).expect("create");
        let parts: Vec<[u8; 3]> = (0..MOST_BUFFERS as u32 * 2 + 5)
            .map(|n| [n as u8, (n >> 8) as u8, 9])
            .collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        storage.write_at(11, &slices).expect("write");
        let expected = parts.concat();
        let mut back = vec![0; expected.len()];
        storage.read_at(11, &mut back).expect("read");
        assert_eq!(back, expected);
    }

    #[test]
    fn short_writes_are_gone_on_with_where_they_stopped() {
        let buffers = [
            IoSlice::new(b"abc"),
            IoSlice::new(b""),
            IoSlice::new(b"defgh"),
            IoSlice::new(b"i"),
        ];
        for most in 1..=10 {
            let mut taken = Vec::new();
            write_all(100, &buffers, |position, rest| {
                assert_eq!(position, 100 + taken.len() as u64);
                let left: Vec<u8> = rest
                    .iter()
                    .flat_map(|buffer| buffer.iter().copied())
                    .collect();
                let now = &left[..left.len().min(most)];
                taken.extend_from_slice(now);
                Ok(now.len())
            })
            .expect("each write takes something");
            assert_eq!(taken, b"abcdefghi", "at most {most} bytes a write");
        }
    }

    #[test]
    fn a_write_that_takes_nothing_is_an_error_and_not_a_loop() {
        let buffers = [IoSlice::new(b"abc")];
        let refused = write_all(0, &buffers, |_, _| Ok(0)).expect_err("nothing taken");
        assert_eq!(refused.kind(), io::ErrorKind::WriteZero);
        let mut calls = 0;
        let refused = write_all(0, &buffers, |_, _| {
            calls += 1;
            Ok(2 - calls)
        });
        assert_eq!(
            refused.expect_err("nothing taken by the second").kind(),
            io::ErrorKind::WriteZero
        );
        assert_eq!(calls, 2);
    }

    #[test]
    fn growth_by_more_than_one_write_is_zeros_throughout() {
        let folder = folder();
        let storage = FileStorage::create(folder.path().join("file")).expect("create");
        let to = 2 * ZEROS.len() as u64 + 11;
        storage
            .write_at(0, &[IoSlice::new(&vec![7; to as usize - 5])])
            .expect("write");
        storage.grow(10, to).expect("grow");
        assert_eq!(storage.len().expect("len"), to);
        let bytes = fs::read(storage.path()).expect("read");
        assert_eq!(bytes[..10], [7; 10]);
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_was_synced_is_still_there_when_the_cache_was_forgotten() {
        let folder = folder();
        let storage = FileStorage::create(folder.path().join("file")).expect("create");
        storage
            .write_at(0, &[IoSlice::new(b"kept")])
            .expect("write");
        storage.sync().expect("sync");
        storage.forget_cached(0, u64::MAX).expect("forget");
        let mut back = [0; 4];
        storage.read_at(0, &mut back).expect("read");
        assert_eq!(&back, b"kept");
    }
}
