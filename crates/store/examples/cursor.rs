//! A cursor that leaps: what two sorted tables have in common.

use folio_store::{Database, Table};

struct Customers;
impl Table for Customers {
    const NAME: &'static str = "customers";
    type Key = u64;
    type Value = ();
}

struct Debtors;
impl Table for Debtors {
    const NAME: &'static str = "debtors";
    type Key = u64;
    type Value = i64;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    let mut customers = txn.table::<Customers>()?;
    let mut debtors = txn.table::<Debtors>()?;
    (0..10_000).try_for_each(|id| customers.insert(id, ()).map(drop))?;
    for id in [3, 4_000, 9_999, 20_000] {
        debtors.insert(id, -100)?;
    }

    // Each cursor goes where the other one is, so the rows between are never looked at.
    let (mut left, mut right) = (customers.cursor(), debtors.cursor());
    let mut common = Vec::new();
    while let Some((id, _)) = right.next()? {
        left.seek(id)?;
        match left.next()? {
            Some((found, ())) if found == id => common.push(id),
            Some((found, ())) => right.seek(found)?,
            None => break,
        }
    }
    println!("customers with debts: {common:?}");
    assert_eq!(common, [3, 4_000, 9_999]);
    Ok(())
}
