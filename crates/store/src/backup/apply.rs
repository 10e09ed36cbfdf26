//! Putting an incremental backup onto the copy that it was made from.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    BackupPoint, BackupReport,
    image::{Sink, Watch, copied_slot, read_account, write_error, write_image},
    incremental::{Decoder, damaged},
};
use crate::{
    database::open_error,
    engine::{GROWTH, OpenOptions, Pace, SystemClock, pager, read_header},
    error::{Error, Result},
    file::{Header, SECTOR, Slot, slot_page, twin_page},
    page::Sealer,
    space::PageBits,
    storage::{FileStorage, Storage, sync_folder_of},
};

/// For the pages of free-space map and roots.
const CACHE: usize = 4 << 20;

/// Brings a copy up to a later moment: `base` is a file that [`Database::backup`](crate::Database::backup), or this
/// function, has written and that nobody has changed since, `stream` what
/// [`Database::backup_since`](crate::Database::backup_since) has made from it. The file is then the same, byte for
/// byte, as a whole backup of that moment.
///
/// The new file is written beside the old one, checked page by page, synced, and put in its place; after a power cut
/// there is the one or the other. It is for its owner alone, as every copy. Two files beside `base` are used meanwhile,
/// `base.*.new` and `base.*.pages`; after a power cut they may be left. Neither opens as a database before it is whole: the
/// first sector is written last.
///
/// # Errors
///
/// [`Error::BackupBase`] if `base` is not the copy that the stream was made from, [`Error::BackupDamaged`] if the
/// stream is not whole, [`Error::Corrupted`] if `base` is damaged. `base` is unchanged then.
pub fn apply_backup(base: impl AsRef<Path>, stream: impl Read) -> Result<BackupReport> {
    let path = base.as_ref();
    let file = |error| open_error(path, "open the file", error);
    let storage = Arc::new(FileStorage::open(path).map_err(file)?);
    let header = read_header(&*storage, None)?;
    let point = BackupPoint::of_storage(&*storage, &header)?;
    let mut decoder = Decoder::begin(stream)?;
    if decoder.header().page_size != header.page_size {
        return Err(damaged(
            "its pages have another size than those of the file",
        ));
    }
    if decoder.base != point {
        return Err(Error::BackupBase {
            file: storage.name().into(),
            reason: decoder.base.difference(&point),
        });
    }

    let spool = Beside::create(path, "pages")?;
    while let Some(pages) = decoder.chunk(Sealer::new(&header.identity))? {
        for (page, bytes) in pages {
            let at = SeekFrom::Start(page * header.page_size as u64);
            (&spool.file)
                .seek(at)
                .and_then(|_| (&spool.file).write_all(&bytes))
                .map_err(write_error)?;
        }
    }

    let overlay = Overlay {
        base: storage.clone(),
        spool: spool.file.try_clone().map_err(write_error)?,
        page_size: header.page_size as u64,
        given: decoder.met,
    };
    let overlay = Arc::new(overlay);
    let pager = pager(
        overlay.clone(),
        &header,
        OpenOptions {
            cache_size: CACHE,
            page_size: None,
            accept_loss: false,
            growth: GROWTH,
            durability: crate::Durability::default(),
        },
    );
    let slot = decoder.slot;
    let account = read_account(&pager, &slot)?;
    let used = &account.used;
    if copied_slot(&slot, used) != slot {
        return Err(damaged("the slot in it is not that of a copy"));
    }
    if let Some(page) = overlay.given.without(used).next() {
        return Err(damaged(format!("page {page} of it is not in use")));
    }
    let clock = SystemClock::start();
    let mut watch = Watch {
        pace: Pace::new(&clock, 0),
        progress: &mut |_, _| ControlFlow::Continue(()),
        done: 0,
        total: used.len(),
    };
    let mut aside = NewFile::create(path)?;
    let bytes = write_image(&pager, &header, &slot, &account, &mut aside, &mut watch)?;
    aside.replace(path)?;
    Ok(BackupReport {
        transaction: slot.transaction,
        pages: used.len(),
        bytes,
        point: Some(BackupPoint::new(&header, &slot)),
    })
}

