//! Backups as streams: what one is, whether it is whole, and a whole one put into a file.
//!
//! An image is checked as it passes, in the way it was when it was written: each page by itself, and all of them together by
//! what they refer to. Memory is one page, and free pages take no room in the file, so what a stream says of its length costs
//! nothing.

use std::{
    io::{self, Read},
    path::Path,
};

use super::{
    BackupPoint, BackupReport,
    apply::{NewFile, newest_slot},
    image::{Sink, Tally, fixed_pages, write_error},
    incremental::{Decoder, MAGIC, damaged, expect_end, fill},
};
use crate::{
    error::{Error, Result},
    file::{FIXED_PAGES, FORMAT, Header, HeaderFault, SAVEPOINTS, Slot},
    page::Sealer,
    storage::MemoryStorage,
};

/// What a backup has, by [`check_backup`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupContents {
    /// The copy that it is to be put onto; none for a whole one.
    pub base: Option<BackupPoint>,
    /// The moment that it comes to.
    pub point: BackupPoint,
    /// Pages in it.
    pub pages: u64,
    /// The length of a copy of that moment, in bytes.
    pub copy_bytes: u64,
}

/// Reads a backup to its end and checks it, whole or incremental, without putting it anywhere. Costs the reading.
///
/// Of a whole one everything is known then, but for one with savepoints that they lead where they should. Of an incremental
/// one it is known that it is what was written, and that no page is damaged; that its pages and those of the copy make a whole is checked
/// when it is put there.
///
/// # Errors
///
/// [`Error::BackupDamaged`] with what is wrong, and if `reader` fails.
pub fn check_backup(reader: impl Read) -> Result<BackupContents> {
    match Opened::begin(reader)? {
        Opened::Whole(image) => {
            let contents = image.contents();
            let pages = image.read(&mut Nowhere)?;
            Ok(BackupContents { pages, ..contents })
        }
        Opened::Changes(mut changes) => {
            let header = changes.header();
            while changes.chunk(Sealer::new(&header.identity))?.is_some() {}
            Ok(BackupContents {
                base: Some(changes.base),
                point: BackupPoint::new(&header, &changes.slot),
                pages: changes.met.len(),
                copy_bytes: (changes.slot.length).saturating_mul(header.page_size as u64),
            })
        }
    }
}

/// Puts a whole backup into a file, which is replaced by a whole one or not at all, and is for its owner alone.
///
/// # Errors
///
/// As for [`check_backup`], and if the file cannot be written.
pub fn unpack_backup(reader: impl Read, path: impl AsRef<Path>) -> Result<BackupReport> {
    let Opened::Whole(image) = Opened::begin(reader)? else {
        return Err(damaged(
            "it is an incremental one, and the copy that it was made from comes before it",
        ));
    };
    let contents = image.contents();
    let mut file = NewFile::create(path.as_ref())?;
    let pages = image.read(&mut file)?;
    file.replace(path.as_ref())?;
    Ok(BackupReport {
        transaction: contents.point.transaction,
        pages,
        bytes: contents.copy_bytes,
        point: Some(contents.point),
    })
}

/// The moment that a backup comes to.
pub(super) fn point(reader: impl Read) -> Result<BackupPoint> {
    Ok(match Opened::begin(reader)? {
        Opened::Whole(image) => image.contents().point,
        Opened::Changes(changes) => BackupPoint::new(&changes.header(), &changes.slot),
    })
}

/// A stream whose beginning was read.
enum Opened<R> {
    Whole(Image<R>),
    Changes(Decoder<io::Chain<io::Cursor<Vec<u8>>, R>>),
}

impl<R: Read> Opened<R> {
    fn begin(mut reader: R) -> Result<Self> {
        let mut magic = vec![0; MAGIC.len()];
        fill(&mut reader, &mut magic)?;
        match magic == MAGIC {
            true => {
                let whole = io::Cursor::new(magic).chain(reader);
                Decoder::begin(whole).map(Opened::Changes)
            }
            false => Image::begin(magic, reader).map(Opened::Whole),
        }
    }
}

/// The rest of an image, whose fixed pages were read.
struct Image<R> {
    reader: R,
    fixed: Vec<u8>,
    header: Header,
    slot: Slot,
}

impl<R: Read> Image<R> {
    fn begin(mut start: Vec<u8>, mut reader: R) -> Result<Self> {
        let mut read_to = |bytes: &mut Vec<u8>, length| {
            let had = bytes.len();
            bytes.resize(length, 0);
            fill(&mut reader, &mut bytes[had..])
        };
        read_to(&mut start, Header::LENGTH)?;
        let first = start
            .first_chunk()
            .ok_or_else(|| damaged("it ends early"))?;
        let header = Header::decode(first).map_err(|fault| match fault {
            HeaderFault::NotADatabase(reason) => damaged(format!("it is no backup: {reason}")),
            HeaderFault::Newer(found) => Error::NewerFormat {
                file: "the backup".into(),
                found,
                supported: FORMAT,
            },
        })?;
        read_to(&mut start, FIXED_PAGES as usize * header.page_size)?;
        let slot = newest_slot(&MemoryStorage::from_bytes(&start), &header)
            .map_err(|_| damaged("there is no commit in it"))?;
        if fixed_pages(&header, &slot).concat() != start {
            return Err(damaged(
                "it was written to since it was made, or is a database and no copy of one",
            ));
        }
        Ok(Self {
            reader,
            fixed: start,
            header,
            slot,
        })
    }

    fn contents(&self) -> BackupContents {
        BackupContents {
            base: None,
            point: BackupPoint::new(&self.header, &self.slot),
            pages: 0,
            copy_bytes: (self.slot.length).saturating_mul(self.header.page_size as u64),
        }
    }

    /// Reads all pages into `sink`; gives their number.
    fn read(self, sink: &mut impl Sink) -> Result<u64> {
        let Self {
            mut reader,
            fixed,
            header,
            slot,
        } = self;
        sink.bytes(&fixed).map_err(write_error)?;
        let sealer = Sealer::new(&header.identity);
        let mut tally = Tally::of(&slot);
        let mut page = vec![0; header.page_size];
        let (mut used, mut free) = (0, 0);
        for number in FIXED_PAGES..slot.length {
            fill(&mut reader, &mut page)?;
            if page.iter().all(|byte| *byte == 0) {
                free += header.page_size as u64;
                continue;
            }
            tally
                .page(&sealer, &page, number)
                .map_err(|fault| damaged(format!("page {number} {fault}")))?;
            used += 1;
            sink.zeros(std::mem::take(&mut free))
                .and_then(|()| sink.bytes(&page))
                .map_err(write_error)?;
        }
        sink.zeros(free).map_err(write_error)?;
        expect_end(&mut reader)?;
        let several = header.features & SAVEPOINTS != 0;
        if used + FIXED_PAGES != slot.used || !several && !tally.is_even() {
            return Err(damaged(
                "the pages in it are not those that its commit refers to",
            ));
        }
        Ok(used)
    }
}

/// For what is only looked at.
struct Nowhere;

impl Sink for Nowhere {
    fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn zeros(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
