//! The same rows without state roots: what a ledger would do that hashes its transactions and blocks into a chain, and
//! nothing else.
//!
//! It writes the rows of the ledger's own tables, in the same order, and looks up what the ledger looks up. It does less
//! than the ledger also where roots have no part: it checks no limits, knows no sessions, and keeps nothing of
//! the past. So the price of roots comes out a little too high.

use std::collections::BTreeMap;

use folio_benches::scattered;
use folio_ledger::{
    block::{BlockHeader, transactions_root},
    digest::Digest,
    merkle::{Frontier, leaf_hash},
    record::{self, Origin, Outcome},
    state_key::{Entity, Relationship},
    transaction::{Operation, Transaction},
};
use folio_store::{Database, Durability, Group, Result, Table, TableDefinition, TableMut};

use super::load::VAULT;

macro_rules! tables {
    ($($name:ident: $title:literal, $key:ty => $value:ty;)*) => {
        $(
            struct $name;
            impl Table for $name {
                const NAME: &'static str = $title;
                type Key = $key;
                type Value = $value;
            }
        )*
    };
}

type Names = (u64, &'static str, &'static str, &'static str);

tables! {
    Entities: "ledger_entities", (u64, &'static [u8]) => &'static [u8];
    ByResource: "ledger_relationships_by_resource", Names => ();
    BySubject: "ledger_relationships_by_subject", Names => ();
    Blocks: "ledger_blocks", (u64, u64) => &'static [u8];
    Transactions: "ledger_transactions", (u64, u64, u32) => &'static [u8];
    History: "ledger_history", (u64, u8, u64) => [u8; 32];
    Ends: "bench_ends", u64 => [u8; 32];
}

/// A ledger whose blocks have no state root.
pub struct Unproved {
    database: Database,
    height: u64,
    previous: Digest,
    chain: Frontier,
}

impl Unproved {
    /// Goes on with the rows of a ledger, without its commitments.
    pub fn on(database: Database, height: u64) -> Result<Self> {
        let txn = database.begin_write()?;
        for table in txn.tables()? {
            if table.name.starts_with("ledger_state_") {
                txn.delete_table(&table)?;
            }
        }
        txn.commit()?;
        let mut chain = Frontier::new();
        for block in 0..=height {
            chain.append(Digest::of(&[&scattered(block).to_le_bytes()]));
        }
        Ok(Self {
            database,
            height,
            previous: Digest::ZERO,
            chain,
        })
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// How many entities and relationships there are.
    pub fn items(&self) -> Result<(u64, u64)> {
        let view = self.database.begin_read()?;
        Ok((
            view.table::<Entities>()?.len()?,
            view.table::<ByResource>()?.len()?,
        ))
    }

    /// What a log entry with one transaction does.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<()> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        {
            let mut entities = txn.table::<Entities>()?;
            let mut relationships = (txn.table()?, txn.table()?);
            // As the ledger does: first what is there, then the changes in the order of the keys.
            let mut set = BTreeMap::new();
            let mut related = BTreeMap::new();
            let mut outcomes = Vec::new();
            for operation in &transaction.operations {
                outcomes.push(match operation {
                    Operation::SetEntity { key, value, .. } => {
                        let version = version(&entities, key)?;
                        set.insert(&key[..], (version, Some(value)));
                        match version {
                            0 => Outcome::EntityCreated,
                            _ => Outcome::EntityUpdated {
                                version: version + 1,
                            },
                        }
                    }
                    Operation::DeleteEntity { key } => {
                        let version = version(&entities, key)?;
                        set.insert(&key[..], (version, None));
                        Outcome::EntityDeleted { version }
                    }
                    Operation::CreateRelationship(relationship) => {
                        let before = exists(&relationships.0, relationship)?;
                        related.insert(relationship, (before, true));
                        Outcome::RelationshipCreated
                    }
                    Operation::DeleteRelationship(relationship) => {
                        let before = exists(&relationships.0, relationship)?;
                        related.insert(relationship, (before, false));
                        Outcome::RelationshipDeleted
                    }
                });
            }
            for (key, (version, value)) in set {
                match value {
                    Some(value) => {
                        let entity = Entity {
                            version: version + 1,
                            expires_at: None,
                            value: value.clone(),
                        };
                        entities.insert((VAULT, key), &entity.encode()[..])?;
                    }
                    None => drop(entities.remove((VAULT, key))?),
                }
            }
            for (relationship, (before, after)) in related {
                if before != after {
                    relate(&mut relationships, relationship, after)?;
                }
            }
            self.height += 1;
            let encoded = record::encode(Origin::Client, transaction, &outcomes);
            txn.table::<Transactions>()?
                .insert((VAULT, self.height, 0), &encoded[..])?;
            let header = BlockHeader {
                vault: VAULT,
                height: self.height,
                log_index: self.height,
                log_term: 1,
                time: 0,
                previous: self.previous,
                history_root: self.chain.root(),
                transactions: 1,
                transactions_root: transactions_root([&encoded[..]]),
                entities: 0,
                relationships: 0,
                state_root: Digest::ZERO,
            };
            let header = header.encode();
            self.previous = leaf_hash(&header);
            txn.table::<Blocks>()?
                .insert((VAULT, self.height), &header[..])?;
            let mut history = txn.table::<History>()?;
            for (level, index, subtree) in self.chain.append(self.previous) {
                history.insert((VAULT, level, index), subtree.0)?;
            }
            txn.table::<Ends>()?.insert(VAULT, self.previous.0)?;
        }
        txn.commit()?;
        Ok(())
    }
}

fn version(entities: &TableMut<'_, Entities>, key: &[u8]) -> Result<u64> {
    let row = entities.get_stored((VAULT, key))?;
    let version = row.as_ref().and_then(|row| row.bytes().first_chunk());
    Ok(version.map_or(0, |&version| u64::from_be_bytes(version)))
}

fn exists(by_resource: &TableMut<'_, ByResource>, relationship: &Relationship) -> Result<bool> {
    let Relationship {
        resource,
        relation,
        subject,
    } = relationship;
    by_resource.contains_key((VAULT, &resource[..], &relation[..], &subject[..]))
}

fn relate(
    tables: &mut (TableMut<'_, ByResource>, TableMut<'_, BySubject>),
    relationship: &Relationship,
    exists: bool,
) -> Result<()> {
    let Relationship {
        resource,
        relation,
        subject,
    } = relationship;
    let by_resource = (VAULT, &resource[..], &relation[..], &subject[..]);
    let by_subject = (VAULT, &subject[..], &relation[..], &resource[..]);
    if exists {
        tables.0.insert(by_resource, ())?;
        tables.1.insert(by_subject, ())?;
    } else {
        tables.0.remove(by_resource)?;
        tables.1.remove(by_subject)?;
    }
    Ok(())
}

/// The rows and bytes of the tables that hold the commitments.
pub fn commitments(database: &Database) -> Result<(u64, u64)> {
    let view = database.begin_read()?;
    let mut sum = (0, 0);
    for table in view.tables()? {
        let TableDefinition { name, group, .. } = &table;
        if name.starts_with("ledger_state_") && *group == Group::DEFAULT {
            let statistics = view.untyped(&table)?.statistics()?;
            sum = (sum.0 + statistics.rows, sum.1 + statistics.bytes());
        }
    }
    Ok(sum)
}
