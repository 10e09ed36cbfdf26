//! The JSON of the API.
//!
//! Keys and values are bytes. Bytes that are UTF-8 appear as a string, others as `{"base64": "..."}`; requests may use
//! either form.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use folio_ledger::PastEntity;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::{Command, Counter};
use folio_ledger::digest::Digest;
use folio_ledger::record::{Origin, Record};
use folio_ledger::response::{Outcome, Receipt};
use folio_ledger::state_key::{Entity, Relationship, StateKey};
use folio_ledger::transaction::{Condition, Operation, Requirement, SessionSequence, Transaction};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or {\"base64\": \"...\"}")]
enum TextOrBase64 {
    Text(String),
    Base64(Base64),
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Base64 {
                base64: BASE64_STANDARD.encode(&self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOrBase64::deserialize(deserializer)? {
            TextOrBase64::Text(text) => Ok(Bytes(text.into_bytes())),
            TextOrBase64::Base64(Base64 { base64 }) => {
                let decoded = BASE64_STANDARD.decode(base64);
                decoded
                    .map(Bytes)
                    .map_err(|error| D::Error::custom(format!("not base64: {error}")))
            }
        }
    }
}

/// Body of `POST /v1/vaults`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVault {
    /// What people call it.
    pub name: String,
    /// How many blocks back its entities can be read.
    #[serde(default)]
    pub retention: u64,
    /// The place in the client's session, if the request is to be repeatable.
    pub session: Option<Session>,
}

/// Body of `PATCH /v1/vaults/{vault}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultChange {
    /// How many blocks back its entities can be read from now on.
    pub retention: u64,
    /// The place in the client's session, if the request is to be repeatable.
    pub session: Option<Session>,
}

/// Body of `POST /v1/numbers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewNumbers {
    /// What is to be numbered: `"organization"` or `"user"`.
    pub counter: Counter,
    /// How many numbers.
    #[serde(default = "one")]
    pub count: u32,
    /// The place in the client's session, if the request is to be repeatable.
    pub session: Option<Session>,
}

fn one() -> u32 {
    1
}

/// A place in a session.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The session's number.
    pub id: u64,
    /// Counts the session's commands from 1. The same number again gets the same answer, and nothing is done twice.
    pub sequence: u64,
}

/// Body of `POST /v1/vaults/{vault}/transactions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTransaction {
    /// The place in the client's session, if the request is to be repeatable.
    pub session: Option<Session>,
    /// What must hold before.
    #[serde(default)]
    pub conditions: Vec<ConditionJson>,
    /// What is to be done.
    pub operations: Vec<OperationJson>,
}

/// `{"entity": key, "must": ...}` or `{"relationship": {...}, "must": ...}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "AnyCondition", into = "AnyCondition")]
pub struct ConditionJson(Condition);

/// A condition with any of its members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyCondition {
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relationship: Option<RelationshipJson>,
    must: Must,
}

/// `"exist"`, `"not_exist"`, `{"have_version": 3}` or `{"have_value": value}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Must {
    /// It is there.
    Exist,
    /// It is not there.
    NotExist,
    /// It is an entity with this version.
    HaveVersion(u64),
    /// It is an entity with this value.
    HaveValue(Bytes),
}

/// `{"set": {...}}`, `{"delete": {...}}`, `{"relate": {...}}` or `{"unrelate": {...}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationJson {
    /// Creates an entity or gives it a new value.
    Set(Set),
    /// Deletes an entity.
    Delete(Delete),
    /// Creates a relationship.
    Relate(RelationshipJson),
    /// Deletes a relationship.
    Unrelate(RelationshipJson),
}

/// The entity to set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// When it is removed, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// The entity to delete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Its key.
    pub key: Bytes,
}

/// A relationship.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationshipJson {
    /// What it is about.
    pub resource: String,
    /// Its name.
    pub relation: String,
    /// Who or what stands in it.
    pub subject: String,
}

