//! Putting a difference into words, and finding out what it is about.

use folio_store::ReadTransaction;

use super::Difference;
use super::rows::{Scope, bucket_of, compare};
use crate::block::{BlockHeader, transactions_root};
use crate::command::{Action, Command};
use crate::digest::Digest;
use crate::error::Result;
use crate::read::LedgerView;
use crate::record::{Origin, Record};
use crate::response::Outcome;
use crate::state_key::StateKey;
use crate::transaction::Operation;

/// How many keys are named when it is not known which of them it is.
const MAX_NAMED: usize = 8;

/// What a transaction or the passing of time touched.
pub(super) type Touched = Vec<(StateKey, usize)>;

/// A block as it is stored.
pub(super) struct StoredBlock {
    /// Where it is stored, whatever its header says.
    pub(super) vault: u64,
    pub(super) height: u64,
    pub(super) header: BlockHeader,
    /// The records in their canonical encoding.
    pub(super) encoded: Vec<Vec<u8>>,
    pub(super) records: Vec<Record>,
    /// The hash of this block, as the block after it or the record of the vault has it.
    pub(super) referred: Digest,
}

impl StoredBlock {
    pub(super) fn is_referred_to(&self) -> bool {
        self.header.hash() == self.referred
    }

    /// Whether the records are those that the header commits to.
    pub(super) fn has_its_records(&self) -> bool {
        let root = transactions_root(self.encoded.iter().map(Vec::as_slice));
        root == self.header.transactions_root
    }
}

/// What the records of a block change.
pub(super) fn touched_by(records: &[Record]) -> Touched {
    let mut touched = Touched::new();
    for (position, record) in (0..).zip(records) {
        let operations = record.transaction.operations.iter();
        touched.extend(operations.map(|operation| (key_of(operation), position)));
    }
    touched
}

fn key_of(operation: &Operation) -> StateKey {
    match operation {
        Operation::SetEntity { key, .. } | Operation::DeleteEntity { key } => {
            StateKey::Entity(key.clone())
        }
        Operation::CreateRelationship(relationship)
        | Operation::DeleteRelationship(relationship) => {
            StateKey::Relationship(relationship.clone())
        }
    }
}

/// What differs between a stored record and the one that the replay came to, with the key if it is about one.
pub(super) fn record_differs(
    block: &StoredBlock,
    position: usize,
    replayed: Option<&[u8]>,
) -> Difference {
    let StoredBlock { vault, height, .. } = *block;
    let stored = block.records.get(position);
    let replayed = replayed.and_then(|row| Record::decode(row).ok());
    let word = |record: Option<&Record>| match record {
        None => "no record".to_owned(),
        Some(record) => match record.origin {
            Origin::Expiry => format!("the expiry of {} entities", record.outcomes.len()),
            _ => format!("a transaction of {} operations", record.outcomes.len()),
        },
    };
    let (words, ours) = (word(stored), word(replayed.as_ref()));
    let mut difference = Difference::new(
        vault,
        height,
        format!("transaction {position}"),
        words,
        ours,
    );
    let operations = |record: Option<&Record>| -> Vec<(Operation, Outcome)> {
        let of = |record: &Record| {
            (
                record.transaction.operations.clone(),
                record.outcomes.clone(),
            )
        };
        let (operations, outcomes) = record.map(of).unwrap_or_default();
        operations.into_iter().zip(outcomes).collect()
    };
    let (stored, replayed) = (operations(stored), operations(replayed.as_ref()));
    let longest = stored.len().max(replayed.len());
    let place = (0..longest).find(|&place| stored.get(place) != replayed.get(place));
    if let Some(place) = place {
        let outcome = |of: &[(Operation, Outcome)]| match of.get(place) {
            Some((_, outcome)) => format!("{outcome:?}"),
            None => "nothing".to_owned(),
        };
        difference.what = format!("what operation {place} of transaction {position} did");
        (difference.stored, difference.replayed) = (outcome(&stored), outcome(&replayed));
        let operation = replayed.get(place).or(stored.get(place));
        difference.key = operation.map(|(operation, _)| key_of(operation));
    }
    difference
}

/// Whether a header differs in what it says of the state.
pub(super) fn is_of_the_state(difference: &Difference) -> bool {
    let fields = [
        "the state root",
        "the number of entities",
        "the number of relationships",
    ];
    fields.contains(&&difference.what[..])
}

