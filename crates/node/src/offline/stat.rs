//! What is in a file.

use std::path::Path;

use folio_ledger::{LedgerView, VaultInfo};
use folio_store::{Database, ReaderPlace};
use serde::Serialize;

use super::{OpenError, RaftSummary, open};

/// How many vaults are listed.
const MAX_VAULTS: usize = 1000;

/// What is in a file, as of its last durable commit.
#[derive(Debug, Serialize)]
pub struct StatReport {
    /// The file.
    pub file: String,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// Pages that were ever used.
    pub pages: u64,
    /// Of those, pages that are free.
    pub free_pages: u64,
    /// Pages that the file was grown by ahead of need.
    pub spare_pages: u64,
    /// The commits that others are reading, by the sequence numbers of their flushes: their pages are not used again.
    pub pinned_commits: Vec<u64>,
    /// The tables, by name.
    pub tables: Vec<TableStat>,
    /// The Raft state.
    pub raft: RaftSummary,
    /// The first of the vaults, by number.
    pub vaults: Vec<VaultInfo>,
}

/// A table.
#[derive(Debug, Serialize)]
pub struct TableStat {
    /// Its name.
    pub name: String,
    /// The group it is made durable with.
    pub group: u8,
    /// How many rows it has.
    pub rows: u64,
    /// The type of its keys.
    pub key_type: String,
    /// The type of its values.
    pub value_type: String,
}

/// Looks into a file. Also gives back the database, for those who want to know more about the same commit.
pub fn stat(file: &Path) -> Result<(StatReport, Database), OpenError> {
    let (database, file_bytes) = open(file)?;
    let statistics = database.statistics();
    let readers = database.readers().into_iter();
    let mut pinned_commits: Vec<u64> = readers
        .filter_map(|reader| match reader.place {
            ReaderPlace::Elsewhere { commit } => commit,
            _ => None,
        })
        .collect();
    pinned_commits.sort_unstable();
    let view = database.begin_read()?;
    let mut definitions = view.tables()?;
    definitions.sort_by(|a, b| (a.group.index(), &a.name).cmp(&(b.group.index(), &b.name)));
    let raft = RaftSummary::read(&view)?;
    let mut tables = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let rows = view.untyped(&definition)?.len()?;
        tables.push(TableStat {
            rows,
            group: definition.group.index(),
            name: definition.name,
            key_type: definition.key_type,
            value_type: definition.value_type,
        });
    }
    let vaults = LedgerView::new(&view).vaults(0, MAX_VAULTS)?;
    let report = StatReport {
        file: file.display().to_string(),
        file_bytes,
        page_size: statistics.page_size,
        pages: statistics.length_pages,
        free_pages: statistics.free_pages,
        spare_pages: statistics
            .file_pages
            .saturating_sub(statistics.length_pages),
        pinned_commits,
        tables,
        raft,
        vaults,
    };
    Ok((report, database))
}
