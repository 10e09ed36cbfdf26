//! The vault and what happens to it.
//!
//! Half of its items are entities with values of 100 bytes, half are relationships, and their names are in no order. Of
//! six operations two set entities that are there, one adds an entity and one removes one, one adds a relationship and one
//! removes one, so the vault keeps its size.

use std::ops::Range;

use folio_benches::scattered;
use folio_ledger::{
    state_key::{Relationship, StateKey},
    transaction::Transaction,
};

/// The vault, the first that a ledger makes.
pub const VAULT: u64 = 1;

/// How many relationships a resource has.
const SUBJECTS: u64 = 8;

/// The numbers of the items that are there, and a source of numbers.
#[derive(Clone)]
pub struct Load {
    entities: Range<u64>,
    relationships: Range<u64>,
    users: u64,
    drawn: u64,
}

impl Load {
    /// A vault that is to have so many items, and is empty yet.
    pub fn new(items: u64) -> Self {
        Self {
            entities: 0..0,
            relationships: 0..0,
            users: items / 10 + 1,
            drawn: 0,
        }
    }

    pub fn items(&self) -> u64 {
        self.entities.end - self.entities.start + self.relationships.end - self.relationships.start
    }

    /// A transaction that adds items.
    pub fn fill(&mut self, operations: u64) -> Transaction {
        (0..operations).fold(Transaction::new(VAULT), |transaction, number| {
            match number % 2 {
                0 => self.add_entity(transaction),
                _ => self.add_relationship(transaction),
            }
        })
    }

    /// A transaction that changes items.
    pub fn change(&mut self, operations: u64) -> Transaction {
        (0..operations).fold(Transaction::new(VAULT), |transaction, _| {
            self.drawn += 1;
            match self.drawn % 6 {
                0 => self.add_entity(transaction),
                1 => {
                    self.entities.start += 1;
                    transaction.delete(entity(self.entities.start - 1))
                }
                2 => self.add_relationship(transaction),
                3 => {
                    self.relationships.start += 1;
                    transaction.unrelate(self.relationship(self.relationships.start - 1))
                }
                _ => {
                    let number = self.some_entity();
                    transaction.set(entity(number), value(self.drawn))
                }
            }
        })
    }

    fn add_entity(&mut self, transaction: Transaction) -> Transaction {
        self.entities.end += 1;
        let number = self.entities.end - 1;
        transaction.set(entity(number), value(number))
    }

    fn add_relationship(&mut self, transaction: Transaction) -> Transaction {
        self.relationships.end += 1;
        transaction.relate(self.relationship(self.relationships.end - 1))
    }

    fn some_entity(&mut self) -> u64 {
        self.drawn += 6;
        let Range { start, end } = self.entities;
        start + scattered(self.drawn) % (end - start)
    }

    /// The key of some entity that is there.
    pub fn some_key(&mut self) -> Vec<u8> {
        entity(self.some_entity())
    }

    /// Some relationship that is there.
    pub fn some_relationship(&mut self) -> Relationship {
        self.drawn += 6;
        let Range { start, end } = self.relationships;
        self.relationship(start + scattered(self.drawn) % (end - start))
    }

    /// The name of some item: there, or, every fourth, not.
    pub fn some_item(&mut self) -> (StateKey, bool) {
        match self.drawn / 6 % 4 {
            0 => {
                self.drawn += 6;
                (StateKey::Entity(entity(u64::MAX - self.drawn)), false)
            }
            1 => (StateKey::Relationship(self.some_relationship()), true),
            _ => (StateKey::Entity(self.some_key()), true),
        }
    }

    fn relationship(&self, number: u64) -> Relationship {
        let relation = ["viewer", "editor", "owner", "member"][number as usize % 4];
        let subject = number.wrapping_mul(7919) % self.users;
        Relationship::new(
            format!("document:{:016x}", scattered(number / SUBJECTS)),
            relation,
            format!("user:{:016x}", scattered(subject)),
        )
    }
}

fn entity(number: u64) -> Vec<u8> {
    format!("account:{:016x}", scattered(number)).into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    scattered(number ^ 0x55).to_le_bytes().repeat(13)[..100].to_vec()
}
