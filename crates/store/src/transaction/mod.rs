//! What a user holds: transactions, and tables in them.

mod compact;
mod cursor;
mod entry;
mod extract;
mod loader;
mod multi;
mod read;
mod reserve;
mod savepoint;
mod stored;
mod table;
mod table_statistics;
mod ticket;
mod untyped;
mod write;

pub(crate) use self::compact::CompactionStep;
pub use self::{
    cursor::{Cursor, UntypedCursor},
    entry::{Entry, OccupiedEntry, VacantEntry},
    loader::{Loader, UntypedLoader},
    multi::{MultiKeys, MultiRange, MultiTableMut, MultiTableView, MultiValues},
    read::ReadTransaction,
    savepoint::Savepoint,
    stored::Stored,
    table::{ExtractIf, Keys, Range, StoredRange, TableMut, TableView},
    table_statistics::TableStatistics,
    ticket::Ticket,
    untyped::{UntypedRange, UntypedTableMut, UntypedTableView},
    write::{Durability, WriteTransaction},
};
