//! Loading much sorted data, and values too long for memory.

use std::io::Read;

use folio_store::{Database, Table};

struct Readings;
impl Table for Readings {
    const NAME: &'static str = "readings";
    type Key = u64;
    type Value = i32;
}

struct Files;
impl Table for Files {
    const NAME: &'static str = "files";
    type Key = &'static str;
    type Value = &'static [u8];
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    {
        let mut readings = txn.table::<Readings>()?;
        let mut loader = readings.loader()?;
        for second in 0..100_000u64 {
            loader.push(second, (second % 40) as i32 - 10)?;
        }
        loader.finish()?;
        let statistics = readings.statistics()?;
        println!(
            "{} rows, leaves {:.1} % full",
            statistics.rows,
            statistics.fill() * 100.0
        );
        assert!(statistics.fill() > 0.9);

        // Ten megabytes that are never in memory as a whole.
        let length = 10_000_000;
        let mut source = std::io::repeat(b'x').take(length);
        let mut files = txn.table::<Files>()?;
        files.insert_reserve("large", length as usize, |part| source.read_exact(part))?;
    }
    txn.commit()?;
    Ok(())
}
