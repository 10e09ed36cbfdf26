//! Applying log entries.
//!
//! Everything that an entry changes (rows, commitments, blocks, counters, sessions) is written in
//! the transaction that the caller commits. Nothing is kept in memory between entries, so a restart
//! or an installed snapshot changes nothing.
//!
//! An entry is applied in this order:
//!
//! 1. Entities whose time has come by the time of the entry are removed, the earliest first, at
//!    most [`ENTITIES_EXPIRED_PER_ENTRY`](crate::limits::ENTITIES_EXPIRED_PER_ENTRY).
//! 2. The commands are answered one after the other; each sees what the ones before it did.
//! 3. Each vault that was changed gets its new state root and one block, in the order of their
//!    numbers.
//! 4. Sessions that nobody used for too long are removed, the oldest first, at most
//!    [`SESSIONS_REMOVED_PER_ENTRY`](crate::limits::SESSIONS_REMOVED_PER_ENTRY).
//! 5. Rows of deleted vaults and past versions that no vault retains are removed, at most
//!    [`CLEANUP_PER_ENTRY`](crate::limits::CLEANUP_PER_ENTRY) and twice what the entry kept.

mod cleanup;
mod execute;
mod expire;
mod recorded;
mod seal;
mod sessions;
mod tables;
mod vaults;
mod versions;

use std::collections::BTreeMap;

use folio_raft::{Applied, ApplyError, StateMachine, TableSet};
use folio_store::{ReadTransaction, WriteTransaction};

use crate::command::{Action, Command, TokenKey, validate};
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::response::{Rejection, Response};
use crate::tables::VaultRow;
use sessions::Admission;
use tables::Tables;
pub use tables::replace_token_key;

pub(crate) use recorded::{CarriedOut, Expiry, Recorded, RecordedAction};

/// The state machine. It has no state of its own: everything is in the tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ledger;

impl Ledger {
    /// Carries out the commands of one log entry and answers each. A rejected command leaves
    /// nothing behind; an error is one of the store or of its contents, and then nothing of `txn`
    /// may be committed.
    pub fn apply_entry(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        commands: &[Command],
    ) -> Result<Vec<Response>> {
        let mut entry = Entry {
            at,
            tables: Tables::open(txn)?,
            vaults: BTreeMap::new(),
            kept: 0,
        };
        entry.expire_entities()?;
        let responses = commands
            .iter()
            .map(|command| entry.answer(command))
            .collect::<Result<_>>()?;
        entry.seal_blocks()?;
        entry.remove_unused_sessions()?;
        entry.clean_up()?;
        Ok(responses)
    }
}

impl StateMachine for Ledger {
    type Command = Command;
    type Response = Response;

    fn tables(&self) -> TableSet {
        crate::tables::all()
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        command: &Command,
    ) -> Result<Response, ApplyError> {
        let mut responses = self.apply_entry(txn, at, std::slice::from_ref(command))?;
        responses
            .pop()
            .ok_or_else(|| ApplyError::Fatal("a command was left without an answer".to_owned()))
    }

    fn answer(&self, view: &ReadTransaction, question: &[u8]) -> Result<Vec<u8>, String> {
        crate::agreement::answer(view, question)
    }

    fn apply_entry(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        commands: &[Command],
    ) -> Result<Vec<Response>, ApplyError> {
        Ok(Ledger::apply_entry(self, txn, at, commands)?)
    }
}

/// A log entry while it is being applied.
struct Entry<'t> {
    at: Applied,
    tables: Tables<'t>,
    /// The vaults that the entry has looked at, with what it has done to them so far.
    vaults: BTreeMap<u64, OpenVault>,
    /// The past versions that the entry has kept, in the units of the cleanup.
    kept: u64,
}

/// A vault while an entry is being applied to it.
struct OpenVault {
    /// As the last block left it, except for the counts, which follow the changes.
    row: VaultRow,
    /// The height of the block that is made of the entry.
    height: u64,
    /// What becomes of the items of the state: the new content hash by path, or nothing.
    changes: BTreeMap<Digest, Option<Digest>>,
    /// The records of the transactions carried out, in their canonical encoding.
    records: Vec<Vec<u8>>,
    /// The retention from the next entry on, if the entry sets it.
    retention: Option<u64>,
}

impl OpenVault {
    fn new(vault: u64, row: VaultRow) -> Result<Self> {
        Ok(OpenVault {
            height: following(row.height, || format!("the height of vault {vault}"))?,
            row,
            changes: BTreeMap::new(),
            records: Vec::new(),
            retention: None,
        })
    }
}

/// The number after `last`, which a sound ledger always has: nothing that is counted one by one comes to the end of the numbers.
fn following(last: u64, what: impl FnOnce() -> String) -> Result<u64> {
    let next = last.checked_add(1);
    next.ok_or_else(|| LedgerError::Inconsistent(format!("{} is {last}", what())))
}

impl Entry<'_> {
    fn answer(&mut self, command: &Command) -> Result<Response> {
        if let Err(invalid) = validate(command) {
            return Ok(Response::Rejected(Rejection::Invalid(invalid)));
        }
        let Some(place) = command.session else {
            return self.carry_out(command);
        };
        match self.admit(place)? {
            Admission::Answered(response) => Ok(response),
            Admission::New if command.action == Action::CloseSession => {
                self.close_session(place.session)?;
                Ok(Response::SessionClosed)
            }
            Admission::New => {
                let response = self.carry_out(command)?;
                self.remember(place, &response)?;
                Ok(response)
            }
        }
    }

    fn carry_out(&mut self, command: &Command) -> Result<Response> {
        match &command.action {
            Action::OpenSession => Ok(Response::SessionOpened {
                session: self.open_session()?,
            }),
            Action::CloseSession => Ok(Response::SessionClosed),
            Action::CreateVault { name, retention } => self.create_vault(name, *retention),
            Action::DeleteVault { vault } => self.delete_vault(*vault),
            Action::SetRetention { vault, retention } => self.set_retention(*vault, *retention),
            Action::AllocateNumbers { counter, count } => Ok(Response::NumbersAllocated {
                counter: *counter,
                first: self.take_numbers(counter.name(), (*count).into())?,
                count: *count,
            }),
            Action::Submit(transaction) => self.execute(transaction, command.session),
            Action::SetTokenKey(TokenKey(key)) => {
                if self.tables.token_keys.get(())?.is_none() {
                    self.tables.token_keys.insert((), *key)?;
                }
                Ok(Response::TokenKeySet)
            }
        }
    }

    /// Takes the next `count` numbers of a counter, and gives the first. Numbers start at 1 and are
    /// never given out twice.
    fn take_numbers(&mut self, counter: &'static str, count: u64) -> Result<u64> {
        let last = self.tables.counters.get(counter)?.unwrap_or(0);
        let new = last.checked_add(count).ok_or_else(|| {
            LedgerError::Inconsistent(format!("the counter of {counter} numbers is at its end"))
        })?;
        self.tables.counters.insert(counter, new)?;
        Ok(last + 1)
    }
}
