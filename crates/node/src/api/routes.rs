//! The handlers of the ledger's routes.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Json, Path, Query, State};
use axum::http::{StatusCode, Uri};
use folio_ledger::VaultInfo;
use folio_ledger::command::Command;
use folio_ledger::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::json::{
    BlockJson, EntityJson, NewTransaction, NewVault, Page, ReceiptJson, RelationshipJson,
};
use super::problem::Problem;
use super::read::{
    Level, Read, bytes_of_token, key_in_path, page, page_limit, relationship_of_token,
    token_of_bytes, token_of_relationship,
};

type Body<T> = Result<Json<T>, JsonRejection>;
type Params<T> = Result<Query<T>, QueryRejection>;
type Place<T> = Result<Path<T>, PathRejection>;
type Answer<T> = Result<Json<T>, Problem>;

pub(super) async fn open_session(
    State(api): State<Api>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    match api.write(Command::open_session()).await? {
        Response::SessionOpened { session } => {
            Ok((StatusCode::CREATED, Json(json!({ "session": session }))))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn create_vault(
    State(api): State<Api>,
    body: Body<NewVault>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    match api.write(body?.0.command()).await? {
        Response::VaultCreated { vault, log_index } => Ok((
            StatusCode::CREATED,
            Json(json!({ "vault": vault, "log_index": log_index })),
        )),
        other => Err(unexpected(&other)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListVaults {
    after: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    read: Level,
}

pub(super) async fn list_vaults(
    State(api): State<Api>,
    params: Params<ListVaults>,
) -> Answer<Page<VaultInfo>> {
    let ListVaults { after, limit, read } = params?.0;
    let limit = page_limit(limit)?;
    let rows = api
        .read(read, move |ledger| {
            ledger.vaults(after.unwrap_or(0), limit + 1)
        })
        .await?;
    Ok(Json(page(
        rows,
        limit,
        |row| row.vault.to_string(),
        |row| row,
    )))
}

pub(super) async fn get_vault(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<Read>,
) -> Answer<VaultInfo> {
    let Path(vault) = vault?;
    let found = api
        .read(params?.read, move |ledger| ledger.vault(vault))
        .await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::vault_not_found(vault))
}

pub(super) async fn submit(
    State(api): State<Api>,
    vault: Place<u64>,
    body: Body<NewTransaction>,
) -> Answer<ReceiptJson> {
    let Path(vault) = vault?;
    match api.write(body?.0.command(vault)).await? {
        Response::Committed(receipt) => Ok(Json(receipt.into())),
        other => Err(unexpected(&other)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListEntities {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    read: Level,
}

pub(super) async fn list_entities(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<ListEntities>,
) -> Answer<Page<EntityJson>> {
    let Path(vault) = vault?;
    let ListEntities {
        prefix,
        after,
        limit,
        read,
    } = params?.0;
    let limit = page_limit(limit)?;
    let after = after.as_deref().map(bytes_of_token).transpose()?;
    let rows = api
        .read(read, move |ledger| match ledger.vault(vault)? {
            None => Ok(None),
            Some(_) => ledger
                .entities(vault, prefix.as_bytes(), after.as_deref(), limit + 1)
                .map(Some),
        })
        .await?
        .ok_or_else(|| Problem::vault_not_found(vault))?;
    Ok(Json(page(
        rows,
        limit,
        |(key, _)| token_of_bytes(key),
        |(key, entity)| EntityJson::new(key, entity),
    )))
}

pub(super) async fn get_entity(
    State(api): State<Api>,
    place: Place<(u64, String)>,
    uri: Uri,
    params: Params<Read>,
) -> Answer<EntityJson> {
    // The key is taken from the path as it was sent, because a decoded path has to be text.
    let vault = match place {
        Ok(Path((vault, _))) => vault,
        Err(rejection) => vault_in_path(uri.path()).ok_or(rejection)?,
    };
    let key = key_in_path(uri.path())?;
    let wanted = key.clone();
    let (vault_exists, found) = api
        .read(params?.read, move |ledger| {
            Ok((
                ledger.vault(vault)?.is_some(),
                ledger.entity(vault, &wanted)?,
            ))
        })
        .await?;
    match found {
        Some(entity) => Ok(Json(EntityJson::new(key, entity))),
        None if vault_exists => Err(Problem::entity_not_found(vault, &key)),
        None => Err(Problem::vault_not_found(vault)),
    }
}

fn vault_in_path(path: &str) -> Option<u64> {
    path.split('/').nth(3)?.parse().ok()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRelationships {
    resource: Option<String>,
    subject: Option<String>,
    relation: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    read: Level,
}

pub(super) async fn list_relationships(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<ListRelationships>,
) -> Answer<Page<RelationshipJson>> {
    let Path(vault) = vault?;
    let ListRelationships {
        resource,
        subject,
        relation,
        after,
        limit,
        read,
    } = params?.0;
    let limit = page_limit(limit)?;
    let after = after.as_deref().map(relationship_of_token).transpose()?;
    let (of_resource, name) = match (resource, subject) {
        (Some(resource), None) => (true, resource),
        (None, Some(subject)) => (false, subject),
        _ => {
            return Err(Problem::malformed(
                "name either a `resource` or a `subject`",
            ));
        }
    };
    let rows = api
        .read(read, move |ledger| {
            if ledger.vault(vault)?.is_none() {
                return Ok(None);
            }
            let (relation, after) = (relation.as_deref(), after.as_ref());
            let rows = if of_resource {
                ledger.relationships_of_resource(vault, &name, relation, after, limit + 1)?
            } else {
                ledger.relationships_of_subject(vault, &name, relation, after, limit + 1)?
            };
            Ok(Some(rows))
        })
        .await?
        .ok_or_else(|| Problem::vault_not_found(vault))?;
    Ok(Json(page(rows, limit, token_of_relationship, Into::into)))
}

pub(super) async fn get_block(
    State(api): State<Api>,
    place: Place<(u64, u64)>,
    params: Params<Read>,
) -> Answer<BlockJson> {
    let Path((vault, height)) = place?;
    let found = api
        .read(params?.read, move |ledger| {
            let Some(header) = ledger.block(vault, height)? else {
                return Ok(Err(ledger.vault(vault)?.is_some()));
            };
            Ok(Ok(BlockJson::new(
                header,
                ledger.transactions(vault, height)?,
            )))
        })
        .await?;
    found.map(Json).map_err(|vault_exists| match vault_exists {
        true => Problem::block_not_found(vault, height),
        false => Problem::vault_not_found(vault),
    })
}

/// The ledger answers each kind of command in one way.
fn unexpected(response: &Response) -> Problem {
    Problem::internal(format!("the ledger answered a command with {response:?}"))
}
