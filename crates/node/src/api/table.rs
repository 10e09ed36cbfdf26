//! What the API has: one line or two for each route.

use folio_api::Code;

use super::openapi::{self, About, Routes};
use super::{
    backup, feed, join, members, metrics, page, prove, routes, session, status, verification,
};
use crate::access::Need::{Everywhere, InVault, Nothing, Somewhere};
use crate::access::Role::{Admin, Monitor, Read, Write};

/// What a read of this node may be refused with.
const READ: &[Code] = &[
    Code::NotLeader,
    Code::NoLeader,
    Code::NoQuorum,
    Code::TooFarBehind,
    Code::NotYetApplied,
    Code::ShuttingDown,
    Code::Rebuilding,
    Code::NodeStopped,
    Code::StorageFailed,
];

/// What anything about a vault may be refused with.
const VAULT: &[Code] = &[Code::VaultNotFound, Code::VaultDeleted, Code::VaultDiverged];

/// What a command may be refused with.
const WRITE: &[Code] = &[
    Code::NotLeader,
    Code::NoLeader,
    Code::NoQuorum,
    Code::ShuttingDown,
    Code::Rebuilding,
    Code::NodeStopped,
    Code::StorageFailed,
    Code::Overloaded,
    Code::DiskFull,
    Code::InvalidCommand,
    Code::OutcomeUnknown,
];

/// What a command in a session may be refused with.
const SESSION: &[Code] = &[
    Code::NotYetApplied,
    Code::SessionUnknown,
    Code::SessionExpired,
    Code::StaleSequence,
    Code::SequenceUsed,
];

/// What a JSON body may be refused with.
const BODY: &[Code] = &[Code::UnsupportedMediaType];

/// What a change of the cluster may be refused with.
const CLUSTER: &[Code] = &[
    Code::NotLeader,
    Code::NoLeader,
    Code::NoQuorum,
    Code::ShuttingDown,
    Code::Rebuilding,
    Code::NodeStopped,
    Code::StorageFailed,
    Code::MembershipUnchanged,
    Code::Overloaded,
    Code::OutcomeUnknown,
];

/// What asking a node about itself may be refused with.
const NODE: &[Code] = &[Code::ShuttingDown, Code::NodeStopped, Code::StorageFailed];

const fn about(
    name: &'static str,
    summary: &'static str,
    problems: &'static [&'static [Code]],
) -> About {
    About {
        name,
        summary,
        problems,
    }
}

