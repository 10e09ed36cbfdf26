//! What a user holds: transactions, and tables in them.

mod changes;
mod codec;
mod compact;
mod cursor;
mod entry;
mod extract;
mod loader;
mod multi;
mod name;
mod range;
mod raw;
mod read;
mod reserve;
mod savepoint;
mod stored;
mod table;
mod table_statistics;
mod ticket;
mod view;
mod write;

pub(crate) use self::compact::CompactionStep;
pub use self::{
    changes::{Change, Changes},
    cursor::Cursor,
    entry::{Entry, OccupiedEntry, VacantEntry},
    extract::ExtractIf,
    loader::Loader,
    multi::{MultiCursor, MultiKeys, MultiRange, MultiTableMut, MultiTableView, MultiValues},
    range::{BorrowedRow, Keys, Range, StoredRange},
    read::ReadTransaction,
    savepoint::Savepoint,
    stored::Stored,
    table::TableMut,
    table_statistics::TableStatistics,
    ticket::Ticket,
    view::TableView,
    write::{Durability, WriteTransaction},
};
