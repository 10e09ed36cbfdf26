//! Entities, and pages of lists.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// An entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entity {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Counts the values that it has had, from 1.
    pub version: u64,
    /// When it is removed, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

impl Entity {
    /// The entity under `key`.
    pub fn new(key: Vec<u8>, entity: folio_proof::state_key::Entity) -> Self {
        Entity {
            key: Bytes(key),
            value: Bytes(entity.value),
            version: entity.version,
            expires_at: entity.expires_at,
        }
    }
}

/// What an entity was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PastEntity {
    /// The last height as of which it was so.
    pub until: u64,
    /// Absent when it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PageOf{T}")
)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// To be passed as `after` for the next page; absent on the last one.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Without asking `T` for a default of its own.
fn none() -> Option<String> {
    None
}