impl BackupPoint {
    /// The newest slot of a copy that is whole in itself. Where it is not that of a copy, it equals no point.
    pub(super) fn of_storage(storage: &dyn Storage, header: &Header) -> Result<Self> {
        Ok(Self::new(header, &newest_slot(storage, header)?))
    }
}

/// The newest slot that is whole in itself.
pub(super) fn newest_slot(storage: &dyn Storage, header: &Header) -> Result<Slot> {
    let mut newest: Option<Slot> = None;
    let mut bytes = vec![0; header.page_size];
    for page in [slot_page(0), slot_page(1), twin_page(0), twin_page(1)] {
        storage
            .read_at(page * header.page_size as u64, &mut bytes)
            .map_err(|source| Error::Io {
                file: storage.name().into(),
                operation: "read a page",
                source: source.into(),
            })?;
        if let Ok(slot) = Slot::decode(&bytes, &header.identity) {
            let newer = newest
                .as_ref()
                .is_none_or(|newest| newest.sequence < slot.sequence);
            newest = if newer { Some(slot) } else { newest };
        }
    }
    newest.ok_or_else(|| Error::NoCommit {
        file: storage.name().into(),
        reason: "it has no commit slot".into(),
    })
}

/// Creates something beside a file, under a name that nobody else uses.
pub(super) fn create_beside<T>(
    path: &Path,
    ending: &str,
    create: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{count}.{ending}", std::process::id()));
        let path = path.with_file_name(name);
        match create(&path) {
            Ok(created) => return Ok((path, created)),
            // Left by a process that had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(open_error(&path, "create the file", error)),
        }
    }
}

/// A file beside another one that is gone with this value. It is for its owner alone: whoever reads it reads the database.
pub(super) struct Beside {
    file: File,
    path: PathBuf,
}

impl Beside {
    pub fn create(path: &Path, ending: &str) -> Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let (path, file) = create_beside(path, ending, |path| options.open(path))?;
        Ok(Self { file, path })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Gone already if it replaced the other one.
        drop(fs::remove_file(&self.path));
    }
}

/// A file that is written beside another one to replace it. Its first sector is kept back until everything else is
/// durable: what is left of an interrupted writing is no database to anybody.
pub(super) struct NewFile {
    aside: Beside,
    first: Vec<u8>,
    length: u64,
}

impl NewFile {
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            aside: Beside::create(path, "new")?,
            first: Vec::with_capacity(SECTOR),
            length: 0,
        })
    }

    /// Makes it durable in the place of another file.
    pub fn replace(self, path: &Path) -> Result<()> {
        let file = &self.aside.file;
        file.set_len(self.length)
            .and_then(|()| file.sync_all())
            .and_then(|()| file.write_all_at(&self.first, 0))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&self.aside.path, path))
            .and_then(|()| sync_folder_of(path))
            .map_err(|error| open_error(path, "put the new file in its place", error))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let missing = (SECTOR - self.first.len()).min(bytes.len());
        let count = match missing {
            0 => self.aside.file.write_at(bytes, self.length)?,
            _ => {
                self.first.extend_from_slice(&bytes[..missing]);
                missing
            }
        };
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves zeros out, so that a stream cannot fill the disk with them.
impl Sink for NewFile {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        debug_assert_eq!(self.first.len(), SECTOR, "a header is not of zeros");
        self.length += count;
        Ok(())
    }
}

/// The pages of a stream before those of the copy.
struct Overlay {
    base: Arc<FileStorage>,
    spool: File,
    page_size: u64,
    given: PageBits,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Overlay")
            .field("base", &self.base)
            .field("pages", &self.given.len())
            .finish_non_exhaustive()
    }
}

impl Storage for Overlay {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let pages = offset / self.page_size..;
        for (page, bytes) in pages.zip(buffer.chunks_mut(self.page_size as usize)) {
            let at = page * self.page_size;
            match self.given.contains(page) {
                true => self.spool.read_exact_at(bytes, at)?,
                false => self.base.read_at(at, bytes)?,
            }
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.base.len()
    }

    fn grow(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn name(&self) -> String {
        self.base.name()
    }
}
