//! How the demo keeps purchases in a ledger: the names of the entities and what is in them.
//!
//! | item | key | value |
//! |---|---|---|
//! | a purchase | `purchase:00000001`, by its place in the file | `{"date":"1997-01-01","customer":4,"discs":2,"cents":2933}` |
//! | a customer's totals | `customer:4` | `{"purchases":1,"discs":2,"cents":2933}` |
//! | whose purchase it is | resource `customer:4`, relation `purchase`, subject `purchase:00000001` | |

use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::{Requirement, Transaction};
use serde::{Deserialize, Serialize};

use super::data::Purchase;

pub const PURCHASE_PREFIX: &str = "purchase:";
pub const CUSTOMER_PREFIX: &str = "customer:";
const RELATION: &str = "purchase";

/// The value of a purchase.
#[derive(Debug, Serialize, Deserialize)]
pub struct PurchaseRow {
    pub date: String,
    pub customer: u64,
    pub discs: u64,
    pub cents: u64,
}

/// The value of a customer: running totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRow {
    pub purchases: u64,
    pub discs: u64,
    pub cents: u64,
}

impl CustomerRow {
    /// The totals with one purchase more.
    pub fn with(self, purchase: &Purchase) -> Self {
        // The sums over all purchases were found to fit.
        CustomerRow {
            purchases: self.purchases + 1,
            discs: self.discs + purchase.discs,
            cents: self.cents + purchase.cents,
        }
    }
}

/// The transaction of a purchase, `place` of the file counted from 1. The customer's totals are replaced only if they
/// still are `totals`, which is what the customer's version says: it is one for each purchase.
pub fn transaction(
    vault: u64,
    place: usize,
    purchase: &Purchase,
    totals: CustomerRow,
) -> Transaction {
    let Purchase {
        date,
        customer,
        discs,
        cents,
    } = purchase;
    let purchase_key = format!("{PURCHASE_PREFIX}{place:08}");
    let customer_key = format!("{CUSTOMER_PREFIX}{customer}");
    let row = PurchaseRow {
        date: date.to_string(),
        customer: *customer,
        discs: *discs,
        cents: *cents,
    };
    let unchanged = match totals.purchases {
        0 => Requirement::MustNotExist,
        version => Requirement::VersionIs(version),
    };
    Transaction::new(vault)
        .require_entity(&purchase_key[..], Requirement::MustNotExist)
        .require_entity(&customer_key[..], unchanged)
        .set(&purchase_key[..], json(&row))
        .set(&customer_key[..], json(&totals.with(purchase)))
        .relate(Relationship::new(customer_key, RELATION, purchase_key))
}

fn json(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row of integers and text has a JSON form")
}