/// Every route, what it takes to be answered, its handler, and what the document says of it.
#[rustfmt::skip]
pub(super) fn routes() -> Routes {
    Routes::new()
        .section("Sessions and numbers")
        .post("/v1/sessions", Somewhere(Write), session::open_session,
            about("open_session", "Opens a session, in which a repeated write happens once", &[WRITE, &[Code::NotYetApplied]]))
        .delete("/v1/sessions/{session}", Somewhere(Write), session::close_session,
            about("close_session", "Ends a session", &[WRITE, SESSION]))
        .post("/v1/numbers", Everywhere(Write), routes::allocate_numbers,
            about("allocate_numbers", "Takes numbers that nobody else gets", &[WRITE, SESSION, BODY]))
        .get("/v1/numbers", Everywhere(Read), routes::last_numbers,
            about("last_numbers", "The last numbers that were taken", &[READ]))

        .section("Vaults")
        .post("/v1/vaults", Everywhere(Admin), routes::create_vault,
            about("create_vault", "Creates a vault", &[WRITE, SESSION, BODY]))
        .get("/v1/vaults", Somewhere(Read), routes::list_vaults,
            about("list_vaults", "Lists vaults", &[READ, WRITE]))
        .get("/v1/vaults/{vault}", InVault(Read), routes::get_vault,
            about("get_vault", "A vault: height, block hash, state root", &[READ, VAULT]))
        .patch("/v1/vaults/{vault}", InVault(Admin), routes::change_vault,
            about("change_vault", "Sets how many blocks back the entities of a vault can be read", &[WRITE, VAULT, SESSION, BODY]))
        .delete("/v1/vaults/{vault}", InVault(Admin), routes::delete_vault,
            about("delete_vault", "Deletes a vault with everything in it", &[WRITE, VAULT, SESSION]))
        .post("/v1/vaults/{vault}/transactions", InVault(Write), routes::submit,
            about("submit", "Carries out a transaction, all of it or nothing",
                &[WRITE, VAULT, SESSION, BODY, &[Code::ConditionFailed]]))
        .get("/v1/vaults/{vault}/entities", InVault(Read), routes::list_entities,
            about("list_entities", "Lists entities in the order of their keys", &[READ, WRITE, VAULT]))
        .get("/v1/vaults/{vault}/entities/{*key}", InVault(Read), routes::get_entity,
            about("get_entity", "An entity, or what it was",
                &[READ, VAULT, &[Code::EntityNotFound, Code::HeightNotRetained, Code::BlockNotFound]]))
        .get("/v1/vaults/{vault}/history/{*key}", InVault(Read), routes::entity_history,
            about("entity_history", "What an entity was since a height",
                &[READ, WRITE, VAULT, &[Code::HeightNotRetained, Code::BlockNotFound]]))
        .get("/v1/vaults/{vault}/relationships", InVault(Read), routes::list_relationships,
            about("list_relationships", "Lists relationships", &[READ, WRITE, VAULT]))
        .get("/v1/vaults/{vault}/blocks/{height}", InVault(Read), routes::get_block,
            about("get_block", "A block and its transactions", &[READ, VAULT, &[Code::BlockNotFound]]))
        .get("/v1/vaults/{vault}/changes", InVault(Read), feed::changes,
            about("changes", "All that happens from a height on, as server-sent events",
                &[READ, VAULT, &[Code::TooManyFeeds]]))

        .section("Proofs")
        .get("/v1/vaults/{vault}/proofs/entities/{*key}", InVault(Read), prove::entity,
            about("prove_entity", "An entity or its absence, and the proof of it", &[READ, VAULT]))
        .get("/v1/vaults/{vault}/proofs/relationships", InVault(Read), prove::relationship,
            about("prove_relationship", "Whether a relationship is there, and the proof of it", &[READ, VAULT]))
        .get("/v1/vaults/{vault}/proofs/transactions/{height}/{position}", InVault(Read), prove::transaction,
            about("prove_transaction", "The record of a transaction, and the proof that it is in its block",
                &[READ, VAULT, &[Code::TransactionNotFound]]))
        .get("/v1/vaults/{vault}/proofs/blocks/{height}", InVault(Read), prove::block,
            about("prove_block", "The proof that a block is in a chain", &[READ, VAULT, &[Code::BlockNotFound]]))
        .get("/v1/vaults/{vault}/proofs/extensions", InVault(Read), prove::extension,
            about("prove_extension", "The proof that a chain goes on from an earlier end",
                &[READ, VAULT, &[Code::BlockNotFound]]))

        .section("Cluster")
        .get("/v1/members", Everywhere(Monitor), members::list,
            about("list_members", "Who belongs to the cluster", &[]))
        .post("/v1/members", Everywhere(Admin), members::add,
            about("add_member", "Adds a node, or puts it in the place of another", &[CLUSTER, BODY]))
        .patch("/v1/members/{member}", Everywhere(Admin), members::change,
            about("change_member", "Says that a member is found elsewhere now", &[CLUSTER, BODY]))
        .delete("/v1/members/{member}", Everywhere(Admin), members::remove,
            about("remove_member", "Removes a member", &[CLUSTER]))
        .post("/v1/invitations", Everywhere(Admin), join::invite,
            about("invite", "Makes an invitation, with which a new node becomes a member", &[CLUSTER, BODY]))
        // The invitation is what lets a node in.
        .post("/v1/join", Nothing, join::ask,
            about("ask_for_id", "Gives an id to a new node that has an invitation", &[CLUSTER, BODY, &[Code::NotInvited]]))
        .post("/v1/join/{member}", Nothing, join::enter,
            about("enter", "Makes that node a member", &[CLUSTER, BODY, &[Code::NotInvited]]))
        .post("/v1/leader", Everywhere(Admin), members::lead,
            about("transfer_leadership", "Hands the leadership over", &[CLUSTER, BODY, &[Code::HandoverFailed]]))

        .section("Node")
        .get("/v1/status", Everywhere(Monitor), status::status,
            about("get_status", "What this node knows of itself and the cluster", &[NODE]))
        .get("/v1/health/started", Nothing, status::started,
            about("get_started", "Whether this node has started: its file is open and recovered", &[NODE]))
        .get("/v1/health/live", Nothing, status::live,
            about("get_live", "Whether this node lives; if not, it has to be started again", &[NODE]))
        .get("/v1/health/ready", Nothing, status::ready,
            about("get_ready", "Whether this node serves now, by itself or by a redirect to the leader",
                &[NODE, &[Code::NoLeader, Code::Rebuilding]]))
        .get("/metrics", Everywhere(Monitor), metrics::metrics,
            about("get_metrics", "This node's counters, in the text format of Prometheus", &[NODE]))
        .get("/v1/verification", Everywhere(Monitor), verification::show,
            about("get_verification", "How far the verification of this node's file is, and what it found", &[]))
        .post("/v1/verification", Everywhere(Admin), verification::start,
            about("start_verification", "Begins to verify this node's file", &[NODE, &[Code::VerificationRunning]]))
        .delete("/v1/verification", Everywhere(Admin), verification::stop,
            about("stop_verification", "Stops it", &[]))
        .get("/v1/backup", Everywhere(Admin), backup::copy,
            about("get_backup", "A copy of this node's file, or what has changed since one",
                &[NODE, &[Code::TooManyBackups, Code::BackupBase]]))
        .post("/v1/snapshot", Everywhere(Admin), status::snapshot,
            about("take_snapshot", "Has this node take a snapshot, and keep no more of its log than the newest entries", &[NODE]))
        .post("/v1/rebuild", Everywhere(Admin), verification::rebuild,
            about("rebuild", "Gives up this node's state, and has it rebuilt from another node",
                &[NODE, &[Code::NobodyToRebuildFrom]]))
        .get("/", Nothing, page::show,
            about("get_page", "A page for people, that shows the cluster, vaults, blocks and proofs", &[]))
        .get("/v1/openapi.json", Nothing, openapi::serve,
            about("get_openapi", "This document", &[]))
}
