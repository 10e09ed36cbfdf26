//! `GET /v1/vaults/{vault}/proofs/...`: answers that a client can check with a block hash that it trusts.
//!
//! What is in an answer is of one moment. `folio-proof` has the checks, and reads the proofs as they are here.

use axum::extract::{Json, Path, Query, State};
use axum::http::Uri;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use folio_api::{
    BlockAnswer, BlockHead, Entity, EntityAnswer, ExtensionAnswer, ReadLevel, RelationshipAnswer,
    TransactionAnswer,
};
use folio_ledger::LedgerView;
use folio_ledger::error::{LedgerError, Result as Read};
use folio_ledger::state_key::{Relationship, StateKey};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::problem::Problem;
use super::read::{Read as AtReadLevel, key_in_path};
use super::routes::{Answer, Params, Place, vault_in_path};

/// The block that an answer is proved by.
fn head(ledger: LedgerView<'_>, vault: u64, height: u64) -> Read<BlockHead> {
    let header = ledger.block(vault, height)?.ok_or_else(|| {
        LedgerError::Inconsistent(format!("block {height} of vault {vault} is missing"))
    })?;
    Ok(header.into())
}

pub(super) async fn entity(
    State(api): State<Api>,
    place: Place<(u64, String)>,
    uri: Uri,
    params: Params<AtReadLevel>,
) -> Answer<EntityAnswer> {
    let vault = match place {
        Ok(Path((vault, _))) => vault,
        Err(rejection) => vault_in_path(uri.path()).ok_or(rejection)?,
    };
    let key = key_in_path(uri.path(), 6)?;
    let answer = api.read_vault(params?.read, vault, move |ledger, info| {
        let entity = ledger.entity(vault, &key)?;
        Ok(EntityAnswer {
            block: head(ledger, vault, info.height)?,
            entity: entity.map(|entity| Entity::new(key.clone(), entity)),
            proof: ledger.prove(vault, &StateKey::Entity(key))?,
        })
    });
    Ok(Json(answer.await?))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    /// What the relationship is about.
    resource: String,
    /// Its name.
    relation: String,
    /// Who or what stands in it.
    subject: String,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn relationship(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<Names>,
) -> Answer<RelationshipAnswer> {
    let Path(vault) = vault?;
    let Query(names) = params?;
    let relationship = Relationship::new(names.resource, names.relation, names.subject);
    let answer = api.read_vault(names.read, vault, move |ledger, info| {
        Ok(RelationshipAnswer {
            block: head(ledger, vault, info.height)?,
            exists: ledger.relationship_exists(vault, &relationship)?,
            proof: ledger.prove(vault, &StateKey::Relationship(relationship))?,
        })
    });
    Ok(Json(answer.await?))
}

pub(super) async fn transaction(
    State(api): State<Api>,
    place: Place<(u64, u64, u32)>,
    params: Params<AtReadLevel>,
) -> Answer<TransactionAnswer> {
    let Path((vault, height, position)) = place?;
    let answer = api.read_vault(params?.read, vault, move |ledger, _| {
        let Some(record) = ledger.encoded_record(vault, height, position)? else {
            return Ok(None);
        };
        let proof = ledger.prove_transaction(vault, height, position)?;
        proof
            .map(|proof| {
                Ok(TransactionAnswer {
                    block: head(ledger, vault, height)?,
                    record: BASE64_STANDARD.encode(record),
                    proof,
                })
            })
            .transpose()
    });
    let answer = answer.await?;
    answer
        .map(Json)
        .ok_or_else(|| Problem::transaction_not_found(vault, height, position))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InChain {
    /// The end of the chain; the latest block if it is not given.
    head: Option<u64>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn block(
    State(api): State<Api>,
    place: Place<(u64, u64)>,
    params: Params<InChain>,
) -> Answer<BlockAnswer> {
    let Path((vault, height)) = place?;
    let Query(InChain { head: end, read }) = params?;
    let answer = api.read_vault(read, vault, move |ledger, info| {
        let end = end.unwrap_or(info.height);
        let Some(proof) = ledger.prove_block(vault, height, end)? else {
            return Ok(Err((height, end, info.height)));
        };
        Ok(Ok(BlockAnswer {
            block: head(ledger, vault, height)?,
            head: head(ledger, vault, end)?,
            proof,
        }))
    });
    let answer = answer.await?;
    answer.map(Json).map_err(|ends| not_in_order(vault, ends))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ends {
    /// The height of the earlier end.
    from: u64,
    /// The latest block if it is not given.
    to: Option<u64>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn extension(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<Ends>,
) -> Answer<ExtensionAnswer> {
    let Path(vault) = vault?;
    let Query(Ends { from, to, read }) = params?;
    let answer = api.read_vault(read, vault, move |ledger, info| {
        let to = to.unwrap_or(info.height);
        let Some(proof) = ledger.prove_extension(vault, from, to)? else {
            return Ok(Err((from, to, info.height)));
        };
        Ok(Ok(ExtensionAnswer {
            from: head(ledger, vault, from)?,
            to: head(ledger, vault, to)?,
            proof,
        }))
    });
    let answer = answer.await?;
    answer.map(Json).map_err(|ends| not_in_order(vault, ends))
}

/// Why there is no proof from one height to another in a chain that ends at a third.
fn not_in_order(vault: u64, (from, to, last): (u64, u64, u64)) -> Problem {
    match from.max(to) {
        beyond if beyond > last => Problem::block_not_found(vault, beyond),
        _ => Problem::malformed(format!("block {from} is not before block {to}")),
    }
}
