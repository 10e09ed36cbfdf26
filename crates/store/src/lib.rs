//! An embedded, transactional store of typed tables: a copy-on-write B+ tree engine whose durable commit costs one
//! `fdatasync`, and whose table groups let one file hold a log and the state that can be recomputed from it.
//!
//! ```
//! use folio_store::{Database, Postcard, Table};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct Account {
//!     owner: String,
//!     cents: i64,
//! }
//!
//! struct Accounts;
//! impl Table for Accounts {
//!     const NAME: &'static str = "accounts";
//!     type Key = u64;
//!     type Value = Postcard<Account>;
//! }
//!
//! # fn main() -> folio_store::Result<()> {
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! # let path = folder.path().join("ledger.folio");
//! let db = Database::create(&path)?;
//! let txn = db.begin_write()?;
//! let account = Account { owner: "Ada".into(), cents: 12_00 };
//! txn.table::<Accounts>()?.insert(7, &account)?;
//! txn.commit()?; // durable on return
//!
//! let view = db.begin_read()?;
//! for row in view.table::<Accounts>()?.range(0..100)? {
//!     let (id, found) = row?;
//!     assert_eq!((id, found), (7, Account { owner: "Ada".into(), cents: 12_00 }));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Tables
//!
//! A [`Table`] is a type that names a table and the types of its keys and values, so a key of another table does not
//! compile. A file that holds a table with other types is refused with an error that names both. Keys encode so that
//! comparing bytes is comparing keys; [`types`] says how. A [`MultiTable`] holds several values a key. Tools that know no
//! types open a table by its [`TableDefinition`] as [`Untyped`], with the same handles.
//!
//! | to | use |
//! |---|---|
//! | look up | [`get`](TableView::get), or [`get_stored`](TableView::get_stored) without a copy; [`get_in_parts`](TableView::get_in_parts) for long values |
//! | walk | [`range`](TableView::range), [`prefix`](TableView::prefix), [`iter`](TableView::iter): from either end, as [`keys`](Range::keys) alone, or as [`stored`](Range::stored) without a copy; fastest row by row in place, with [`next_borrowed`](StoredRange::next_borrowed) |
//! | leap about | [`cursor`](TableView::cursor); for one leap [`below`](TableView::below), [`at_or_above`](TableView::at_or_above) and so on |
//! | change a row | [`insert`](TableMut::insert), [`remove`](TableMut::remove), [`entry`](TableMut::entry), [`compare_and_swap`](TableMut::compare_and_swap) |
//! | remove many | [`remove_range`](TableMut::remove_range), [`retain`](TableMut::retain), [`extract_if`](TableMut::extract_if) |
//! | add many | [`loader`](TableMut::loader) for sorted rows; [`insert_reserve`](TableMut::insert_reserve) for long values |
//! | have several values a key | [`MultiTableMut`]: [`insert`](MultiTableMut::insert), [`get`](MultiTableView::get), [`keys`](MultiTableView::keys), [`cursor`](MultiTableView::cursor) |
//! | manage | [`tables`](WriteTransaction::tables), [`rename_table`](WriteTransaction::rename_table), [`delete_table`](WriteTransaction::delete_table), [`statistics`](TableView::statistics), [`untyped`](WriteTransaction::untyped) |
//!
//! Runnable examples of what programs do first are in the folder `examples`: `quickstart`, `typed_rows`, `ranges`,
//! `cursor`, `multi_value`, `counters`, `queue`, `bulk_load`, `groups`, `threads` and `tools`.
//! `cargo run --example quickstart` runs one.
//!
//! # Transactions
//!
//! There is one [`WriteTransaction`] at a time. It sees its own changes; others see them when it commits, all at once.
//! Dropping it forgets them. A [`Savepoint`] lets it go back part of the way.
//!
//! [`Database::create_savepoint`] gives a state a name under which it can be looked at and gone back to, by this process
//! or a later one, until it is released.
//!
//! There may be any number of [`ReadTransaction`]s, called views. A view shows the database as it was when the view was
//! opened, waits for nobody, and holds up nobody. While it lives the pages of its state are not used again, so a view kept
//! for long makes the file larger, by that one state at most.
//!
//! # Threads and processes
//!
//! [`Database::begin_write`] waits for the transaction before, [`Database::try_begin_write`] does not, and
//! [`Database::begin_write_within`] not longer than it is told. A thread that begins a write transaction while it has
//! another one waits for itself, for ever; so it does with [`Database::compact`].
//!
//! A [`Database`] is shared by cloning it. Transactions own their database, so it stays open until the last of them is
//! gone.
//!
//! Everything here is `Send` and `Sync`: handles, transactions, tables, ranges, cursors, tickets, values. Several
//! threads may read one view, each through a table of its own or all through one, and take a range or a cursor along;
//! none waits for another. Several may use one write transaction, each with tables of its own, since a table is open
//! once at a time: what they do to it they do one after the other. A change asks for its table by `&mut`, and a
//! savepoint, going back and the commit for the whole transaction, so the compiler sees to it that nobody else is at
//! work then. What borrows from a transaction goes to other threads by [`std::thread::scope`]; a [`Stored`] value
//! borrows nothing.
//!
//! There is no thread in the background unless [`Database::start_scrub`] starts one, and no `async`: in an asynchronous
//! program, commits and walks belong on threads that may block.
//!
//! A file is open through one handle that writes; a second one gets [`Error::InUse`]. Beside it, and without it, any number of
//! processes may read ([`Database::open_read_only`]): each sees the newest durable commit as of its opening, and nobody
//! waits. On other systems than Linux, and on NFS, a file is open for one that writes or for those that read.
//!
//! # Durability
//!
//! [`WriteTransaction::commit`] publishes a transaction in memory, where views that begin from then on see it, and, with
//! [`Durability::Immediate`], returns when it is on disk. While one flush is under way others publish, and the next flush
//! takes all of them: many threads that commit share their syncs, without a timer. [`WriteTransaction::commit_with_ticket`]
//! lets the caller wait later.
//!
//! [`Durability::Eventual`] does not wait and makes no system call. What it committed is in this process only, until the
//! next flush of its groups, a [checkpoint](Database::checkpoint), or the [closing](Database::close) of the database; if
//! the process dies before, it is gone.
//!
//! A commit that returned survives power loss. One that did not is there as a whole or not at all. If a write or a sync
//! fails, the handle stops writing until the file is opened again, since after a failed sync nobody knows what the disk
//! holds. If an acknowledged commit is missing from a file, opening it fails with [`Error::LostCommit`]
//! instead of showing an older state. Opening costs as much as the last commit, after a crash too, whatever the size of
//! the file.
//!
//! A durable commit costs one `fdatasync`; there are more when it has more than 4 MiB of pages, when it writes more
//! than four times the cache, and when it is the first after opening.
//!
//! # Groups
//!
//! Every table belongs to a [`Group`]; by default all to the same one. A durable commit flushes the groups that it
//! changed. The others stay, on disk, as of their last flush, and after a crash they are there as of then. So a program
//! that keeps a log in one group and what follows from it in another writes only the log with every commit, calls
//! [`Database::checkpoint`] for the other from time to time, and replays the rest of the log after a crash. Groups that a
//! transaction changed together are flushed together.
//!
//! # Memory
//!
//! [`Builder::cache_size`], 64 MiB by default, bounds the memory for pages, those of the running transaction and those
//! that wait for a flush included; a transaction larger than that is written in parts. Beyond the cache there is
//!
//! - one bit for each page of those parts of the file that were written since it was opened;
//! - one page for each live iterator, cursor or [`Stored`] value;
//! - the bytes of each value that is decoded or inserted, but for those that [`insert_reserve`](TableMut::insert_reserve)
//!   writes and [`get_in_parts`](TableView::get_in_parts) reads page by page;
//! - with savepoints, a copy of each page that the transaction had in memory and changes afterwards;
//! - up to three bits a page while a verification, a scrub or a backup is under way;
//! - while a persistent savepoint is released, gone back to or counted, some 50 bytes at most for each page that a
//!   changed branch refers to.
//!
//! Nothing is mapped into memory: an I/O error is an [`Error`], not a signal.
//!
//! # Space and maintenance
//!
//! Space that rows gave up is used again. The file itself becomes smaller by [`Database::compact`] only, which runs while
//! others read and write. It grows ahead of its use by [steps](Builder::growth). [`Database::statistics`] and
//! [`statistics`](TableView::statistics) of a table say where the bytes are.
//!
//! [`Database::verify`] checks everything in a database that is in use; [`Database::start_scrub`] does so again and again
//! in the background. [`salvage`](salvage()) copies what can be read of a damaged file into a new one.
//!
//! [`Database::backup_to`] copies a database that is in use, [`Database::backup_since`] what has changed since, and
//! [`apply_backup`] puts that onto the copy. [`Database::readers`] says which views keep space from being used again, and
//! [`Database::savepoint_pages`] which savepoints. An exact copy has the savepoints of the original, a compacted one none.
//!
//! When the disk is full, transactions that add rows fail with [`Error::Full`] before anything of them is visible. Room is
//! kept back for those that only remove rows, and for one that asks for it by
//! [`use_reserve`](WriteTransaction::use_reserve).
//!
//! # Limits
//!
//! Each has a test at the limit and one past it, where the table does not say otherwise.
//!
//! | | at most | one past it |
//! |---|---|---|
//! | page size | 4,096 (the default) to 65,536 bytes, a power of two, fixed when the file is created | [`Configuration`](Error::Configuration) |
//! | encoded key | a quarter page less 64 bytes: 960 bytes at the default page size, 16,320 at the largest | [`KeyTooLong`](Error::KeyTooLong) |
//! | key and value of a [`MultiTable`] | together what a key may have, as a pair | [`KeyTooLong`](Error::KeyTooLong) |
//! | elements of a tuple | 2 to 8; tuples may hold tuples | does not compile |
//! | encoded value | 4 GiB - 1 byte. One that is inserted or read as a whole is in memory as a whole; [`insert_reserve`](TableMut::insert_reserve) and [`get_in_parts`](TableView::get_in_parts) take a page at a time | [`ValueTooLong`](Error::ValueTooLong) |
//! | table name | 1 to 512 bytes | [`Configuration`](Error::Configuration) |
//! | type names | any length; what follows the 200th byte is not compared | |
//! | tables | 2^32 - 17 in the life of a file, deleted ones included | [`Configuration`](Error::Configuration) |
//! | groups | 16 | [`Group::new`] panics, in a constant at compile time; [`Group::from_index`] gives `None` |
//! | persistent savepoints | 1,024, each with a name of 1 to 255 bytes | [`Configuration`](Error::Configuration) |
//! | file | 2^44 pages: 64 PiB at the default page size | [`Full`](Error::Full) |
//! | transactions in the life of a file | 2^63 - 1 numbers; at a million a second they last 290,000 years, so no test gets there | |
//! | write transactions at a time | 1 | the next one waits |
//! | handles to a table in a write transaction | 1 | [`TableInUse`](Error::TableInUse) |
//! | cache | from 0 on; a few pages are always kept | |
//! | rows, views, tickets, savepoints, size of a transaction | no limit but file and memory | |
//!
//! # Errors
//!
//! Every [`Error`] that concerns a file names it, with the table or page where there is one. Each page is verified when it
//! enters the cache, and a damaged one is an [`Error::Corrupted`], never a panic and never a wrong row. An error in the
//! middle of a change poisons the transaction: it can be aborted, and the database is as if it had never begun, or it goes
//! [back to a savepoint](WriteTransaction::rollback_to).
//!
//! | error | what to do |
//! |---|---|
//! | [`Full`](Error::Full) | remove rows or make room, and try again; the handle goes on |
//! | [`Latched`](Error::Latched) | reads go on; to write, open the file again |
//! | [`Poisoned`](Error::Poisoned) | abort the transaction and begin another; an earlier error says why |
//! | [`InUse`](Error::InUse) | close the file where it is open |
//! | [`ReadOnly`](Error::ReadOnly) | open the file by [`Database::open`] |
//! | [`Closed`](Error::Closed), [`Outlived`](Error::Outlived) | open the file again |
//! | [`Io`](Error::Io) | what the system says; if it was a write of the database or a sync, the handle is `Latched` from then on |
//! | [`LostCommit`](Error::LostCommit), [`DoubtfulCommit`](Error::DoubtfulCommit) | restore from a replica or a backup, or accept the loss by [`Builder::accept_loss`] |
//! | other [`corruption`](Error::is_corruption) | restore, or [`salvage`](salvage()); `Corrupted` costs the rows that need the page, other rows can be read |
//! | [`NewerFormat`](Error::NewerFormat) | use a newer version of this crate |
//! | [`BackupDamaged`](Error::BackupDamaged), [`BackupBase`](Error::BackupBase) | make another backup; nothing was changed |
//! | [`UnknownSavepoint`](Error::UnknownSavepoint), [`TableTypes`](Error::TableTypes), [`TableInUse`](Error::TableInUse), [`OutOfOrder`](Error::OutOfOrder), [`KeyTooLong`](Error::KeyTooLong) and the like | mend the program; nothing was changed |
//!
//! # Format
//!
//! A database is one file, with nothing beside it: no log, no lock file. It is the same on every machine: integers are
//! little-endian, and big-endian in keys, whose encodings are listed in [`types`]. The first page holds a format version and
//! the features that a program must know; a file of a newer format is refused with [`Error::NewerFormat`], and one that is
//! no database with [`Error::NotADatabase`]. Before version 1.0 of this crate the format may change with a minor
//! version. A file that no process has open may be copied or moved; one that is in use is copied by
//! [`Database::backup_to`]. Two exact copies of a file must not both be written to and then mixed.
//!
//! # Platforms
//!
//! Unix, on a local filesystem; tested on Linux, where a sync is `fdatasync`. Elsewhere it is what
//! [`File::sync_data`](std::fs::File::sync_data) does.

