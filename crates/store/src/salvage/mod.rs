//! Salvage: every readable row of a damaged file, in a new one.
//!
//! 1. The newest commit that was whole once is walked from its roots. A row that is reached this way is proven: each
//!    page on the way is the one that its parent means.
//! 2. Where a branch cannot be read, the leaves below it still can. Every page says what it is, where, and of which
//!    table, and the durable free-space map says which pages are in use: those in use that nothing reaches are the
//!    missing ones, and the row counts in the tree tell whether all were found.
//! 3. Without a commit, a catalog or a free-space map, all pages of a table are taken, the newest last. Rows found this
//!    way may be stale, deleted, or of a transaction that never committed; they are counted apart.
//!
//! Where the header is lost, what it said is found out from the pages.
//!
//! Memory: three bits a page, 24 bytes for each leaf that is looked for in step 2 and 3, the bounds of what is lost, and
//! one value.

mod names;
mod output;
mod run;
mod seed;
mod source;
mod walk;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Builder, Database, Problem, TableDefinition,
    error::{Error, Result},
    storage::{FileStorage, Storage},
};

/// What [`salvage`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The length of the damaged file in bytes.
    pub file_bytes: u64,
    /// Its page size in bytes.
    pub page_size: u64,
    /// Whether the header was lost, and what it said was found out from the pages.
    pub header_lost: bool,
    /// The newest transaction of the commit that was walked; none if no commit could be found.
    pub transaction: Option<u64>,
    /// What is known to be missing, or not certain, about that commit.
    pub doubt: Option<String>,
    /// Pages that belong to the state and could not be read, as far as that is known.
    pub pages_unreadable: u64,
    /// The tables, by group and name.
    pub tables: Vec<SalvagedTable>,
    /// What could not be read, in the order in which it was met; of very many the first.
    pub problems: Vec<Problem>,
    /// Whether something is missing that no table tells: tables, or pages of an unknown table.
    pub tables_missing: bool,
}

/// What became of a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SalvagedTable {
    /// Its name, group and types, as it is in the new file.
    pub definition: TableDefinition,
    /// Its number in the damaged file.
    pub number: u32,
    /// Whether the catalog of the commit has its name. If not, an older catalog has it, or it was made from the number.
    pub named: bool,
    /// Rows that were reached from the root.
    pub rows_exact: u64,
    /// Rows of pages that the commit uses and whose parent is lost. They are right, unless a write to such a page was
    /// lost as well.
    pub rows_unreferenced: u64,
    /// Rows that may be stale, deleted, or of a transaction that never committed.
    pub rows_stale: u64,
    /// Rows that are known to be missing.
    pub rows_lost: u64,
    /// Whether more may be missing than is known.
    pub rows_lost_unknown: bool,
    /// The ranges in which rows are missing; of very many the first.
    pub ranges_lost: Vec<LostRange>,
    /// The number of such ranges.
    pub range_count: u64,
    /// The keys of rows whose long value has a part that could not be read; of very many the first.
    pub values_lost: Vec<Vec<u8>>,
    /// The number of such rows. They are not in the new file.
    pub value_count: u64,
}

/// A range of keys in which rows are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The first key that may be missing; none for the start of the table.
    pub from: Option<Vec<u8>>,
    /// The first key after the range; none for the end of the table.
    pub to: Option<Vec<u8>>,
    /// The rows that the file records for it, where it does.
    pub recorded: Option<u64>,
    /// The rows that were found for it nevertheless.
    pub found: u64,
}

impl std::fmt::Display for LostRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.recorded {
            Some(rows) => write!(
                formatter,
                "{} of {rows} rows are lost",
                rows.saturating_sub(self.found)
            )?,
            None => formatter.write_str("an unknown number of rows is lost")?,
        }
        match &self.from {
            Some(key) => write!(formatter, ", from key `{}`", key.escape_ascii())?,
            None => formatter.write_str(", from the start")?,
        }
        match &self.to {
            Some(key) => write!(formatter, " to before `{}`", key.escape_ascii()),
            None => formatter.write_str(" to the end"),
        }
    }
}

