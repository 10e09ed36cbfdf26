//! What a transaction asks for, and what it did.

use folio_proof::record::Outcome as Recorded;
use folio_proof::state_key::{self, StateKey};
use folio_proof::transaction::{self, Requirement};
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// A relationship: `subject` stands in `relation` to `resource`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Relationship {
    /// What it is about: 255 bytes at most, and no control characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 255)))]
    pub resource: String,
    /// Its name: 64 bytes at most, and no control characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub relation: String,
    /// Who or what stands in it: 255 bytes at most, and no control characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 255)))]
    pub subject: String,
}

impl Relationship {
    /// A relationship of these three names.
    pub fn new(
        resource: impl Into<String>,
        relation: impl Into<String>,
        subject: impl Into<String>,
    ) -> Self {
        Relationship {
            resource: resource.into(),
            relation: relation.into(),
            subject: subject.into(),
        }
    }
}

impl From<Relationship> for state_key::Relationship {
    fn from(of: Relationship) -> Self {
        state_key::Relationship::new(of.resource, of.relation, of.subject)
    }
}

impl From<state_key::Relationship> for Relationship {
    fn from(of: state_key::Relationship) -> Self {
        Relationship::new(of.resource, of.relation, of.subject)
    }
}

/// What must hold for a transaction to be carried out: `{"entity": key, "must": ...}` or
/// `{"relationship": {...}, "must": ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AnyCondition", into = "AnyCondition")]
pub struct Condition {
    /// What it is about.
    pub target: Target,
    /// What must hold of that.
    pub must: Must,
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The entity with this key.
    Entity(Bytes),
    /// This relationship.
    Relationship(Relationship),
}

impl From<&str> for Target {
    fn from(key: &str) -> Self {
        Target::Entity(key.into())
    }
}

impl From<Bytes> for Target {
    fn from(key: Bytes) -> Self {
        Target::Entity(key)
    }
}

impl From<Relationship> for Target {
    fn from(relationship: Relationship) -> Self {
        Target::Relationship(relationship)
    }
}

/// A condition with any of its members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyCondition {
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relationship: Option<Relationship>,
    must: Must,
}

/// What must hold of an entity or relationship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Must {
    /// It is there.
    Exist,
    /// It is not there.
    NotExist,
    /// It is an entity with this version.
    #[cfg_attr(feature = "schema", schemars(title = "HaveVersion"))]
    HaveVersion(u64),
    /// It is an entity with this value.
    #[cfg_attr(feature = "schema", schemars(title = "HaveValue"))]
    HaveValue(Bytes),
}

/// One change.
// The titles are what generators of clients call the types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Creates an entity or gives it a new value.
    #[cfg_attr(feature = "schema", schemars(title = "SetOperation"))]
    Set(Set),
    /// Deletes an entity. That it is not there is no error.
    #[cfg_attr(feature = "schema", schemars(title = "DeleteOperation"))]
    Delete(Delete),
    /// Creates a relationship. That it is there already is no error.
    #[cfg_attr(feature = "schema", schemars(title = "RelateOperation"))]
    Relate(Relationship),
    /// Deletes a relationship. That it is not there is no error.
    #[cfg_attr(feature = "schema", schemars(title = "UnrelateOperation"))]
    Unrelate(Relationship),
}

/// The entity to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its key: 1 to 256 bytes.
    pub key: Bytes,
    /// Its new value: 1 MiB at most.
    pub value: Bytes,
    /// When it is removed, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// The entity to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Its key.
    pub key: Bytes,
}

impl TryFrom<AnyCondition> for Condition {
    type Error = &'static str;

    fn try_from(
        AnyCondition {
            entity,
            relationship,
            must,
        }: AnyCondition,
    ) -> Result<Self, Self::Error> {
        let target = match (entity, relationship) {
            (Some(key), None) => Target::Entity(key),
            (None, Some(relationship)) => Target::Relationship(relationship),
            _ => return Err("a condition is about either an `entity` or a `relationship`"),
        };
        Ok(Condition { target, must })
    }
}

