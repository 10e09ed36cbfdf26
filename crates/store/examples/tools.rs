//! What a tool does that knows no types: list, look, rename, delete, verify, compact.

use std::ops::ControlFlow;

use folio_store::{CompactOptions, Database, Table, TableDefinition};

struct Old;
impl Table for Old {
    const NAME: &'static str = "old";
    type Key = u32;
    type Value = [u8; 100];
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    let mut old = txn.table::<Old>()?;
    (0..5_000).try_for_each(|key| old.insert(key, [7; 100]).map(drop))?;
    drop(old);
    txn.rename_table(&TableDefinition::of::<Old>(), "renamed")?;
    txn.commit()?;

    let view = db.begin_read()?;
    for table in view.tables()? {
        let rows = view.untyped(&table)?;
        let statistics = rows.statistics()?;
        println!(
            "{}: {} to {}, {} rows on {} levels, {} pages {:.0} % full",
            table.name,
            table.key_type,
            table.value_type,
            statistics.rows,
            statistics.depth,
            statistics.pages(),
            statistics.fill() * 100.0,
        );
        for row in rows.iter()?.take(2) {
            let (key, value) = row?;
            println!("  {key:02x?}: {} bytes", value.len());
        }
    }
    drop(view);

    let txn = db.begin_write()?;
    for table in txn.tables()? {
        txn.delete_table(&table)?;
    }
    txn.commit()?;
    db.compact(CompactOptions::new(), |_, _| ControlFlow::Continue(()))?;
    let report = db.verify(|_, _| {})?;
    assert!(report.problems.is_empty());
    println!("{} pages are left in use", report.pages);
    Ok(())
}
