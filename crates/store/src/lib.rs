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
//! comparing bytes is comparing keys; [`types`] says how. A [`MultiTable`] holds several values a key.
//!
//! | to | use |
//! |---|---|
//! | look up | [`get`](TableView::get), or [`get_stored`](TableView::get_stored) without a copy |
//! | walk | [`range`](TableView::range), [`prefix`](TableView::prefix), [`iter`](TableView::iter): from either end, as [`keys`](Range::keys) alone, or as [`stored`](Range::stored) without a copy |
//! | leap about | [`cursor`](TableView::cursor); for one leap [`below`](TableView::below), [`at_or_above`](TableView::at_or_above) and so on |
//! | change a row | [`insert`](TableMut::insert), [`remove`](TableMut::remove), [`entry`](TableMut::entry), [`compare_and_swap`](TableMut::compare_and_swap) |
//! | remove many | [`remove_range`](TableMut::remove_range), [`retain`](TableMut::retain), [`extract_if`](TableMut::extract_if) |
//! | add many | [`loader`](TableMut::loader) for sorted rows; [`insert_reserve`](TableMut::insert_reserve) for long values |
//! | manage | [`tables`](WriteTransaction::tables), [`rename_table`](WriteTransaction::rename_table), [`delete_table`](WriteTransaction::delete_table), [`statistics`](TableView::statistics), [`untyped`](WriteTransaction::untyped) |
//!
//! # Transactions and threads
//!
//! There is one [`WriteTransaction`] at a time; [`Database::begin_write`] waits for it. There may be any number of
//! [`ReadTransaction`]s, called views. A view sees the database as it was when the view was opened, and waits for nobody.
//! Both own their database and may move between threads; a view may be shared by several.
//!
//! # Durability
//!
//! [`WriteTransaction::commit`] publishes a transaction in memory and, with [`Durability::Immediate`], returns when it
//! is on disk. While one flush is under way others publish, and the next flush takes all of them: many threads that
//! commit share their syncs, without a timer. [`Durability::Eventual`] does not wait and makes no system call.
//! [`WriteTransaction::commit_with_ticket`] lets the caller wait later.
//!
//! A commit that returned survives power loss. One that did not is there as a whole or not at all. If a write or a sync
//! fails, the handle stops writing until the file is opened again, since after a failed sync nobody knows what the disk
//! holds. If an acknowledged commit is missing from a file, opening it fails with [`Error::LostCommit`]
//! instead of showing an older state.
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
//! [`Builder::cache_size`] bounds the memory for pages, those of the running transaction and those that wait for a flush
//! included; a transaction larger than that is written in parts. Beyond the cache there is one bit for each page of
//! those parts of the file that were written since it was opened, and one page for each live iterator or
//! [`Stored`] value.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | page size | 4,096 (the default) to 65,536 bytes, fixed when the file is created |
//! | encoded key | a quarter page less 64 bytes: 960 bytes at the default page size |
//! | key and value of a [`MultiTable`] | together what a key may have, as a pair |
//! | elements of a tuple | 2 to 8; tuples may hold tuples |
//! | encoded value | 4 GiB - 1 byte |
//! | table name | 1 to 512 bytes |
//! | type names | any length; what follows the 200th byte is not compared |
//! | groups | 16 |
//! | file | 2^44 pages |
//!
//! # Errors
//!
//! Every [`Error`] names the file, table or page concerned. Each page is verified when it enters the cache, and a
//! damaged one is an [`Error::Corrupted`], never a panic and never a wrong row. An error in the middle of a change
//! poisons the transaction: it can only be aborted, and the database is as if it had never begun.
//!
//! # Platforms
//!
//! Unix, tested on Linux, where a sync is `fdatasync`.

pub mod storage;
pub mod types;

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
mod space;
mod statistics;
mod sync;
mod transaction;
mod tree;
mod workspace;

pub use self::{
    compaction::{CompactOptions, Compaction},
    database::{Builder, Database},
    engine::{Problem, Scrub, ScrubOptions, VerifyOptions, VerifyReport},
    error::{Error, Result},
    salvage::{LostRange, SalvageReport, SalvagedTable, salvage, salvage_storage},
    statistics::Statistics,
    transaction::{
        Cursor, Durability, Entry, ExtractIf, Keys, Loader, MultiKeys, MultiRange, MultiTableMut,
        MultiTableView, MultiValues, OccupiedEntry, Range, ReadTransaction, Savepoint, Stored,
        StoredRange, TableMut, TableStatistics, TableView, Ticket, UntypedCursor, UntypedLoader,
        UntypedRange, UntypedTableMut, UntypedTableView, VacantEntry, WriteTransaction,
    },
    types::{
        Beginning, BorrowedValue, DecodeError, Group, GroupSet, Key, MultiTable, Newtype, Pairs,
        Postcard, Prefix, Table, TableDefinition, Value,
    },
};
