//! A replicated, provable ledger: vaults, entities, relationships, blocks, state roots.
//!
//! A **vault** is one ledger. It holds **entities** (a key, a value, a version, perhaps an expiry)
//! and **relationships** (a subject stands in a relation to a resource). It changes by
//! **transactions**: lists of operations that happen together or not at all, under conditions. Each
//! log entry that changes a vault adds a **block** to its chain. The header of a block commits to
//! the block's transactions, to all blocks before it, and, by the **state root**, to every entity
//! and relationship that is there.
//!
//! [`Ledger`] is the state machine: it implements [`folio_raft::StateMachine`], so that a
//! `ReplicatedDatabase<Ledger>` replicates it, and it can be given entries directly, as below and
//! as a replay does. [`LedgerView`] reads. [`verify`] checks what is stored against itself, and
//! [`proof`] lets a client check an answer with no more than a hash it trusts: such a client needs the crate
//! `folio-proof` only, whose modules are shown here too.
//!
//! ```
//! use folio_ledger::command::Command;
//! use folio_ledger::response::{Rejection, Response};
//! use folio_ledger::state_key::Relationship;
//! use folio_ledger::transaction::{Requirement, Transaction};
//! use folio_ledger::{Ledger, LedgerView, Order, RelationshipList};
//! use folio_raft::Applied;
//! use folio_store::Database;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Database::in_memory()?;
//! let txn = database.begin_write()?;
//!
//! // One log entry with three commands. In a cluster they come out of the Raft log.
//! let at = Applied { index: 1, term: 1, position: 0, time: 1_700_000_000_000_000 };
//! let rent = Transaction::new(1)
//!     .require_entity(b"car:1", Requirement::MustNotExist)
//!     .set(b"car:1", b"rented")
//!     .relate(Relationship::new("car:1", "renter", "user:7"));
//! let responses = Ledger.apply_entry(
//!     &txn,
//!     at,
//!     &[Command::create_vault("cars"), Command::submit(rent.clone()), Command::submit(rent)],
//! )?;
//! txn.commit()?;
//!
//! assert!(matches!(responses[0], Response::VaultCreated { vault: 1, .. }));
//! assert!(matches!(responses[1], Response::Committed(_)));
//! assert!(matches!(responses[2], Response::Rejected(Rejection::ConditionFailed { .. })));
//!
//! let view = database.begin_read()?;
//! let ledger = LedgerView::new(&view);
//! let car = ledger.entity(1, b"car:1")?.expect("it was set");
//! assert_eq!((car.version, &car.value[..]), (1, &b"rented"[..]));
//! let of_user = RelationshipList::OfSubject("user:7", None);
//! let page = ledger.relationships(1, of_user, Order::Forwards, None, 10)?;
//! assert_eq!(page.items, [Relationship::new("car:1", "renter", "user:7")]);
//!
//! // A client that trusts the state root needs to trust nothing else.
//! let root = ledger.block(1, 1)?.expect("the entry made it").state_root;
//! let proof = ledger.prove(1, &folio_ledger::state_key::StateKey::Entity(b"car:1".to_vec()))?;
//! proof.verify_entity(&root, b"car:1", &car)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Determinism
//!
//! The same log gives the same rows on every replica: numbers come from counters in the state, time
//! from the entry, and nothing is kept in memory between entries. The hashing is specified in
//! [`state_key`], [`commitment`], [`record`], [`block`] and [`merkle`], and fixed by test vectors
//! that a second implementation wrote (`tests/vectors` of `folio-proof`).

pub mod agreement;
mod apply;
pub mod command;
pub mod error;
mod history;
pub mod limits;
mod read;
pub mod replay;
pub mod response;
mod tables;
mod tree;
pub mod verify;

pub use apply::{Ledger, replace_token_key};
pub use folio_proof::{
    WireError, block, commitment, digest, document, merkle, prefix, proof, record, state_key,
    transaction,
};
pub use read::{
    EntityPage, FeedItem, FeedPosition, LedgerView, NotRetained, Order, Page, PageLimit,
    ParsePositionError, PastEntity, RelationshipList, VaultInfo,
};
