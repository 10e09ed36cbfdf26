//! Many threads that write and read: commits share their syncs, and a view never changes.

use std::thread;

use folio_store::{Database, Table};

struct Visits;
impl Table for Visits {
    const NAME: &'static str = "visits";
    type Key = (u64, u64);
    type Value = ();
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Database::create(folder.path().join("visits.folio"))?;
    let before = db.begin_read()?;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let db = &db;
                scope.spawn(move || {
                    (0..20).try_for_each(|number| {
                        let txn = db.begin_write()?;
                        txn.table::<Visits>()?.insert((writer, number), ())?;
                        // Published here, so that the next writer goes on; then waits for the disk with the others.
                        txn.commit_with_ticket()?.wait()
                    })
                })
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().expect("no writer panics"))
    })?;
    let statistics = db.statistics();
    println!(
        "{} commits took {} syncs",
        statistics.commits, statistics.syncs
    );
    assert_eq!(before.table::<Visits>()?.len()?, 0, "the view is as it was");
    assert_eq!(db.begin_read()?.table::<Visits>()?.len()?, 160);
    Ok(())
}