/// The first field in which two headers differ, and what each has there.
pub(super) fn first_field(
    stored: &BlockHeader,
    replayed: &BlockHeader,
) -> Option<(&'static str, String, String)> {
    let fields = [
        (
            "the vault",
            stored.vault.to_string(),
            replayed.vault.to_string(),
        ),
        (
            "the height",
            stored.height.to_string(),
            replayed.height.to_string(),
        ),
        (
            "the log index",
            stored.log_index.to_string(),
            replayed.log_index.to_string(),
        ),
        (
            "the term",
            stored.log_term.to_string(),
            replayed.log_term.to_string(),
        ),
        (
            "the time",
            stored.time.to_string(),
            replayed.time.to_string(),
        ),
        (
            "the previous block's hash",
            stored.previous.to_string(),
            replayed.previous.to_string(),
        ),
        (
            "the history root",
            stored.history_root.to_string(),
            replayed.history_root.to_string(),
        ),
        (
            "the number of transactions",
            stored.transactions.to_string(),
            replayed.transactions.to_string(),
        ),
        (
            "the transactions root",
            stored.transactions_root.to_string(),
            replayed.transactions_root.to_string(),
        ),
        (
            "the number of entities",
            stored.entities.to_string(),
            replayed.entities.to_string(),
        ),
        (
            "the number of relationships",
            stored.relationships.to_string(),
            replayed.relationships.to_string(),
        ),
        (
            "the state root",
            stored.state_root.to_string(),
            replayed.state_root.to_string(),
        ),
    ];
    fields
        .into_iter()
        .find(|(_, stored, replayed)| stored != replayed)
}

pub(super) fn hash_of(header: Option<BlockHeader>) -> String {
    header.map_or("missing".to_owned(), |header| header.hash().to_string())
}

/// What is at a key.
pub(super) fn content(view: &ReadTransaction, vault: u64, key: &StateKey) -> Result<String> {
    let ledger = LedgerView::new(view);
    Ok(match key {
        StateKey::Entity(key) => match ledger.entity(vault, key)? {
            None => "nothing".to_owned(),
            Some(entity) => {
                let value: Vec<u8> = entity.value.iter().take(40).copied().collect();
                let rest = if entity.value.len() > 40 { ".." } else { "" };
                let expiry = entity
                    .expires_at
                    .map_or(String::new(), |at| format!(", expiring at {at}"));
                let (version, hash) = (entity.version, Digest::of(&[&entity.value]));
                let hash = &hash.to_string()[..8];
                format!(
                    "version {version}{expiry} with \"{}\"{rest} ({hash})",
                    value.escape_ascii()
                )
            }
        },
        StateKey::Relationship(relationship) => {
            match ledger.relationship_exists(vault, relationship)? {
                true => "the relationship".to_owned(),
                false => "nothing".to_owned(),
            }
        }
    })
}

pub(super) fn transactions_differ(block: &StoredBlock) -> Difference {
    let StoredBlock { vault, height, .. } = *block;
    let root = transactions_root(block.encoded.iter().map(Vec::as_slice));
    Difference::new(
        vault,
        height,
        "the transactions",
        format!("{} with the root {root}", block.encoded.len()),
        format!(
            "{} with the root {}, as the header says",
            block.header.transactions, block.header.transactions_root
        ),
    )
}

/// Which of a block's records is not of a transaction in its log entry; `None` without the entry, or if all are.
pub(super) fn altered_transaction(
    block: &StoredBlock,
    commands: Option<Vec<Command>>,
) -> Option<Difference> {
    let StoredBlock { vault, height, .. } = *block;
    let mut sent = commands?.into_iter();
    let mut is_sent = |record: &Record| {
        // What was refused is in the log and not in the block.
        sent.any(|command| match command.action {
            Action::Submit(transaction) => {
                transaction == record.transaction && Origin::from(command.session) == record.origin
            }
            _ => false,
        })
    };
    let altered = block
        .records
        .iter()
        .position(|record| record.origin != Origin::Expiry && !is_sent(record))?;
    let stored = Digest::of(&[block.encoded.get(altered)?]);
    let what = format!("transaction {altered}");
    let difference = Difference::new(
        vault,
        height,
        what,
        stored,
        "none of those in the log entry",
    );
    Some(difference.note("the header commits to other transactions: this row was altered"))
}

/// Finds the key by which the state of a vault went another way.
pub(super) fn locate(
    (stored_view, replayed): (&ReadTransaction, &ReadTransaction),
    mut difference: Difference,
    touched: &Touched,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Difference> {
    let Some(vault) = difference.vault else {
        return Ok(difference);
    };
    for (key, position) in touched {
        let (stored, ours) = (
            content(stored_view, vault, key)?,
            content(replayed, vault, key)?,
        );
        if stored == ours {
            continue;
        }
        difference.bucket = Some(bucket_of(replayed, vault, key)?);
        difference.key = Some(key.clone());
        return Ok(difference.note(format!(
            "transaction {position} of the block changes this key; in the end {stored} is stored, and {ours} is what the replay came to"
        )));
    }
    let mut rows = |done, total| progress("rows", done, total);
    let others = compare(stored_view, replayed, Scope::Blocks, MAX_NAMED, &mut rows)?;
    let other = others
        .into_iter()
        .find(|other| other.vault == Some(vault) && other.key.is_some());
    if let Some(other) = other {
        let note = format!("it was not this block that changed it; in the end {other}");
        difference.bucket = other.bucket;
        difference.key = other.key;
        return Ok(difference.note(note));
    }
    let names: Vec<String> = touched
        .iter()
        .take(MAX_NAMED)
        .map(|(key, _)| key.to_string())
        .collect();
    let more = if touched.len() > MAX_NAMED {
        ", .."
    } else {
        ""
    };
    Ok(difference.note(format!(
        "in the end both states are equal; the block changes {}{more}",
        names.join(", ")
    )))
}
