//! What goes over a Folio node's HTTP API, as types: the node and the client crate use the same ones, and the node's
//! OpenAPI document is made from them.
//!
//! Keys and values are byte strings ([`Bytes`]). Numbers are JSON integers of up to 64 bits; times are microseconds
//! since 1970. Requests refuse members that they do not know; answers may get more members in later versions.

mod block;
mod bytes;
mod cluster;
mod entity;
mod list;
mod problem;
mod prove;
mod read;
mod request;
mod transaction;
mod vault;

pub use block::{Block, BlockHead, Recorded, RecordedSession, RecordedTransaction};
pub use bytes::Bytes;
pub use cluster::{
    Divergence, FileStatus, Invited, JoinRequest, Leader, Member, MemberChange, Members, Moved,
    NewInvitation, NewMember, Newcomer, NodeId, Role, Status, Successor, Welcome,
};
pub use entity::{Entity, Page, PastEntity};
pub use problem::{Code, MEDIA_TYPE, ProblemDocument};
pub use prove::{
    BlockAnswer, EntityAnswer, ExtensionAnswer, RelationshipAnswer, TransactionAnswer,
};
pub use read::{ReadLevel, WrongReadLevel};
pub use request::{
    Counter, LastNumbers, NewNumbers, NewTransaction, NewVault, Numbers, Session, SessionClosed,
    SessionOpened, VaultChange,
};
pub use transaction::{
    Condition, Delete, Must, Operation, Outcome, OutcomeKind, Receipt, Relationship, Set, Target,
};
pub use vault::{RetentionSet, Vault, VaultCreated, VaultDeleted};

/// The longest page of a list that a request may ask for, in rows.
pub const MAX_LIMIT: usize = 1000;
