//! What a user holds: transactions, and tables in them.

mod compact;
mod read;
mod savepoint;
mod stored;
mod table;
mod ticket;
mod untyped;
mod write;

pub(crate) use self::compact::CompactionStep;
pub use self::{
    read::ReadTransaction,
    savepoint::Savepoint,
    stored::Stored,
    table::{Range, TableMut, TableView},
    ticket::Ticket,
    untyped::{UntypedRange, UntypedTableMut, UntypedTableView},
    write::{Durability, WriteTransaction},
};
