//! Commands: what goes into the log.

use serde::{Deserialize, Serialize};

use crate::limits::{
    MAX_CONDITIONS, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_OPERATIONS, MAX_RELATION_BYTES,
    MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, MAX_VAULT_NAME_BYTES,
};
use crate::state_key::{Relationship, StateKey};
use crate::tables::counter;
use crate::transaction::{Condition, Operation, Requirement, SessionSequence, Transaction};

/// One command of a log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The place of the command in its client's session. Without one, a retry may do the work
    /// twice.
    pub session: Option<SessionSequence>,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Opens a session. Opening takes no session itself: a retry opens another, and the unused one
    /// expires.
    OpenSession,
    /// Ends the session that the command is sent in, and frees what was remembered for it.
    CloseSession,
    /// Creates a vault.
    CreateVault {
        /// What people call it. A label: names need not differ, and no hash commits to them. The
        /// vault's number identifies it.
        name: String,
        /// How many blocks back its entities can be read; 0 for the present only. Keeping past
        /// versions costs two rows for each entity that a block changes.
        retention: u64,
    },
    /// Deletes a vault with everything in it, its blocks as well. It is gone at once, for reads and
    /// for commands; its rows are removed little by little with the entries that follow. Its number
    /// is never given to another vault.
    DeleteVault {
        /// The vault.
        vault: u64,
    },
    /// Sets how many blocks back the entities of a vault can be read. What was not kept before does
    /// not come back, and what is kept for no longer is removed. Adds no block.
    SetRetention {
        /// The vault.
        vault: u64,
        /// The number of blocks; 0 for the present only.
        retention: u64,
    },
    /// Takes numbers that nobody else gets.
    AllocateNumbers {
        /// What is to be numbered.
        counter: Counter,
        /// How many numbers, at least one.
        count: u32,
    },
    /// Carries out a transaction.
    Submit(Transaction),
    /// Gives the ledger the key that page tokens are made with, unless it has one.
    SetTokenKey(TokenKey),
}

/// A secret of 32 random bytes, with which page tokens are made and recognized. It is part of the
/// state, so a token is good at every node. Who proposes it draws it: applying an entry draws nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey(pub [u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// What clients number with the ledger's counters. Vaults and sessions are numbered when they are
/// created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Organizations.
    Organization,
    /// Users.
    User,
    /// Nodes of the cluster that keeps the ledger.
    Node,
}

impl Counter {
    /// The name of its row.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Counter::Organization => counter::ORGANIZATION,
            Counter::User => counter::USER,
            Counter::Node => counter::NODE,
        }
    }
}

impl Action {
    /// The vault that it is about, if it is about one that is to be there.
    pub fn vault(&self) -> Option<u64> {
        match self {
            Action::Submit(transaction) => Some(transaction.vault),
            Action::DeleteVault { vault } | Action::SetRetention { vault, .. } => Some(*vault),
            Action::OpenSession
            | Action::CloseSession
            | Action::CreateVault { .. }
            | Action::AllocateNumbers { .. }
            | Action::SetTokenKey(_) => None,
        }
    }
}

impl Command {
    /// A command outside any session.
    pub fn new(action: Action) -> Self {
        Command {
            session: None,
            action,
        }
    }

    /// Opens a session.
    pub fn open_session() -> Self {
        Command::new(Action::OpenSession)
    }

    /// Ends a session. `sequence` is one that the session has not used yet.
    pub fn close_session(session: u64, sequence: u64) -> Self {
        Command::new(Action::CloseSession).in_session(session, sequence)
    }

    /// Creates a vault that keeps no past versions.
    pub fn create_vault(name: impl Into<String>) -> Self {
        Command::create_vault_retaining(name, 0)
    }

    /// Creates a vault whose entities can be read as of the last `retention` blocks.
    pub fn create_vault_retaining(name: impl Into<String>, retention: u64) -> Self {
        let name = name.into();
        Command::new(Action::CreateVault { name, retention })
    }

    /// Deletes a vault.
    pub fn delete_vault(vault: u64) -> Self {
        Command::new(Action::DeleteVault { vault })
    }

    /// Sets how many blocks back the entities of a vault can be read.
    pub fn set_retention(vault: u64, retention: u64) -> Self {
        Command::new(Action::SetRetention { vault, retention })
    }