impl From<RelationshipJson> for Relationship {
    fn from(
        RelationshipJson {
            resource,
            relation,
            subject,
        }: RelationshipJson,
    ) -> Self {
        Relationship {
            resource,
            relation,
            subject,
        }
    }
}

impl From<Relationship> for RelationshipJson {
    fn from(
        Relationship {
            resource,
            relation,
            subject,
        }: Relationship,
    ) -> Self {
        RelationshipJson {
            resource,
            relation,
            subject,
        }
    }
}

impl TryFrom<AnyCondition> for ConditionJson {
    type Error = &'static str;

    fn try_from(
        AnyCondition {
            entity,
            relationship,
            must,
        }: AnyCondition,
    ) -> Result<Self, Self::Error> {
        let target = match (entity, relationship) {
            (Some(Bytes(key)), None) => StateKey::Entity(key),
            (None, Some(relationship)) => StateKey::Relationship(relationship.into()),
            _ => return Err("a condition is about either an `entity` or a `relationship`"),
        };
        let requirement = match must {
            Must::Exist => Requirement::MustExist,
            Must::NotExist => Requirement::MustNotExist,
            Must::HaveVersion(version) => Requirement::VersionIs(version),
            Must::HaveValue(Bytes(value)) => Requirement::ValueIs(value),
        };
        Ok(ConditionJson(Condition {
            target,
            requirement,
        }))
    }
}

impl From<ConditionJson> for AnyCondition {
    fn from(
        ConditionJson(Condition {
            target,
            requirement,
        }): ConditionJson,
    ) -> Self {
        let (entity, relationship) = match target {
            StateKey::Entity(key) => (Some(Bytes(key)), None),
            StateKey::Relationship(relationship) => (None, Some(relationship.into())),
        };
        let must = match requirement {
            Requirement::MustExist => Must::Exist,
            Requirement::MustNotExist => Must::NotExist,
            Requirement::VersionIs(version) => Must::HaveVersion(version),
            Requirement::ValueIs(value) => Must::HaveValue(Bytes(value)),
        };
        AnyCondition {
            entity,
            relationship,
            must,
        }
    }
}

impl From<OperationJson> for Operation {
    fn from(operation: OperationJson) -> Self {
        match operation {
            OperationJson::Set(Set {
                key,
                value,
                expires_at,
            }) => Operation::SetEntity {
                key: key.0,
                value: value.0,
                expires_at,
            },
            OperationJson::Delete(Delete { key }) => Operation::DeleteEntity { key: key.0 },
            OperationJson::Relate(relationship) => {
                Operation::CreateRelationship(relationship.into())
            }
            OperationJson::Unrelate(relationship) => {
                Operation::DeleteRelationship(relationship.into())
            }
        }
    }
}

impl From<Operation> for OperationJson {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::SetEntity {
                key,
                value,
                expires_at,
            } => OperationJson::Set(Set {
                key: Bytes(key),
                value: Bytes(value),
                expires_at,
            }),
            Operation::DeleteEntity { key } => OperationJson::Delete(Delete { key: Bytes(key) }),
            Operation::CreateRelationship(relationship) => {
                OperationJson::Relate(relationship.into())
            }
            Operation::DeleteRelationship(relationship) => {
                OperationJson::Unrelate(relationship.into())
            }
        }
    }
}

impl NewVault {
    /// The command that creates the vault.
    pub fn command(self) -> Command {
        let create = Command::create_vault_retaining(self.name, self.retention);
        in_session(create, self.session)
    }
}

impl VaultChange {
    /// The command that changes `vault`.
    pub fn command(self, vault: u64) -> Command {
        in_session(Command::set_retention(vault, self.retention), self.session)
    }
}

impl NewNumbers {
    /// The command that takes the numbers.
    pub fn command(self) -> Command {
        in_session(
            Command::allocate_numbers(self.counter, self.count),
            self.session,
        )
    }
}

