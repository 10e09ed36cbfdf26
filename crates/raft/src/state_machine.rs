//! What a user brings: a [`StateMachine`], the tables it lives in, and the point of the log at
//! which a command is applied.

use std::fmt::Debug;

use folio_store::{Group, ReadTransaction, Table, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A replicated state machine: rows in tables, changed only by commands from the Raft log.
///
/// Every replica applies the same commands in the same order and must end with the same rows.
/// So an implementation reads nothing but its arguments and its tables: no clock, no random
/// number, no node name, no iteration over a hash map. Time comes from [`Applied::time`].
///
/// A command that cannot be carried out is answered with a [`Response`](Self::Response) that says
/// so. Check before the first row is written: rows written before such an answer stay. An
/// [`ApplyError`] is for what no caller can mend (the disk, a broken invariant), and stops the
/// node; nothing of the entry is published. A panic is treated the same way.
pub trait StateMachine: Send + Sync + 'static {
    /// What a client asks for. Goes into the log and over the network.
    type Command: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// What the client that proposed the command gets back.
    type Response: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// False for a machine without a state, whose node is a witness: see
    /// [`Witness`](crate::Witness).
    const HOLDS_STATE: bool = true;

    /// Every table of the state. It is what a snapshot contains and what an install replaces, so a
    /// table left out is a table that differs between replicas.
    fn tables(&self) -> TableSet;

    /// Carries out one command.
    fn apply(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        command: &Self::Command,
    ) -> Result<Self::Response, ApplyError>;

    /// Answers a question that another node asks about the state here, as `view` has it: see
    /// [`ReplicatedDatabase::ask`](crate::ReplicatedDatabase::ask). The bytes are from a peer. An error
    /// is told to whoever asked, and to nobody else.
    ///
    /// The provided method has no answers.
    fn answer(&self, view: &ReadTransaction, question: &[u8]) -> Result<Vec<u8>, String> {
        let _ = (view, question);
        Err("this state machine answers no questions".to_owned())
    }

    /// Carries out all commands of one log entry, in order, and answers each.
    ///
    /// The provided method calls [`apply`](Self::apply) for each. A state machine that does
    /// something once per entry (seal a block, write a root) overrides it. Exactly one response
    /// per command is required; another number stops the node.
    fn apply_entry(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        commands: &[Self::Command],
    ) -> Result<Vec<Self::Response>, ApplyError> {
        (0u32..)
            .zip(commands)
            .map(|(position, command)| self.apply(txn, Applied { position, ..at }, command))
            .collect()
    }
}

/// Where in the log a command stands, and the time its proposer gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Index of the log entry.
    pub index: u64,
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Position of the command in its entry, from 0: concurrent writes share an entry.
    pub position: u32,
    /// The proposer's clock in microseconds since the Unix epoch. It never runs backwards from one
    /// entry to the next: a stamp older than the newest one applied is raised to it.
    pub time: u64,
}

/// Why an entry could not be applied. Either way the node stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The engine could not read or write. After [`folio_store::Error::Full`] the entry is applied again once there is
    /// room, so hand the engine's errors on as they are.
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    /// The state machine found its own rows or the command impossible.
    #[error("the state machine cannot go on: {0}")]
    Fatal(String),
}

/// The tables of a state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSet {
    definitions: Vec<TableDefinition>,
}

impl TableSet {
    /// A set without tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the table `T`.
    #[must_use]
    pub fn with<T: Table>(self) -> Self {
        self.with_definition(TableDefinition::of::<T>())
    }

    /// Adds a table by its definition.
    #[must_use]
    pub fn with_definition(mut self, definition: TableDefinition) -> Self {
        self.definitions.push(definition);
        self
    }

    /// The definitions in order of name: the order in which a snapshot writes them.
    pub fn definitions(&self) -> Vec<TableDefinition> {
        let mut sorted = self.definitions.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        sorted
    }

    /// Checks what the store relies on: tables of [`Group::DEFAULT`], each once, with names that
    /// are neither the store's own (`raft_…`) nor those of staged snapshots (`staged:…`).
    pub(crate) fn validate(&self) -> Result<(), String> {
        let sorted = self.definitions();
        for (table, next) in sorted.iter().zip(sorted.iter().skip(1)) {
            if table.name == next.name {
                return Err(format!("table `{}` is listed twice", table.name));
            }
        }
        for table in &sorted {
            if table.group != Group::DEFAULT {
                return Err(format!(
                    "table `{}` is in group {}: the tables of a state machine belong to the default group",
                    table.name,
                    table.group.index()
                ));
            }
            if table.name.starts_with("raft_") || table.name.starts_with(STAGED_PREFIX) {
                return Err(format!(
                    "table name `{}` is reserved: choose one that starts with neither `raft_` nor `{STAGED_PREFIX}`",
                    table.name
                ));
            }
        }
        Ok(())
    }
}

/// What the names of the shadow tables start with in which an arriving snapshot is staged.
pub(crate) const STAGED_PREFIX: &str = "staged:";

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows;
    impl Table for Rows {
        const NAME: &'static str = "rows";
        type Key = u64;
        type Value = u64;
    }

    struct LogLike;
    impl Table for LogLike {
        const NAME: &'static str = "log_like";
        const GROUP: Group = Group::new(1);
        type Key = u64;
        type Value = u64;
    }

    #[test]
    fn tables_are_listed_by_name_whatever_the_order_of_registration() {
        let rows = TableDefinition::of::<Rows>();
        let set = TableSet::new()
            .with::<Rows>()
            .with_definition(rows.renamed("a"));
        let names: Vec<_> = set.definitions().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a", "rows"]);
        set.validate().expect("a good set");
    }

    #[test]
    fn a_table_set_that_would_collide_with_the_store_is_refused() {
        let rows = TableDefinition::of::<Rows>();
        for (set, word) in [
            (TableSet::new().with::<Rows>().with::<Rows>(), "twice"),
            (TableSet::new().with::<LogLike>(), "default group"),
            (
                TableSet::new().with_definition(rows.renamed("raft_state")),
                "reserved",
            ),
            (
                TableSet::new().with_definition(rows.renamed("staged:rows")),
                "reserved",
            ),
        ] {
            let reason = set.validate().expect_err("refused");
            assert!(reason.contains(word), "{reason}");
        }
    }
}
