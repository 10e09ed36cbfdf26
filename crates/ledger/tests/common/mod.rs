//! A ledger on a database in memory, and the state root computed a second way.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::{BTreeMap, BTreeSet};

use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::response::{Receipt, Rejection, Response};
use folio_ledger::state_key::{Entity, Relationship};
use folio_ledger::transaction::Transaction;
use folio_ledger::{Ledger, LedgerView, VaultInfo};
use folio_raft::{Applied, ApplyError, StateMachine};
use folio_store::{Database, ReadTransaction, TableDefinition};
use sha2::{Digest as _, Sha256};

/// The encoded keys and values of a table.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// A ledger to which a test plays the log.
pub struct Replica {
    pub database: Database,
    pub index: u64,
    pub time: u64,
}

impl Replica {
    pub fn new() -> Self {
        Replica {
            database: Database::in_memory().expect("in memory"),
            index: 0,
            time: 1_000_000,
        }
    }

    /// A replica with one vault, number 1.
    pub fn with_vault() -> Self {
        let mut replica = Replica::new();
        let response = replica.one(Command::create_vault("test"));
        assert_eq!(
            response,
            Response::VaultCreated {
                vault: 1,
                log_index: 1
            }
        );
        replica
    }

    /// Applies one log entry.
    pub fn entry(&mut self, commands: &[Command]) -> Vec<Response> {
        let responses = self.try_entry(commands).expect("the store is sound");
        assert_eq!(responses.len(), commands.len());
        responses
    }

    /// The same where the store may not be sound.
    pub fn try_entry(&mut self, commands: &[Command]) -> Result<Vec<Response>, ApplyError> {
        self.index += 1;
        self.time += 1000;
        let at = Applied {
            index: self.index,
            term: 1,
            position: 0,
            time: self.time,
        };
        let txn = self.database.begin_write().expect("in memory");
        let responses = Ledger.apply_entry(&txn, at, commands)?;
        txn.commit().expect("in memory");
        Ok(responses)
    }

    /// Applies one command as an entry of its own.
    pub fn one(&mut self, command: Command) -> Response {
        self.entry(std::slice::from_ref(&command)).remove(0)
    }

    /// Applies a transaction that must be accepted.
    pub fn commit(&mut self, transaction: Transaction) -> Receipt {
        match self.one(Command::submit(transaction)) {
            Response::Committed(receipt) => receipt,
            other => panic!("the transaction must be accepted: {other:?}"),
        }
    }

    /// Applies a transaction that must be rejected.
    pub fn reject(&mut self, transaction: Transaction) -> Rejection {
        match self.one(Command::submit(transaction)) {
            Response::Rejected(rejection) => rejection,
            other => panic!("the transaction must be rejected: {other:?}"),
        }
    }

    pub fn open_session(&mut self) -> u64 {
        match self.one(Command::open_session()) {
            Response::SessionOpened { session } => session,
            other => panic!("a session must open: {other:?}"),
        }
    }

    /// A replica with every row of every table of the ledger in a new database, as a snapshot makes
    /// it.
    pub fn copied(&self) -> Replica {
        let view = self.view();
        let database = Database::in_memory().expect("in memory");
        let txn = database.begin_write().expect("in memory");
        for table in Ledger.tables().definitions() {
            let mut to = txn.untyped(&table).expect("in memory");
            for (key, value) in rows_of(&view, &table) {
                to.insert(key.as_slice(), value.as_slice())
                    .expect("in memory");
            }
        }
        txn.commit().expect("in memory");
        Replica { database, ..*self }
    }

    pub fn view(&self) -> ReadTransaction {
        self.database.begin_read().expect("in memory")
    }

    pub fn vault(&self, vault: u64) -> VaultInfo {
        LedgerView::new(&self.view())
            .vault(vault)
            .expect("readable")
            .expect("the vault is there")
    }

    pub fn entity(&self, vault: u64, key: &[u8]) -> Option<Entity> {
        LedgerView::new(&self.view())
            .entity(vault, key)
            .expect("readable")
    }

    pub fn has(&self, vault: u64, relationship: &Relationship) -> bool {
        LedgerView::new(&self.view())
            .relationship_exists(vault, relationship)
            .expect("readable")
    }

