//! The handlers of the ledger's routes.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Json, Path, Query, State};
use axum::http::Uri;
use folio_api::{
    Block, Entity, LastNumbers, MAX_LIMIT, NewNumbers, NewTransaction, NewVault, Numbers, Page,
    PastEntity, ReadLevel, Receipt, Relationship, RetentionSet, Vault, VaultChange, VaultCreated,
    VaultDeleted,
};
use folio_ledger::command::{Command, Counter};
use folio_ledger::response::Response;
use folio_ledger::{FeedItem, FeedPosition, Order, RelationshipList};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::command;
use super::openapi::Created;
use super::problem::Problem;
use super::read::{Read, key_in_path, page_limit};
use super::session::{Client, InSession};
use super::token::{List, place_of_relationship, relationship_of_place};
use crate::access::Caller;

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;
pub(super) type Params<T> = Result<Query<T>, QueryRejection>;
pub(super) type Place<T> = Result<Path<T>, PathRejection>;
pub(super) type Answer<T> = Result<Json<T>, Problem>;

pub(super) async fn create_vault(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Body<NewVault>,
) -> Result<Created<VaultCreated>, Problem> {
    let Json(of) = body?;
    let create = Command::create_vault_retaining(of.name, of.retention);
    match api.write_in(&client, of.session, create).await? {
        Response::VaultCreated { vault, log_index } => {
            Ok(Created(VaultCreated { vault, log_index }))
        }
        _ => Err(Problem::sequence_used()),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListVaults {
    after: Option<String>,
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: Option<usize>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn list_vaults(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    params: Params<ListVaults>,
) -> Answer<Page<Vault>> {
    let ListVaults { after, limit, read } = params?.0;
    let limit = page_limit(limit)?;
    let list = List::vaults();
    let after = api.place(&list, after.as_deref()).await?;
    let after = after.map_or(Ok(0), |place| number_of_place(&place))?;
    let readable = caller.readable()?;
    // One more than the page has tells whether there is another.
    let mut items = api
        .read(read, move |ledger| match readable {
            None => ledger.vaults(after, limit + 1),
            Some(vaults) => {
                let rest = vaults.into_iter().filter(|vault| *vault > after);
                let found = rest.filter_map(|vault| ledger.vault(vault).transpose());
                found.take(limit + 1).collect()
            }
        })
        .await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|info| info.vault.to_be_bytes().to_vec());
    Ok(Json(Page {
        items: items.into_iter().map(command::vault).collect(),
        next: api.token(&list, next).await?,
    }))
}

fn number_of_place(place: &[u8]) -> Result<u64, Problem> {
    let number = place.try_into().map(u64::from_be_bytes);
    number.map_err(|_| foreign_place())
}

fn foreign_place() -> Problem {
    Problem::internal("a page token that this ledger made has a place of another list in it")
}

pub(super) async fn get_vault(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<Read>,
) -> Answer<Vault> {
    let Path(vault) = vault?;
    let found = api.read_vault(params?.read, vault, |_, info| Ok(info));
    Ok(Json(command::vault(found.await?)))
}

pub(super) async fn change_vault(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    vault: Place<u64>,
    body: Body<VaultChange>,
) -> Answer<RetentionSet> {
    let Path(vault) = vault?;
    let Json(of) = body?;
    let change = Command::set_retention(vault, of.retention);
    match api.write_in(&client, of.session, change).await? {
        Response::RetentionSet { vault, retention } => Ok(Json(RetentionSet { vault, retention })),
        _ => Err(Problem::sequence_used()),
    }
}

pub(super) async fn delete_vault(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    vault: Place<u64>,
    params: Params<InSession>,
) -> Answer<VaultDeleted> {
    let Path(vault) = vault?;
    let session = params?.0.place()?;
    let delete = Command::delete_vault(vault);
    match api.write_in(&client, session, delete).await? {
        Response::VaultDeleted {
            vault,
            height,
            block_hash,
            log_index,
        } => Ok(Json(VaultDeleted {
            vault,
            height,
            block_hash,
            log_index,
        })),
        _ => Err(Problem::sequence_used()),
    }
}

pub(super) async fn allocate_numbers(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Body<NewNumbers>,
) -> Result<Created<Numbers>, Problem> {
    let Json(of) = body?;
    let allocate = Command::allocate_numbers(command::ledger_counter(of.counter), of.count);
    match api.write_in(&client, of.session, allocate).await? {
        Response::NumbersAllocated {
            counter,
            first,
            count,
        } => Ok(Created(Numbers {
            counter: command::counter(counter)
                .ok_or_else(|| Problem::internal("numbers of nodes were not asked for"))?,
            first,
            count,
        })),
        _ => Err(Problem::sequence_used()),
    }
}

pub(super) async fn last_numbers(
    State(api): State<Api>,
    params: Params<Read>,
) -> Answer<LastNumbers> {
    let last = api.read(params?.read, |ledger| {
        Ok(LastNumbers {
            organization: ledger.last_allocated(Counter::Organization)?,
            user: ledger.last_allocated(Counter::User)?,
        })
    });
    Ok(Json(last.await?))
}

pub(super) async fn submit(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    vault: Place<u64>,
    body: Body<NewTransaction>,
) -> Answer<Receipt> {
    let Path(vault) = vault?;
    let Json(mut of) = body?;
    let session = of.session.take();
    let submit = command::submit(vault, of);
    match api.write_in(&client, session, submit).await? {
        Response::Committed(receipt) => Ok(Json(command::receipt(receipt))),
        _ => Err(Problem::sequence_used()),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListEntities {
    /// What the keys begin with.
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: Option<usize>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn list_entities(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<ListEntities>,
) -> Answer<Page<Entity>> {
    let Path(vault) = vault?;
    let ListEntities {
        prefix,
        after,
        limit,
        read,
    } = params?.0;
    let limit = page_limit(limit)?;
    let list = List::entities(vault, &prefix);
    let after = api.place(&list, after.as_deref()).await?;
    let page = api
        .read_vault(read, vault, move |ledger, _| {
            ledger.entities(vault, prefix.as_bytes(), after.as_deref(), limit)
        })
        .await?;
    let items = page.items.into_iter();
    Ok(Json(Page {
        items: items
            .map(|(key, entity)| Entity::new(key, entity))
            .collect(),
        next: api.token(&list, page.next).await?,
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadEntity {
    /// For what the entity was as of this height, as far back as the vault retains it.
    height: Option<u64>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn get_entity(
    State(api): State<Api>,
    place: Place<(u64, String)>,
    uri: Uri,
    params: Params<ReadEntity>,
) -> Answer<Entity> {
    let ReadEntity { height, read } = params?.0;
    let (vault, key) = entity_in_path(place, &uri)?;
    let wanted = key.clone();
    let found = api
        .read_vault(read, vault, move |ledger, _| match height {
            None => ledger.entity(vault, &wanted).map(Ok),
            Some(height) => ledger.entity_at(vault, &wanted, height),
        })
        .await??;
    match found {
        Some(entity) => Ok(Json(Entity::new(key, entity))),
        None => Err(Problem::entity_not_found(vault, &key)),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadHistory {
    /// The height to begin with.
    #[serde(default)]
    from: u64,
    after: Option<String>,
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: Option<usize>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn entity_history(
    State(api): State<Api>,
    place: Place<(u64, String)>,
    uri: Uri,
    params: Params<ReadHistory>,
) -> Answer<Page<PastEntity>> {
    let ReadHistory {
        from,
        after,
        limit,
        read,
    } = params?.0;
    let (vault, key) = entity_in_path(place, &uri)?;
    let limit = page_limit(limit)?;
    let list = List::history(vault, &key);
    let after = api.place(&list, after.as_deref()).await?;
    let from = after.map_or(Ok(from), |place| number_of_place(&place))?;
    let wanted = key.clone();
    let page = api
        .read_vault(read, vault, move |ledger, _| {
            ledger.entity_history(vault, &wanted, from, limit)
        })
        .await?;
    let next = page.next.map(|from| from.to_be_bytes().to_vec());
    let items = page.items.into_iter();
    Ok(Json(Page {
        items: items.map(|past| command::past_entity(&key, past)).collect(),
        next: api.token(&list, next).await?,
    }))
}

/// The vault and the key in a path. The key is taken from it as it was sent, because a decoded path has to be text.
fn entity_in_path(place: Place<(u64, String)>, uri: &Uri) -> Result<(u64, Vec<u8>), Problem> {
    let vault = match place {
        Ok(Path((vault, _))) => vault,
        Err(rejection) => vault_in_path(uri.path()).ok_or(rejection)?,
    };
    Ok((vault, key_in_path(uri.path(), 5)?))
}

/// The vault in a path whose key is not text.
pub(super) fn vault_in_path(path: &str) -> Option<u64> {
    path.split('/').nth(3)?.parse().ok()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRelationships {
    /// Those of this resource; not together with `subject`.
    resource: Option<String>,
    /// Those of this subject.
    subject: Option<String>,
    /// Those of this relation.
    relation: Option<String>,
    /// From which end.
    #[serde(default)]
    order: ListOrder,
    after: Option<String>,
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: Option<usize>,
    #[serde(default)]
    read: ReadLevel,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ListOrder {
    #[default]
    Forwards,
    Backwards,
}

pub(super) async fn list_relationships(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<ListRelationships>,
) -> Answer<Page<Relationship>> {
    let Path(vault) = vault?;
    let ListRelationships {
        resource,
        subject,
        relation,
        order,
        after,
        limit,
        read,
    } = params?.0;
    if resource.is_some() && subject.is_some() {
        return Err(Problem::malformed(
            "name a `resource` or a `subject`, not both",
        ));
    }
    let limit = page_limit(limit)?;
    let order = match order {
        ListOrder::Forwards => Order::Forwards,
        ListOrder::Backwards => Order::Backwards,
    };
    let names = [resource.as_deref(), relation.as_deref(), subject.as_deref()];
    let list = List::relationships(vault, names, order);
    let after = api.place(&list, after.as_deref()).await?;
    let after = after
        .map(|place| relationship_of_place(&place).ok_or_else(foreign_place))
        .transpose()?;
    let page = api
        .read_vault(read, vault, move |ledger, _| {
            let relation = relation.as_deref();
            let of = match (resource.as_deref(), subject.as_deref(), relation) {
                (Some(resource), _, relation) => RelationshipList::OfResource(resource, relation),
                (None, Some(subject), relation) => RelationshipList::OfSubject(subject, relation),
                (None, None, Some(relation)) => RelationshipList::OfRelation(relation),
                (None, None, None) => RelationshipList::All,
            };
            ledger.relationships(vault, of, order, after.as_ref(), limit)
        })
        .await?;
    let next = page.next.as_ref().map(place_of_relationship);
    Ok(Json(Page {
        items: page.items.into_iter().map(Into::into).collect(),
        next: api.token(&list, next).await?,
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadBlock {
    /// The position of the first transaction to show.
    #[serde(default)]
    from: u32,
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: Option<usize>,
    #[serde(default)]
    read: ReadLevel,
}

pub(super) async fn get_block(
    State(api): State<Api>,
    place: Place<(u64, u64)>,
    params: Params<ReadBlock>,
) -> Answer<Block> {
    let Path((vault, height)) = place?;
    let ReadBlock { from, limit, read } = params?.0;
    let limit = page_limit(limit)?;
    let found = api
        .read_vault(read, vault, move |ledger, _| {
            let Some(header) = ledger.block(vault, height)? else {
                return Ok(None);
            };
            let before = match from.checked_sub(1) {
                None => FeedPosition::before(height),
                Some(before) => Some(FeedPosition {
                    height,
                    transaction: Some(before),
                }),
            };
            let items = ledger.feed(vault, before, limit)?;
            let rest = items.into_iter().map_while(|item| match item {
                FeedItem::Transaction { record, .. } => Some(record),
                FeedItem::Block(_) => None,
            });
            Ok(Some(Block::new(header, from, rest)))
        })
        .await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::block_not_found(vault, height))
}