impl NewTransaction {
    /// The command that carries out the transaction on `vault`.
    pub fn command(self, vault: u64) -> Command {
        let conditions = self
            .conditions
            .into_iter()
            .map(|ConditionJson(condition)| condition)
            .collect();
        let operations = self.operations.into_iter().map(Into::into).collect();
        in_session(
            Command::submit(Transaction {
                vault,
                conditions,
                operations,
            }),
            self.session,
        )
    }
}

/// The command at its place in the client's session.
pub fn in_session(command: Command, session: Option<Session>) -> Command {
    match session {
        Some(Session { id, sequence }) => command.in_session(id, sequence),
        None => command,
    }
}

/// Answer to a transaction.
#[derive(Debug, Serialize)]
pub struct ReceiptJson {
    vault: u64,
    height: u64,
    position: u32,
    log_index: u64,
    outcomes: Vec<OutcomeJson>,
}

/// What an operation did.
#[derive(Debug, Serialize)]
struct OutcomeJson {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

impl From<Receipt> for ReceiptJson {
    fn from(
        Receipt {
            vault,
            height,
            position,
            log_index,
            outcomes,
        }: Receipt,
    ) -> Self {
        ReceiptJson {
            vault,
            height,
            position,
            log_index,
            outcomes: outcomes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Outcome> for OutcomeJson {
    fn from(outcome: Outcome) -> Self {
        let (outcome, version) = match outcome {
            Outcome::EntityCreated => ("entity_created", Some(1)),
            Outcome::EntityUpdated { version } => ("entity_updated", Some(version)),
            Outcome::EntityDeleted { version } => ("entity_deleted", Some(version)),
            Outcome::RelationshipCreated => ("relationship_created", None),
            Outcome::RelationshipDeleted => ("relationship_deleted", None),
            Outcome::Unchanged => ("unchanged", None),
        };
        OutcomeJson { outcome, version }
    }
}

/// An entity.
#[derive(Debug, Serialize)]
pub struct EntityJson {
    key: Bytes,
    value: Bytes,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl EntityJson {
    /// The entity under `key`.
    pub fn new(
        key: Vec<u8>,
        Entity {
            version,
            expires_at,
            value,
        }: Entity,
    ) -> Self {
        EntityJson {
            key: Bytes(key),
            value: Bytes(value),
            version,
            expires_at,
        }
    }
}

/// What an entity was.
#[derive(Debug, Serialize)]
pub struct PastEntityJson {
    /// The last height as of which it was so.
    pub until: u64,
    /// Absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<EntityJson>,
}

impl PastEntityJson {
    /// The past entity under `key`.
    pub fn new(key: &[u8], PastEntity { until, entity }: PastEntity) -> Self {
        let entity = entity.map(|entity| EntityJson::new(key.to_vec(), entity));
        PastEntityJson { until, entity }
    }
}

/// A block.
#[derive(Debug, Serialize)]
pub struct BlockJson {
    hash: Digest,
    header: BlockHeader,
    transactions: Vec<TransactionJson>,
    /// To be passed as `from` for the transactions that follow; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u32>,
}

/// A transaction of a block, and what it did.
#[derive(Debug, Serialize)]
pub struct TransactionJson {
    /// Whether the ledger asked for it, to remove entities whose time had come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expiry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
    conditions: Vec<ConditionJson>,
    operations: Vec<OperationJson>,
    outcomes: Vec<OutcomeJson>,
}

impl From<Record> for TransactionJson {
    fn from(
        Record {
            origin,
            transaction,
            outcomes,
        }: Record,
    ) -> Self {
        let session = match origin {
            Origin::Session(SessionSequence { session, sequence }) => Some(Session {
                id: session,
                sequence,
            }),
            Origin::Client | Origin::Expiry => None,
        };
        TransactionJson {
            expiry: origin == Origin::Expiry,
            session,
            conditions: transaction
                .conditions
                .into_iter()
                .map(ConditionJson)
                .collect(),
            operations: transaction.operations.into_iter().map(Into::into).collect(),
            outcomes: outcomes.into_iter().map(Into::into).collect(),
        }
    }
}

/// Hash and header of a block.
#[derive(Debug, Serialize)]
pub struct BlockHeadJson {
    hash: Digest,
    header: BlockHeader,
}

impl BlockHeadJson {
    /// The head of the block with this header.
    pub fn new(header: BlockHeader) -> Self {
        BlockHeadJson {
            hash: header.hash(),
            header,
        }
    }
}

impl BlockJson {
    /// The block of this header, and its transactions from one on.
    pub fn new(header: BlockHeader, from: u32, records: impl Iterator<Item = Record>) -> Self {
        let transactions: Vec<TransactionJson> = records.map(Into::into).collect();
        let shown = u32::try_from(transactions.len()).unwrap_or(u32::MAX);
        let next = from.saturating_add(shown);
        BlockJson {
            hash: header.hash(),
            next: (shown > 0 && next < header.transactions).then_some(next),
            transactions,
            header,
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// To be passed as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        for (bytes, form) in [
            (&b"caf\xc3\xa9"[..], json!("caf\u{e9}")),
            (b"", json!("")),
            (b"\xff\x00", json!({ "base64": "/wA=" })),
        ] {
            let bytes = Bytes(bytes.to_vec());
            assert_eq!(to_value(&bytes).expect("it has a form"), form);
            assert_eq!(from_value::<Bytes>(form).expect("its own form"), bytes);
        }
    }

    #[test]
    fn what_is_neither_text_nor_base64_is_refused() {
        for form in [
            json!(1),
            json!(null),
            json!({}),
            json!({ "base64": "%" }),
            json!({ "base64": "", "more": 1 }),
        ] {
            assert!(from_value::<Bytes>(form.clone()).is_err(), "{form}");
        }
    }

    #[test]
    fn a_transaction_reads_as_it_is_written() {
        let body = json!({
            "session": { "id": 7, "sequence": 3 },
            "conditions": [
                { "entity": "a", "must": "exist" },
                { "entity": { "base64": "/w==" }, "must": { "have_version": 2 } },
                { "entity": "a", "must": { "have_value": "v" } },
                { "relationship": { "resource": "r", "relation": "l", "subject": "s" }, "must": "not_exist" },
            ],
            "operations": [
                { "set": { "key": "a", "value": "b" } },
                { "set": { "key": "a", "value": "b", "expires_at": 9 } },
                { "delete": { "key": "a" } },
                { "relate": { "resource": "r", "relation": "l", "subject": "s" } },
                { "unrelate": { "resource": "r", "relation": "l", "subject": "s" } },
            ],
        });
        let parsed: NewTransaction = from_value(body).expect("a good body");
        let relationship = Relationship::new("r", "l", "s");
        let expected = Transaction::new(5)
            .require_entity("a", Requirement::MustExist)
            .require_entity([0xff], Requirement::VersionIs(2))
            .require_entity("a", Requirement::ValueIs(b"v".to_vec()))
            .require_relationship(relationship.clone(), Requirement::MustNotExist)
            .set("a", "b")
            .set_until("a", "b", 9)
            .delete("a")
            .relate(relationship.clone())
            .unrelate(relationship);
        assert_eq!(
            parsed.command(5),
            Command::submit(expected).in_session(7, 3)
        );
    }

    #[test]
    fn a_misspelt_member_is_refused_instead_of_ignored() {
        for body in [
            json!({ "operations": [], "condition": [] }),
            json!({ "operations": [{ "set": { "key": "a", "value": "b", "expires": 9 } }] }),
            json!({ "operations": [{ "put": { "key": "a", "value": "b" } }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a", "must": "exists" }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a", "must": "exist", "also": 1 }] }),
            json!({ "operations": [], "conditions": [{ "must": "exist" }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a" }] }),
            json!({ "conditions": [] }),
        ] {
            assert!(
                from_value::<NewTransaction>(body.clone()).is_err(),
                "{body}"
            );
        }
    }
}