    /// Takes numbers that nobody else gets.
    pub fn allocate_numbers(counter: Counter, count: u32) -> Self {
        Command::new(Action::AllocateNumbers { counter, count })
    }

    /// Carries out a transaction.
    pub fn submit(transaction: Transaction) -> Self {
        Command::new(Action::Submit(transaction))
    }

    /// Gives the ledger the key that page tokens are made with, unless it has one.
    pub fn set_token_key(key: TokenKey) -> Self {
        Command::new(Action::SetTokenKey(key))
    }

    /// The same command in a session, where a retry with the same sequence number gets the first
    /// answer.
    pub fn in_session(mut self, session: u64, sequence: u64) -> Self {
        self.session = Some(SessionSequence { session, sequence });
        self
    }
}

/// A command that no state could accept: it breaks a limit or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// A key, name or value that is longer than allowed.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Which one.
        what: Part,
        /// Its length in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A key or name that is empty.
    #[error("{0} is empty")]
    Empty(Part),
    /// A name with a control character.
    #[error("{0} has a control character")]
    ControlCharacter(Part),
    /// A transaction without operations.
    #[error("a transaction needs at least one operation")]
    NoOperations,
    /// More operations or conditions than allowed.
    #[error("a transaction with {count} {what}, the limit is {limit}")]
    TooMany {
        /// Which one.
        what: Part,
        /// How many there are.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// A condition that asks for a version or value of a relationship, which has neither.
    #[error(
        "condition {condition} asks for the version or value of a relationship: a relationship has neither"
    )]
    RelationshipContent {
        /// Its place among the conditions, from 0.
        condition: u32,
    },
    /// An allocation of no numbers.
    #[error("an allocation is of at least one number")]
    NoNumbers,
    /// Sequence number 0.
    #[error("sequence numbers count from 1")]
    SequenceZero,
    /// `OpenSession` in a session.
    #[error("opening a session takes no session")]
    SessionToOpen,
    /// `CloseSession` outside a session.
    #[error("closing a session takes the session to close")]
    NoSessionToClose,
}

/// The part of a command that a complaint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant displays what it is")]
pub enum Part {
    Key,
    Value,
    Resource,
    Relation,
    Subject,
    VaultName,
    Operations,
    Conditions,
    Transaction,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Key => "the key of an entity",
            Part::Value => "the value of an entity",
            Part::Resource => "the resource of a relationship",
            Part::Relation => "the relation of a relationship",
            Part::Subject => "the subject of a relationship",
            Part::VaultName => "the name of a vault",
            Part::Operations => "operations",
            Part::Conditions => "conditions",
            Part::Transaction => "the encoded transaction",
        })
    }
}

/// Checks everything about a command that does not depend on the state. A node calls this before it
/// proposes, so that what cannot succeed never enters the log; the ledger calls it again when it
/// applies, because the log may hold what another node let through.
pub fn validate(command: &Command) -> Result<(), Invalid> {
    if command.session.is_some_and(|session| session.sequence == 0) {
        return Err(Invalid::SequenceZero);
    }
    match &command.action {
        Action::OpenSession if command.session.is_some() => Err(Invalid::SessionToOpen),
        Action::CloseSession if command.session.is_none() => Err(Invalid::NoSessionToClose),
        Action::AllocateNumbers { count: 0, .. } => Err(Invalid::NoNumbers),
        Action::OpenSession
        | Action::CloseSession
        | Action::DeleteVault { .. }
        | Action::SetRetention { .. }
        | Action::AllocateNumbers { .. }
        | Action::SetTokenKey(_) => Ok(()),
        Action::CreateVault { name, .. } => {
            check_length(Part::VaultName, name.len(), MAX_VAULT_NAME_BYTES)?;
            check_characters(Part::VaultName, name)
        }
        Action::Submit(transaction) => validate_transaction(transaction),
    }
}

