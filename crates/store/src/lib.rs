//! An embedded, transactional key-value store: a copy-on-write B+ tree engine with single-flush commits and table groups.
pub mod storage;
pub mod types;

mod bytes;
mod cache;
mod catalog;
mod database;
mod engine;
mod error;
mod file;
mod node;
mod page;
mod pager;
mod space;
mod statistics;
mod transaction;
mod tree;
mod workspace;

pub use self::{
    database::{Builder, Database},
    engine::{Problem, VerifyReport},
    error::{Error, Result},
    statistics::Statistics,
    transaction::{
        Durability, Range, ReadTransaction, Stored, TableMut, TableView, Ticket, UntypedRange,
        UntypedTableMut, UntypedTableView, WriteTransaction,
    },
    types::{
        BorrowedValue, DecodeError, Group, GroupSet, Key, Postcard, Table, TableDefinition, Value,
    },
};
