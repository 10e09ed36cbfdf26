//! Keys and values of one's own types: newtypes, tuples, serde types.

use folio_store::{Database, Newtype, Postcard, Table};
use serde::{Deserialize, Serialize};

/// A customer's number. It cannot be mistaken for any other number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Customer(u64);

impl Newtype for Customer {
    const NAME: &'static str = "Customer";
    type Inner = u64;

    fn inner(&self) -> u64 {
        self.0
    }

    fn from_inner(inner: u64) -> Option<Self> {
        Some(Self(inner))
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Order {
    item: String,
    cents: u64,
    note: Option<String>,
}

/// Orders by customer, then by day.
struct Orders;
impl Table for Orders {
    const NAME: &'static str = "orders";
    type Key = (Customer, u32);
    type Value = Postcard<Order>;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    let mut orders = txn.table::<Orders>()?;
    for (customer, day, item) in [(1, 20, "tea"), (2, 21, "milk"), (1, 22, "honey")] {
        let order = Order {
            item: item.to_owned(),
            cents: 450,
            note: None,
        };
        orders.insert((Customer(customer), day), order)?;
    }

    // The first element of a tuple finds all keys that begin with it.
    for row in orders.prefix((Customer(1),))? {
        let ((_, day), order) = row?;
        println!("day {day}: {} for {} cents", order.item, order.cents);
    }
    assert_eq!(orders.prefix((Customer(1),))?.count(), 2);
    Ok(())
}