fn validate_transaction(transaction: &Transaction) -> Result<(), Invalid> {
    if transaction.operations.is_empty() {
        return Err(Invalid::NoOperations);
    }
    check_count(
        Part::Operations,
        transaction.operations.len(),
        MAX_OPERATIONS,
    )?;
    check_count(
        Part::Conditions,
        transaction.conditions.len(),
        MAX_CONDITIONS,
    )?;
    for (
        place,
        Condition {
            target,
            requirement,
        },
    ) in (0_u32..).zip(&transaction.conditions)
    {
        match target {
            StateKey::Entity(key) => check_key(key)?,
            StateKey::Relationship(relationship) => check_relationship(relationship)?,
        }
        match (target, requirement) {
            (StateKey::Relationship(_), Requirement::VersionIs(_) | Requirement::ValueIs(_)) => {
                return Err(Invalid::RelationshipContent { condition: place });
            }
            (_, Requirement::ValueIs(value)) => {
                check_length(Part::Value, value.len(), MAX_VALUE_BYTES)?
            }
            _ => {}
        }
    }
    for operation in &transaction.operations {
        match operation {
            Operation::SetEntity { key, value, .. } => {
                check_key(key)?;
                check_length(Part::Value, value.len(), MAX_VALUE_BYTES)?;
            }
            Operation::DeleteEntity { key } => check_key(key)?,
            Operation::CreateRelationship(relationship)
            | Operation::DeleteRelationship(relationship) => {
                check_relationship(relationship)?;
            }
        }
    }
    check_length(
        Part::Transaction,
        transaction.encoded_length(),
        MAX_TRANSACTION_BYTES,
    )
}

fn check_key(key: &[u8]) -> Result<(), Invalid> {
    if key.is_empty() {
        return Err(Invalid::Empty(Part::Key));
    }
    check_length(Part::Key, key.len(), MAX_KEY_BYTES)
}

fn check_relationship(relationship: &Relationship) -> Result<(), Invalid> {
    let Relationship {
        resource,
        relation,
        subject,
    } = relationship;
    for (part, name, limit) in [
        (Part::Resource, resource, MAX_NAME_BYTES),
        (Part::Relation, relation, MAX_RELATION_BYTES),
        (Part::Subject, subject, MAX_NAME_BYTES),
    ] {
        if name.is_empty() {
            return Err(Invalid::Empty(part));
        }
        check_length(part, name.len(), limit)?;
        check_characters(part, name)?;
    }
    Ok(())
}

fn check_length(what: Part, bytes: usize, limit: usize) -> Result<(), Invalid> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Invalid::TooLong {
        what,
        bytes: bytes as u64,
        limit: limit as u64,
    })
}

fn check_count(what: Part, count: usize, limit: usize) -> Result<(), Invalid> {
    if count <= limit {
        return Ok(());
    }
    Err(Invalid::TooMany {
        what,
        count: count as u64,
        limit: limit as u64,
    })
}