impl SalvagedTable {
    /// All rows in the new file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows_exact + self.rows_unreferenced + self.rows_stale
    }

    /// Whether all rows are there, as they were.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.named
            && self.rows_stale == 0
            && self.range_count == 0
            && self.value_count == 0
            && !self.rows_lost_unknown
    }
}

impl SalvageReport {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.transaction.is_some()
            && self.doubt.is_none()
            && !self.tables_missing
            && self.tables.iter().all(SalvagedTable::is_complete)
    }
}

/// Copies every row that can be read from a damaged file into a new one, which must not exist.
///
/// The damaged file is opened for reading only, and nobody may have it open for writing. The new one is written under
/// another name, `out` with `.partial` behind it, and gets its own when it is whole and durable. `progress` is told what
/// is being done, how much of it, and of how much.
///
/// Needs room for the new file, and memory: three bits a page, 24 bytes for each leaf whose parent is lost, and the
/// largest value.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use folio_store::{Database, Table};
/// # struct Stock;
/// # impl Table for Stock {
/// #     const NAME: &'static str = "stock";
/// #     type Key = &'static str;
/// #     type Value = u64;
/// # }
/// # let folder = tempfile::tempdir()?;
/// # let (file, out) = (folder.path().join("shop.folio"), folder.path().join("new.folio"));
/// # let db = Database::create(&file)?;
/// # let txn = db.begin_write()?;
/// # txn.table::<Stock>()?.insert("apples", 12)?;
/// # txn.commit()?;
/// # db.close()?;
/// let report = folio_store::salvage(&file, &out, |_, _, _| {})?;
/// assert!(report.is_complete());
/// assert_eq!(report.tables[0].rows_exact, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the file is none of Folio's, or of a newer format, or in use, or `out` exists or cannot be written. Damage is no
/// error: the report tells of it.
pub fn salvage(
    file: impl AsRef<Path>,
    out: impl AsRef<Path>,
    mut progress: impl FnMut(&str, u64, u64),
) -> Result<SalvageReport> {
    let (file, out) = (file.as_ref(), out.as_ref());
    let storage = FileStorage::open_read_only(file)
        .map_err(|error| crate::database::open_error(file, "open the file", error))?;
    let source = source::Source::open(Arc::new(storage))?;
    let io_error = |operation, error| crate::database::open_error(out, operation, error);
    if out.symlink_metadata().is_ok() {
        return Err(io_error(
            "create the file",
            io::ErrorKind::AlreadyExists.into(),
        ));
    }
    let mut partial = out.as_os_str().to_owned();
    partial.push(".partial");
    let target = Builder::default()
        .page_size(source.pager.page_size)
        .create(&partial)?;
    let partial = Partial(PathBuf::from(partial));
    let report = run::run(&source, &target, &mut progress)?;
    target.close()?;
    // Unlike a rename, this fails if somebody made a file of that name meanwhile.
    match fs::hard_link(&partial.0, out) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(io_error("name the new file", error));
        }
        Err(_) => {
            fs::rename(&partial.0, out).map_err(|error| io_error("name the new file", error))?
        }
        Ok(()) => {}
    }
    drop(partial);
    crate::storage::sync_folder_of(out).map_err(|error| io_error("sync the folder", error))?;
    Ok(report)
}

/// The new file before it has its name. Whatever happens it does not stay behind under this one.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.0.display(), %error, "a partial file stays behind");
            }
            _ => {}
        }
    }
}

/// The same from a storage of the caller's into an empty database.
///
/// # Errors
///
/// As for [`salvage`], and if keys are too long for the pages of the new database.
pub fn salvage_storage(
    source: Arc<dyn Storage>,
    target: &Database,
    mut progress: impl FnMut(&str, u64, u64),
) -> Result<SalvageReport> {
    if !target.begin_read()?.tables()?.is_empty() {
        return Err(Error::Configuration(
            "the database to salvage into has tables already".into(),
        ));
    }
    run::run(&source::Source::open(source)?, target, &mut progress)
}
