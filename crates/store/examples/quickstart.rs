//! A table, a transaction, a view: what most programs need.

use folio_store::{Database, Table};

struct Stock;
impl Table for Stock {
    const NAME: &'static str = "stock";
    type Key = &'static str;
    type Value = u64;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("shop.folio");

    let db = Database::create(&path)?;
    let txn = db.begin_write()?;
    {
        let mut stock = txn.table::<Stock>()?;
        stock.insert("apples", 12)?;
        stock.insert("pears", 7)?;
        let old = stock.insert("apples", 11)?.expect("there were apples");
        assert_eq!(old.decode()?, 12);
    }
    txn.commit()?; // durable on return
    db.close()?;

    let db = Database::open(&path)?;
    let view = db.begin_read()?;
    let stock = view.table::<Stock>()?;
    assert_eq!(stock.get("apples")?, Some(11));
    for row in stock.iter()? {
        let (name, count) = row?;
        println!("{count:>3} {name}");
    }
    Ok(())
}