fn check_characters(what: Part, name: &str) -> Result<(), Invalid> {
    // Unicode promises that the control characters stay the same 65, so every build of the ledger
    // decides alike.
    if name.chars().any(char::is_control) {
        Err(Invalid::ControlCharacter(what))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Origin};
    use crate::response::Outcome;

    fn submit(transaction: Transaction) -> Result<(), Invalid> {
        validate(&Command::submit(transaction))
    }

    fn relate(resource: &str, relation: &str, subject: &str) -> Result<(), Invalid> {
        submit(Transaction::new(1).relate(Relationship::new(resource, relation, subject)))
    }

    #[test]
    fn keys_and_values_up_to_the_limit_are_accepted_and_longer_ones_are_not() {
        assert_eq!(
            submit(Transaction::new(1).set([0; 256], vec![0; 1 << 20])),
            Ok(())
        );
        assert_eq!(submit(Transaction::new(1).set([1], [])), Ok(()));
        assert_eq!(
            submit(Transaction::new(1).delete([])),
            Err(Invalid::Empty(Part::Key))
        );
        assert_eq!(
            submit(Transaction::new(1).set([0; 257], [])),
            Err(Invalid::TooLong {
                what: Part::Key,
                bytes: 257,
                limit: 256
            })
        );
        assert_eq!(
            submit(Transaction::new(1).set([0], vec![0; (1 << 20) + 1])),
            Err(Invalid::TooLong {
                what: Part::Value,
                bytes: (1 << 20) + 1,
                limit: 1 << 20
            })
        );
    }

    #[test]
    fn names_have_limits_and_no_control_characters() {
        assert_eq!(
            relate(&"r".repeat(255), &"l".repeat(64), &"ü".repeat(127)),
            Ok(())
        );
        assert_eq!(relate("", "l", "s"), Err(Invalid::Empty(Part::Resource)));
        assert_eq!(relate("r", "", "s"), Err(Invalid::Empty(Part::Relation)));
        assert_eq!(relate("r", "l", ""), Err(Invalid::Empty(Part::Subject)));
        assert_eq!(
            relate("r", "l\0", "s"),
            Err(Invalid::ControlCharacter(Part::Relation))
        );
        assert!(matches!(
            relate("r", &"l".repeat(65), "s"),
            Err(Invalid::TooLong {
                what: Part::Relation,
                ..
            })
        ));
        assert!(matches!(
            relate("r", "l", &"ü".repeat(128)),
            Err(Invalid::TooLong {
                what: Part::Subject,
                ..
            })
        ));
    }

    #[test]
    fn a_transaction_has_operations_and_not_too_many() {
        assert_eq!(submit(Transaction::new(1)), Err(Invalid::NoOperations));
        let many = |count| {
            (0..count).fold(Transaction::new(1), |transaction, _| {
                transaction.delete([1])
            })
        };
        assert_eq!(submit(many(1024)), Ok(()));
        assert_eq!(
            submit(many(1025)),
            Err(Invalid::TooMany {
                what: Part::Operations,
                count: 1025,
                limit: 1024
            })
        );
        let conditions = |count| {
            let start = Transaction::new(1).delete([1]);
            (0..count).fold(start, |transaction, _| {
                transaction.require_entity([1], Requirement::MustExist)
            })
        };
        assert_eq!(submit(conditions(1024)), Ok(()));
        assert!(matches!(
            submit(conditions(1025)),
            Err(Invalid::TooMany {
                what: Part::Conditions,
                ..
            })
        ));
    }

    #[test]
    fn the_size_of_a_whole_transaction_is_limited() {
        let with =
            |count: u8| (0..count).fold(Transaction::new(1), |t, i| t.set([i], vec![0; 1 << 20]));
        assert_eq!(submit(with(3)), Ok(()));
        assert!(matches!(
            submit(with(4)),
            Err(Invalid::TooLong {
                what: Part::Transaction,
                ..
            })
        ));
    }

    #[test]
    fn a_relationship_has_no_version_to_ask_for() {
        let transaction = Transaction::new(1)
            .require_entity([1], Requirement::MustExist)
            .require_relationship(Relationship::new("r", "l", "s"), Requirement::VersionIs(1))
            .delete([1]);
        assert_eq!(
            submit(transaction),
            Err(Invalid::RelationshipContent { condition: 1 })
        );
    }

    #[test]
    fn sessions_are_used_where_they_make_sense() {
        assert_eq!(validate(&Command::open_session()), Ok(()));
        assert_eq!(
            validate(&Command::open_session().in_session(1, 1)),
            Err(Invalid::SessionToOpen)
        );
        assert_eq!(validate(&Command::close_session(1, 1)), Ok(()));
        assert_eq!(
            validate(&Command::new(Action::CloseSession)),
            Err(Invalid::NoSessionToClose)
        );
        assert_eq!(
            validate(&Command::create_vault("v").in_session(1, 0)),
            Err(Invalid::SequenceZero)
        );
    }

    #[test]
    fn the_computed_length_is_that_of_the_encoding() {
        let relationship = Relationship::new("r", "lo", "sub");
        let transaction = Transaction::new(1)
            .require_entity([1], Requirement::MustExist)
            .require_entity([1, 2], Requirement::VersionIs(3))
            .require_entity([1], Requirement::ValueIs(vec![1, 2, 3]))
            .require_relationship(relationship.clone(), Requirement::MustNotExist)
            .set([1], [2, 3])
            .set_until([1], [2, 3], 5)
            .delete([9, 9])
            .relate(relationship.clone())
            .unrelate(relationship);
        let place = SessionSequence {
            session: 1,
            sequence: 1,
        };
        let none = vec![Outcome::Unchanged; transaction.operations.len()];
        for (origin, allowance) in [(Origin::Client, 16), (Origin::Session(place), 0)] {
            // The length allows for a session, so that the limit is the same with and without one.
            let encoded = record::encode(origin, &transaction, &none).len();
            assert_eq!(
                transaction.encoded_length(),
                encoded - none.len() + allowance
            );
        }
    }
}
