//! A durable moment that is kept while copies of it are made.

use std::{
    io::{BufWriter, Write},
    ops::ControlFlow,
    sync::Arc,
};

use super::{
    BackupPoint, BackupReport,
    image::{Account, Plain, Rest, Watch, copied_slot, read_account, write_error, write_image},
    incremental::Encoder,
};
use crate::{
    database::Database,
    engine::{Engine, Pace, Pin, SystemClock},
    error::{Error, Result},
    file::{Header, Slot},
};

/// A durable moment of a database: [`Database::begin_backup`]. Copies of it can be written again, and from the middle on
/// where a transfer was interrupted. Its pages are not used for anything else until this is dropped.
pub struct BackupMoment {
    engine: Arc<Engine>,
    header: Header,
    slot: Slot,
    account: Account,
    _pin: Pin,
}

impl std::fmt::Debug for BackupMoment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BackupMoment")
            .field("transaction", &self.slot.transaction)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Keeps what is durable after a checkpoint that is made first, for exact copies of it. Costs that checkpoint, the
    /// reading of the free-space map, and a bit of memory a page.
    ///
    /// # Errors
    ///
    /// If the database was closed, or the free-space map is damaged.
    pub fn begin_backup(&self) -> Result<BackupMoment> {
        let engine = self.handle().engine();
        engine.check_open()?;
        engine.checkpoint_if_possible()?;
        let (pin, slot) = engine.pin();
        let header = Header {
            page_size: engine.pager.page_size,
            identity: *engine.identity(),
            features: 0,
            marks: engine.marks(),
        };
        let account = read_account(&engine.pager, &slot)?;
        Ok(BackupMoment {
            engine: engine.clone(),
            slot: copied_slot(&slot, &account.used),
            header,
            account,
            _pin: pin,
        })
    }
}

impl BackupMoment {
    /// Where an incremental backup may start that is to be put onto a copy of this moment.
    #[must_use]
    pub fn point(&self) -> BackupPoint {
        BackupPoint::new(&self.header, &self.slot)
    }

    /// The length of a copy, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.slot.length * self.header.page_size as u64
    }

    /// Writes the copy, from the byte `from` on; 0 for all of it. It is the same, byte for byte, each time. `rate` is
    /// the most bytes to read in a second, 0 for as many as possible, and `progress` is told pages.
    ///
    /// That no page is an older one with a right checksum is known only from all pages together, so a copy that does not
    /// begin with its first byte is to be checked where it is put together: [`unpack_backup`](super::unpack_backup) does.
    ///
    /// # Errors
    ///
    /// As for [`Database::backup`].
    pub fn write(
        &self,
        from: u64,
        rate: u64,
        writer: impl Write,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        let used = &self.account.used;
        let clock = SystemClock::start();
        let mut watch = Watch {
            pace: Pace::new(&clock, rate),
            progress: &mut progress,
            done: 0,
            total: used.len(),
        };
        let mut sink = Rest {
            sink: Plain(BufWriter::new(writer)),
            skip: from,
        };
        let bytes = write_image(
            &self.engine.pager,
            &self.header,
            &self.slot,
            &self.account,
            &mut sink,
            &mut watch,
        )?;
        sink.sink.0.flush().map_err(write_error)?;
        Ok(self.report(used.len(), bytes.saturating_sub(from)))
    }

    /// Writes what has changed since an earlier copy: see [`Database::backup_since`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_since(
        &self,
        base: &BackupPoint,
        rate: u64,
        writer: impl Write,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.check_base(base)?;
        let (pager, slot) = (&self.engine.pager, &self.slot);
        let clock = SystemClock::start();
        let mut watch = Watch {
            pace: Pace::new(&clock, rate),
            progress: &mut progress,
            done: 0,
            total: 0,
        };
        let writer = BufWriter::new(writer);
        let mut encoder = Encoder::begin(pager, &self.header, base, slot, writer, &mut watch)?;
        let own = slot.groups.map(|group| group.catalog);
        let of_savepoints = self
            .account
            .savepoints
            .iter()
            .map(|row| row.groups.map(|root| root.at));
        for catalogs in std::iter::once(own).chain(of_savepoints) {
            for (catalog, &after) in catalogs.into_iter().zip(&base.groups) {
                for table in encoder.tree(catalog, after, true)? {
                    encoder.tree(table, after, false)?;
                }
            }
        }
        // The free-space map is written by flushes only, and these have the number of their slot.
        encoder.tree(slot.space_root, base.transaction, false)?;
        let (pages, bytes) = encoder.finish()?;
        Ok(self.report(pages, bytes))
    }

    /// Whether changes since an earlier copy can be told.
    ///
    /// # Errors
    ///
    /// [`Error::BackupBase`] if it is of another database, or newer.
    pub fn check_base(&self, base: &BackupPoint) -> Result<()> {
        let reason = match base {
            base if base.identity != self.header.identity => "it is of another database",
            base if base.transaction > self.slot.transaction => "it is newer than the database",
            _ => return Ok(()),
        };
        Err(Error::BackupBase {
            file: self.engine.pager.file.clone(),
            reason: reason.into(),
        })
    }

    fn report(&self, pages: u64, bytes: u64) -> BackupReport {
        BackupReport {
            transaction: self.slot.transaction,
            pages,
            bytes,
            point: Some(self.point()),
        }
    }
}
