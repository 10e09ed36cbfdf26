//! Nodes, and the cluster that they make.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The number of a node.
pub type NodeId = u64;

/// Answer to `GET /v1/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Members {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The newest term that this node has seen.
    pub term: u64,
    /// The members, by id.
    pub members: Vec<Member>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Where the other nodes reach it.
    pub address: String,
    /// Where clients reach it, if it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Whether it votes.
    pub votes: bool,
}

/// A node that is to belong to the cluster. It runs already, with an empty file and without `--init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// Its number, from 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub id: NodeId,
    /// Its `--peer-listen` address, as the other nodes reach it.
    pub address: String,
    /// Its API, as clients reach it: any node can send them there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The voter whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<NodeId>,
    /// Whether it gets a vote, once it has the whole log.
    #[serde(default = "yes")]
    pub votes: bool,
}

fn yes() -> bool {
    true
}

/// A member that is found elsewhere now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Where the other nodes reach it.
    pub address: String,
    /// Where clients reach it; as before if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// Body of `POST /v1/invitations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// How many hours it is good for.
    #[serde(default = "a_day")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 168)))]
    pub hours: u32,
}

fn a_day() -> u32 {
    24
}

/// Answer to `POST /v1/invitations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Invited {
    /// What a new node shows. Whoever has it can become a member.
    pub invitation: String,
    /// Until when it is good, in seconds since the Unix epoch.
    pub until: u64,
}

/// Body of `POST /v1/join`: a node that is to become a member asks for an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Of this cluster.
    pub invitation: String,
}

/// Answer to `POST /v1/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Welcome {
    /// The name of the cluster.
    pub cluster: String,
    /// The number of the new node, which no other has or had.
    pub id: NodeId,
}

/// Body of `POST /v1/join/{member}`: the node runs by now, under the id that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Newcomer {
    /// Of this cluster.
    pub invitation: String,
    /// Where the other nodes reach it.
    pub address: String,
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// What has become of a change of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberChange {
    /// Whether it is at its end; else it goes on, and `GET /v1/members` shows how.
    pub done: bool,
    /// Index of the log entry, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
}

/// Who is to lead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Successor {
    /// The voter whose log is furthest along, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<NodeId>,
}

/// Who leads now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Leader {
    /// Its number.
    pub leader: NodeId,
}

/// Answer to `GET /v1/status`: what a node knows of itself and the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Its number.
    pub node: NodeId,
    /// The version of Folio that it runs.
    pub version: String,
    /// What it does in the cluster.
    pub role: Role,
    /// The newest term that it has seen.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Index of the last entry of its log.
    pub last_log: Option<u64>,
    /// Index of the last entry that it has applied.
    pub applied: Option<u64>,
    /// Index of the last entry whose effect is durable in its tables.
    pub checkpointed: Option<u64>,
    /// Index of the last entry in its latest snapshot.
    pub snapshot: Option<u64>,
    /// Index up to which its log is gone.
    pub purged: Option<u64>,
    /// Members that vote, and where their peers reach them.
    pub voters: BTreeMap<NodeId, String>,
    /// Members that do not vote.
    pub learners: BTreeMap<NodeId, String>,
    /// What was damaged, while the state of the node is being rebuilt.
    pub rebuilding: Option<String>,
    /// Why the node takes no writes, if its disk is full or nearly so.
    pub disk_full: Option<String>,
    /// The vaults that it does not serve, because they are not those of other nodes.
    pub diverged: Vec<Divergence>,
    /// Why it stopped, if it did.
    pub error: Option<String>,
    /// Its file.
    pub file: FileStatus,
}

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows, and votes.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows, and does not vote.
    Learner,
    /// It does nothing any more.
    Stopped,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

/// The file of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileStatus {
    /// Where it is.
    pub path: String,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// How many pages it has.
    pub pages: u64,
    /// How many of them are free.
    pub free_pages: u64,
    /// Durable commits since the node started.
    pub flushes: u64,
    /// `fdatasync` calls since the node started.
    pub fdatasyncs: u64,
}

/// A vault whose history at a node is not that of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Divergence {
    /// The vault.
    pub vault: u64,
    /// The height of the first block that differs.
    pub height: u64,
    /// The hash that this node has there.
    pub ours: String,
    /// The hash that `node` has there.
    pub theirs: String,
    /// The node that it was compared with.
    pub node: NodeId,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Divergence {
            vault,
            height,
            ours,
            theirs,
            node,
        } = self;
        write!(
            f,
            "vault {vault} differs from that of other nodes since block {height}: it has the hash {ours} here and {theirs} on node {node}"
        )
    }
}
