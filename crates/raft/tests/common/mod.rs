//! A small state machine for the tests: named counters and a list of who changed them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod cluster;
pub mod echo;
pub mod script;
pub mod store;
pub mod tap;

use folio_raft::{Applied, ApplyError, StateMachine, TableSet};
use folio_store::{Postcard, ReadTransaction, Table, WriteTransaction};
use serde::{Deserialize, Serialize};

pub struct Counters;
impl Table for Counters {
    const NAME: &'static str = "counters";
    type Key = &'static str;
    type Value = u64;
}

pub struct History;
impl Table for History {
    const NAME: &'static str = "history";
    type Key = (u64, u32);
    type Value = Postcard<Change>;
}

/// A table of nobody's, in a group of its own.
pub struct Scratch;
impl Table for Scratch {
    const NAME: &'static str = "scratch";
    const GROUP: folio_store::Group = folio_store::Group::new(9);
    type Key = u64;
    type Value = u64;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub counter: String,
    pub time: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Add { counter: String, amount: u64 },
    Remove { counter: String },
    Panic,
    Fail,
}

pub fn add(counter: &str, amount: u64) -> Command {
    Command::Add {
        counter: counter.into(),
        amount,
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct CounterMachine;

impl StateMachine for CounterMachine {
    type Command = Command;
    type Response = u64;

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Counters>().with::<History>()
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        command: &Command,
    ) -> Result<u64, ApplyError> {
        let mut counters = txn.table::<Counters>()?;
        let (counter, value) = match command {
            Command::Add { counter, amount } => {
                let value = counters.get(counter.as_str())?.unwrap_or(0) + amount;
                counters.insert(counter.as_str(), value)?;
                (counter, value)
            }
            Command::Remove { counter } => {
                counters.remove(counter.as_str())?;
                (counter, 0)
            }
            Command::Panic => {
                counters.insert("half done", 1)?;
                panic!("told to panic");
            }
            Command::Fail => {
                counters.insert("half done", 1)?;
                return Err(ApplyError::Fatal("told to fail".into()));
            }
        };
        let change = Change {
            counter: counter.clone(),
            time: at.time,
        };
        txn.table::<History>()?
            .insert((at.index, at.position), change)?;
        Ok(value)
    }
}

/// All counters, in order.
pub fn counters(view: &ReadTransaction) -> Vec<(String, u64)> {
    view.table::<Counters>()
        .and_then(|table| table.iter()?.collect())
        .expect("readable")
}

/// All changes, in order.
pub fn history(view: &ReadTransaction) -> Vec<((u64, u32), Change)> {
    view.table::<History>()
        .and_then(|table| table.iter()?.collect())
        .expect("readable")
}
