//! The replicated state: registers and accounts, and a row for every command that was carried out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use folio_raft::{Applied, ApplyError, NodeId, StateMachine, TableSet};
use folio_store::{Postcard, ReadTransaction, Result, Table, WriteTransaction};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::world::World;

/// The registers are numbered from 0.
pub const REGISTERS: u64 = 6;
/// The accounts are numbered from 0.
pub const ACCOUNTS: u64 = 5;
/// What an account holds before the first transfer.
pub const DEPOSIT: u64 = 100;

/// What a client asks for. The number is given to no other command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its number, which is also what it writes.
    pub number: u64,
    /// What is to be done.
    pub action: Action,
    /// Makes entries of different lengths.
    pub padding: Padding,
}

/// Bytes of no meaning.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Padding(pub Vec<u8>);

impl fmt::Debug for Padding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// What a [`Command`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Writes the number of the command into a register.
    Write {
        /// The register.
        register: u64,
    },
    /// Does so if the register holds what is expected.
    Swap {
        /// The register.
        register: u64,
        /// What it has to hold.
        expected: u64,
    },
    /// Moves an amount between accounts, if it is there.
    Transfer {
        /// The account that pays.
        from: u64,
        /// The one that is paid.
        to: u64,
        /// How much.
        amount: u64,
    },
}

/// Where a command stands in the log: index of the entry, and position in it.
pub type Place = (u64, u32);

/// What the state machine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Where the command was carried out.
    pub place: Place,
    /// Whether it changed anything.
    pub done: bool,
    /// What the register, or the account that pays, held before.
    pub before: u64,
}

/// The state as a map: the model that the tables are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Registers that were written.
    pub registers: BTreeMap<u64, u64>,
    /// Accounts that took part in a transfer.
    pub accounts: BTreeMap<u64, u64>,
}

impl Contents {
    /// Carries out a command.
    pub fn apply(&mut self, place: Place, command: &Command) -> Answer {
        let (done, before) = match command.action {
            Action::Write { register } => {
                let before = self.registers.insert(register, command.number);
                (true, before.unwrap_or(0))
            }
            Action::Swap { register, expected } => {
                let before = self.registers.get(&register).copied().unwrap_or(0);
                if before == expected {
                    self.registers.insert(register, command.number);
                }
                (before == expected, before)
            }
            Action::Transfer { from, to, amount } => {
                let before = *self.accounts.entry(from).or_insert(DEPOSIT);
                self.accounts.entry(to).or_insert(DEPOSIT);
                if before >= amount {
                    *self.accounts.entry(from).or_default() -= amount;
                    *self.accounts.entry(to).or_default() += amount;
                }
                (before >= amount, before)
            }
        };
        Answer {
            place,
            done,
            before,
        }
    }

    /// The sum over all accounts.
    #[must_use]
    pub fn total(&self) -> u64 {
        let balance = |account| self.accounts.get(&account).copied().unwrap_or(DEPOSIT);
        (0..ACCOUNTS).map(balance).sum()
    }
}

struct Registers;
impl Table for Registers {
    const NAME: &'static str = "registers";
    type Key = u64;
    type Value = u64;
}

struct Accounts;
impl Table for Accounts {
    const NAME: &'static str = "accounts";
    type Key = u64;
    type Value = u64;
}

/// Every command that was carried out.
struct Commands;
impl Table for Commands {
    const NAME: &'static str = "commands";
    type Key = u64;
    type Value = Postcard<Answer>;
}

struct Progress;
impl Table for Progress {
    const NAME: &'static str = "progress";
    type Key = ();
    type Value = Postcard<ProgressRecord>;
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct ProgressRecord {
    /// Where the last command stood.
    last: Place,
    /// How many there were.
    commands: u64,
    /// Over all of them, their places and their times.
    digest: u64,
    /// The time of the last entry.
    time: u64,
}

/// What a view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last command that it has.
    pub last: Place,
    /// What it holds.
    pub contents: Contents,
}

impl Seen {
    /// Reads registers and accounts.
    pub fn of(view: &ReadTransaction) -> Result<Self> {
        Ok(Self {
            last: progress(view)?.last,
            contents: Contents {
                registers: rows::<Registers>(view)?,
                accounts: rows::<Accounts>(view)?,
            },
        })
    }
}

fn rows<T: for<'a> Table<Key = u64, Value = u64>>(
    view: &ReadTransaction,
) -> Result<BTreeMap<u64, u64>> {
    view.table::<T>()?.iter()?.collect()
}

fn progress(view: &ReadTransaction) -> Result<ProgressRecord> {
    Ok(view.table::<Progress>()?.get(&())?.unwrap_or_default())
}

/// Every row of every table, as bytes.
pub type Everything = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// Reads all rows of the state.
pub fn everything(view: &ReadTransaction) -> Result<Everything> {
    tables()
        .definitions()
        .into_iter()
        .map(|table| {
            let rows = view.untyped(&table)?.iter()?.collect::<Result<_>>()?;
            Ok((table.name, rows))
        })
        .collect()
}