    /// Every row of every table.
    pub fn rows(&self) -> BTreeMap<String, Rows> {
        let view = self.view();
        let tables = view.tables().expect("in memory");
        tables
            .iter()
            .map(|table| (table.name.clone(), rows_of(&view, table)))
            .collect()
    }

    /// Changes the rows of a table behind the ledger's back: `change` gets each key and value and
    /// returns what is to be stored instead, or `None` to remove the row. The rows that it leaves
    /// as they are stay.
    pub fn tamper(&self, table: &str, mut change: impl FnMut(&[u8], Vec<u8>) -> Option<Vec<u8>>) {
        let tables = self.view().tables().expect("in memory");
        let table = tables
            .iter()
            .find(|found| found.name == table)
            .expect("a table of the ledger");
        let rows = rows_of(&self.view(), table);
        let txn = self.database.begin_write().expect("in memory");
        {
            let mut rows_mut = txn.untyped(table).expect("in memory");
            for (key, value) in rows {
                match change(&key, value) {
                    Some(value) => drop(
                        rows_mut
                            .insert(key.as_slice(), value.as_slice())
                            .expect("in memory"),
                    ),
                    None => drop(rows_mut.remove(key.as_slice()).expect("in memory")),
                }
            }
        }
        txn.commit().expect("in memory");
    }

    /// Has the record of a vault, found by its name, say that its chain is as high as there are
    /// numbers.
    pub fn claim_the_greatest_height(&self, name: &str) {
        let mut found = 0;
        self.tamper("ledger_vaults", |_, mut row| {
            // The length of the name, the name, and then the height, seven bits to a byte.
            let height = 1 + name.len();
            if &row[1..height] == name.as_bytes() {
                let end = height + row[height..].iter().take_while(|&&b| b >= 0x80).count() + 1;
                let greatest = [[0xff; 9].as_slice(), &[1]].concat();
                row.splice(height..end, greatest);
                found += 1;
            }
            Some(row)
        });
        assert_eq!(found, 1, "vaults of this name");
    }
}

fn rows_of(view: &ReadTransaction, table: &TableDefinition) -> Rows {
    let rows = view.untyped(table).expect("in memory");
    rows.iter()
        .expect("in memory")
        .collect::<Result<_, _>>()
        .expect("in memory")
}

/// The contents of a vault, as the tests expect them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub entities: BTreeMap<Vec<u8>, Entity>,
    pub relationships: BTreeSet<Relationship>,
}

impl Contents {
    /// The state root, from the documentation alone: no function of the ledger is called.
    pub fn root(&self) -> Digest {
        let mut items = BTreeMap::new();
        for (key, entity) in &self.entities {
            let mut content = entity.version.to_be_bytes().to_vec();
            match entity.expires_at {
                None => content.push(0),
                Some(time) => {
                    content.push(1);
                    content.extend(time.to_be_bytes());
                }
            }
            content.extend(&entity.value);
            let path = sha256(&[&[2, 1], key]);
            items.insert(path, sha256(&[&[3], &content]));
        }
        for Relationship {
            resource,
            relation,
            subject,
        } in &self.relationships
        {
            let mut key = vec![2];
            for name in [resource, relation, subject] {
                key.extend(u32::try_from(name.len()).expect("short").to_be_bytes());
                key.extend(name.as_bytes());
            }
            items.insert(sha256(&[&[2], &key]), sha256(&[&[3]]));
        }
        let items: Vec<_> = items.into_iter().collect();
        Digest(subtree(&items, 0))
    }
}

type Hash = [u8; 32];

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn subtree(items: &[(Hash, Hash)], depth: usize) -> Hash {
    if items.is_empty() {
        return sha256(&[]);
    }
    if items.len() <= 8 {
        let mut leaf = vec![0];
        for (path, content) in items {
            leaf.extend(path);
            leaf.extend(content);
        }
        return sha256(&[&leaf]);
    }
    let is_left = |path: &Hash| path[depth / 8] >> (7 - depth % 8) & 1 == 0;
    let (left, right): (Vec<_>, Vec<_>) = items.iter().partition(|(path, _)| is_left(path));
    sha256(&[
        &[1],
        &subtree(&left, depth + 1),
        &subtree(&right, depth + 1),
    ])
}