pub mod storage;
pub mod types;

mod backup;
mod bytes;
mod cache;
mod catalog;
mod compaction;
mod database;
mod engine;
mod error;
mod file;
mod node;
mod page;
mod pager;
mod salvage;
mod savepoints;
mod space;
mod statistics;
mod sync;
mod transaction;
mod tree;
mod workspace;

pub use self::{
    backup::{
        BackupContents, BackupMoment, BackupOptions, BackupPoint, BackupReport, apply_backup,
        check_backup, unpack_backup,
    },
    compaction::{CompactOptions, Compaction},
    database::{Builder, Database, Losses},
    engine::{Problem, Reader, ReaderPlace, Scrub, ScrubOptions, VerifyOptions, VerifyReport},
    error::{Error, Result},
    salvage::{LostRange, SalvageReport, SalvagedTable, salvage, salvage_storage},
    savepoints::{PersistentSavepoint, SavepointPages},
    statistics::Statistics,
    transaction::{
        BorrowedRow, Change, Changes, Cursor, Durability, Entry, ExtractIf, Keys, Loader,
        MultiCursor, MultiKeys, MultiRange, MultiTableMut, MultiTableView, MultiValues,
        OccupiedEntry, Range, ReadTransaction, Savepoint, Stored, StoredRange, TableMut,
        TableStatistics, TableView, Ticket, VacantEntry, WriteTransaction,
    },
    types::{
        Beginning, BorrowedValue, DecodeError, Group, GroupSet, Key, MultiTable, Newtype, Pairs,
        Postcard, Prefix, RowTypes, Table, TableDefinition, Untyped, Value,
    },
};