/// The commands that were carried out, and their answers.
pub fn commands(view: &ReadTransaction) -> Result<BTreeMap<u64, Answer>> {
    view.table::<Commands>()?.iter()?.collect()
}

fn tables() -> TableSet {
    TableSet::new()
        .with::<Registers>()
        .with::<Accounts>()
        .with::<Commands>()
        .with::<Progress>()
}

/// What every replica held after every entry: the first one to apply an entry says what all others must find.
#[derive(Debug, Default)]
pub struct Replicas {
    states: Mutex<BTreeMap<u64, u64>>,
}

impl Replicas {
    /// Entries that were applied.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.states.lock().len() as u64
    }
}

/// The state machine of one node, from a start to its end.
pub struct Bank {
    /// The node.
    pub node: NodeId,
    /// Where what is wrong is told.
    pub world: Arc<World>,
    /// What the replicas are compared by.
    pub replicas: Arc<Replicas>,
}

impl Bank {
    fn carry_out(&self, txn: &WriteTransaction, at: Applied, command: &Command) -> Result<Answer> {
        let place = (at.index, at.position);
        let mut registers = txn.table::<Registers>()?;
        let mut accounts = txn.table::<Accounts>()?;
        let (done, before) = match command.action {
            Action::Write { register } => {
                let before = registers.get(&register)?.unwrap_or(0);
                registers.insert(&register, &command.number)?;
                (true, before)
            }
            Action::Swap { register, expected } => {
                let before = registers.get(&register)?.unwrap_or(0);
                if before == expected {
                    registers.insert(&register, &command.number)?;
                }
                (before == expected, before)
            }
            Action::Transfer { from, to, amount } => {
                let before = accounts.get(&from)?.unwrap_or(DEPOSIT);
                let other = accounts.get(&to)?.unwrap_or(DEPOSIT);
                let moved = if before >= amount && from != to {
                    amount
                } else {
                    0
                };
                accounts.insert(&from, &(before - moved))?;
                if from != to {
                    accounts.insert(&to, &(other + moved))?;
                }
                (before >= amount, before)
            }
        };
        let answer = Answer {
            place,
            done,
            before,
        };
        let mut commands = txn.table::<Commands>()?;
        let earlier = commands.get(&command.number)?;
        commands.insert(&command.number, &answer)?;
        if let Some(earlier) = earlier {
            self.world.violate(format!(
                "node {} carried out command {} at {:?} and again at {place:?}",
                self.node, command.number, earlier.place
            ));
        }
        Ok(answer)
    }

    /// Compares the state after entry `index` with what other replicas found there.
    fn compare(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        answers: &[Answer],
        commands: &[Command],
    ) -> Result<()> {
        let mut progress = txn.table::<Progress>()?.get(&())?.unwrap_or_default();
        if at.time < progress.time {
            self.world.violate(format!(
                "time ran backwards at entry {}: {} after {}",
                at.index, at.time, progress.time
            ));
        }
        let length = commands.len() as u64;
        let last = u32::try_from(length).unwrap_or(u32::MAX).saturating_sub(1);
        let entry = (
            progress.digest,
            at.index,
            at.term,
            at.time,
            answers,
            commands,
        );
        progress = ProgressRecord {
            last: (at.index, last),
            commands: progress.commands + length,
            digest: digest(&entry),
            time: at.time,
        };
        txn.table::<Progress>()?.insert(&(), &progress)?;
        let registers: Vec<_> = txn.table::<Registers>()?.iter()?.collect::<Result<_>>()?;
        let accounts: Vec<_> = txn.table::<Accounts>()?.iter()?.collect::<Result<_>>()?;
        let rows = txn.table::<Commands>()?.len()?;
        let found = digest(&(progress, registers, accounts, rows));
        let expected = *self.replicas.states.lock().entry(at.index).or_insert(found);
        if rows != progress.commands {
            self.world.violate(format!(
                "node {} has {rows} rows for {} commands after entry {}",
                self.node, progress.commands, at.index
            ));
        }
        if found != expected {
            self.world.violate(format!(
                "node {} differs from another replica after entry {}",
                self.node, at.index
            ));
        }
        self.world.note(format_args!(
            "{} applied {} {found:016x}",
            self.node, at.index
        ));
        Ok(())
    }
}

fn digest(value: &impl std::fmt::Debug) -> u64 {
    xxh3_64(format!("{value:?}").as_bytes())
}

impl StateMachine for Bank {
    type Command = Command;
    type Response = Answer;

    fn tables(&self) -> TableSet {
        tables()
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        command: &Command,
    ) -> std::result::Result<Answer, ApplyError> {
        Ok(self.carry_out(txn, at, command)?)
    }

    fn apply_entry(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        commands: &[Command],
    ) -> std::result::Result<Vec<Answer>, ApplyError> {
        let answers = (0u32..)
            .zip(commands)
            .map(|(position, command)| self.apply(txn, Applied { position, ..at }, command))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        self.compare(txn, at, &answers, commands)?;
        Ok(answers)
    }
}
