//! What the demo checks at the end, on every node and from the node's own rows.

use folio_ledger::digest::Digest;
use folio_ledger::verify::{VerifyError, verify_chain, verify_state};
use folio_ledger::{LedgerView, limits::MAX_PAGE};
use folio_node::Node;
use folio_raft::{NodeId, ReadLevel};
use folio_store::ReadTransaction;
use serde::de::DeserializeOwned;

use super::data::Totals;
use super::rows::{CUSTOMER_PREFIX, CustomerRow, PURCHASE_PREFIX, PurchaseRow};
use crate::run::Failure;

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub height: u64,
    pub state_root: Digest,
    pub block_hash: Digest,
    /// Added up from the purchases.
    pub totals: Totals,
}

/// Checks one node: the totals from its rows, its chain from the first block to the last, and its state root
/// recomputed from everything in the state.
pub async fn check(node: &Node, vault: u64, expected: Totals) -> Result<Found, Failure> {
    let id = node.id();
    let read = move |view: &ReadTransaction| examine(view, vault, expected);
    let examined = node
        .ledger()
        .read(ReadLevel::Local, read)
        .await
        .map_err(|error| Failure::Error(format!("node {id}: {error}")))?;
    examined.map_err(|problem| Failure::Corruption(Some(format!("node {id}: {problem}"))))
}

fn examine(view: &ReadTransaction, vault: u64, expected: Totals) -> Result<Found, Problem> {
    let ledger = LedgerView::new(view);
    let mut totals = Totals::default();
    each(&ledger, vault, PURCHASE_PREFIX, |purchase: PurchaseRow| {
        totals.purchases += 1;
        totals.discs += purchase.discs;
        totals.cents += purchase.cents;
    })?;
    let mut running = Totals::default();
    each(&ledger, vault, CUSTOMER_PREFIX, |customer: CustomerRow| {
        running.customers += 1;
        running.purchases += customer.purchases;
        running.discs += customer.discs;
        running.cents += customer.cents;
    })?;
    totals.customers = running.customers;
    if totals != expected {
        return Err(Problem::Totals {
            what: "the purchases",
            found: totals,
            expected,
        });
    }
    if running != expected {
        return Err(Problem::Totals {
            what: "the customers' totals",
            found: running,
            expected,
        });
    }
    let chain = verify_chain(view, vault, &mut |_, _| {})?;
    let state = verify_state(view, vault, &mut |_, _| {})?;
    if state.relationships != expected.purchases || chain.transactions != expected.purchases {
        return Err(Problem::Counts {
            relationships: state.relationships,
            transactions: chain.transactions,
            expected: expected.purchases,
        });
    }
    Ok(Found {
        height: chain.blocks - 1,
        state_root: state.state_root,
        block_hash: chain.head,
        totals,
    })
}

/// Calls `add` with every row whose key has the prefix.
fn each<T: DeserializeOwned>(
    ledger: &LedgerView<'_>,
    vault: u64,
    prefix: &str,
    mut add: impl FnMut(T),
) -> Result<(), Problem> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = ledger
            .entities(vault, prefix.as_bytes(), after.as_deref(), MAX_PAGE)
            .map_err(VerifyError::from)?;
        for (key, entity) in &page.items {
            let row = serde_json::from_slice(&entity.value).map_err(|error| Problem::Row {
                key: key.escape_ascii().to_string(),
                reason: error.to_string(),
            })?;
            add(row);
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Checks that all nodes have the same, and returns what that is.
pub fn agree(found: &[(NodeId, Found)]) -> Result<&Found, Failure> {
    let [(first, reference), others @ ..] = found else {
        return Err(Failure::Error("no node is left to check".to_owned()));
    };
    match others.iter().find(|(_, found)| found != reference) {
        None => Ok(reference),
        Some((other, found)) => Err(Failure::Corruption(Some(format!(
            "nodes {first} and {other} disagree: height {} and {}, state root {} and {}, block hash {} and {}",
            reference.height,
            found.height,
            reference.state_root,
            found.state_root,
            reference.block_hash,
            found.block_hash
        )))),
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{what} add up to {found:?}, the data to {expected:?}")]
    Totals {
        what: &'static str,
        found: Totals,
        expected: Totals,
    },
    #[error(
        "{relationships} relationships and {transactions} transactions for {expected} purchases"
    )]
    Counts {
        relationships: u64,
        transactions: u64,
        expected: u64,
    },
    #[error("the row {key} does not decode: {reason}")]
    Row { key: String, reason: String },
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