impl From<Condition> for AnyCondition {
    fn from(Condition { target, must }: Condition) -> Self {
        let (entity, relationship) = match target {
            Target::Entity(key) => (Some(key), None),
            Target::Relationship(relationship) => (None, Some(relationship)),
        };
        AnyCondition {
            entity,
            relationship,
            must,
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = |about: &str, schema: schemars::Schema, must: &schemars::Schema| {
            schemars::json_schema!({
                "type": "object",
                "properties": { about: schema, "must": must },
                "required": [about, "must"],
                "additionalProperties": false,
            })
        };
        let must = generator.subschema_for::<Must>();
        let entity = form("entity", generator.subschema_for::<Bytes>(), &must);
        let names = generator.subschema_for::<Relationship>();
        let relationship = form("relationship", names, &must);
        schemars::json_schema!({
            "description": "What must hold of an entity or of a relationship.",
            "oneOf": [entity, relationship],
        })
    }
}

impl From<Condition> for transaction::Condition {
    fn from(Condition { target, must }: Condition) -> Self {
        transaction::Condition {
            target: match target {
                Target::Entity(Bytes(key)) => StateKey::Entity(key),
                Target::Relationship(relationship) => StateKey::Relationship(relationship.into()),
            },
            requirement: match must {
                Must::Exist => Requirement::MustExist,
                Must::NotExist => Requirement::MustNotExist,
                Must::HaveVersion(version) => Requirement::VersionIs(version),
                Must::HaveValue(Bytes(value)) => Requirement::ValueIs(value),
            },
        }
    }
}

impl From<transaction::Condition> for Condition {
    fn from(condition: transaction::Condition) -> Self {
        Condition {
            target: match condition.target {
                StateKey::Entity(key) => Target::Entity(Bytes(key)),
                StateKey::Relationship(relationship) => Target::Relationship(relationship.into()),
            },
            must: match condition.requirement {
                Requirement::MustExist => Must::Exist,
                Requirement::MustNotExist => Must::NotExist,
                Requirement::VersionIs(version) => Must::HaveVersion(version),
                Requirement::ValueIs(value) => Must::HaveValue(Bytes(value)),
            },
        }
    }
}

impl From<Operation> for transaction::Operation {
    fn from(operation: Operation) -> Self {
        use transaction::Operation as To;

        match operation {
            Operation::Set(set) => To::SetEntity {
                key: set.key.0,
                value: set.value.0,
                expires_at: set.expires_at,
            },
            Operation::Delete(Delete { key }) => To::DeleteEntity { key: key.0 },
            Operation::Relate(relationship) => To::CreateRelationship(relationship.into()),
            Operation::Unrelate(relationship) => To::DeleteRelationship(relationship.into()),
        }
    }
}

impl From<transaction::Operation> for Operation {
    fn from(operation: transaction::Operation) -> Self {
        use transaction::Operation as Of;

        match operation {
            Of::SetEntity {
                key,
                value,
                expires_at,
            } => Operation::Set(Set {
                key: Bytes(key),
                value: Bytes(value),
                expires_at,
            }),
            Of::DeleteEntity { key } => Operation::Delete(Delete { key: Bytes(key) }),
            Of::CreateRelationship(relationship) => Operation::Relate(relationship.into()),
            Of::DeleteRelationship(relationship) => Operation::Unrelate(relationship.into()),
        }
    }
}

/// A transaction was carried out, and this is where it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// The vault.
    pub vault: u64,
    /// The height of the block that records the transaction.
    pub height: u64,
    /// The place of the transaction in the block, from 0.
    pub position: u32,
    /// Index of the log entry, for reads of `at_least:`.
    pub log_index: u64,
    /// What each operation did, in the order of the operations.
    pub outcomes: Vec<Outcome>,
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Outcome {
    /// What happened.
    pub outcome: OutcomeKind,
    /// The version of the entity: its new one, or its last one if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// What happened to an entity or relationship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The entity was not there and is now, with version 1.
    EntityCreated,
    /// The entity was there and has a new value.
    EntityUpdated,
    /// The entity was deleted.
    EntityDeleted,
    /// The relationship was not there and is now.
    RelationshipCreated,
    /// The relationship was deleted.
    RelationshipDeleted,
    /// There was nothing to change.
    Unchanged,
}

impl From<Recorded> for Outcome {
    fn from(outcome: Recorded) -> Self {
        let (outcome, version) = match outcome {
            Recorded::EntityCreated => (OutcomeKind::EntityCreated, Some(1)),
            Recorded::EntityUpdated { version } => (OutcomeKind::EntityUpdated, Some(version)),
            Recorded::EntityDeleted { version } => (OutcomeKind::EntityDeleted, Some(version)),
            Recorded::RelationshipCreated => (OutcomeKind::RelationshipCreated, None),
            Recorded::RelationshipDeleted => (OutcomeKind::RelationshipDeleted, None),
            Recorded::Unchanged => (OutcomeKind::Unchanged, None),
        };
        Outcome { outcome, version }
    }
}
