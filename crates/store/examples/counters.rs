//! Looking at a row and changing it: entries, and swaps that depend on what is there.

use folio_store::{Database, Entry, Table};

struct Counts;
impl Table for Counts {
    const NAME: &'static str = "counts";
    type Key = &'static str;
    type Value = u64;
}

/// Who holds a lock.
struct Locks;
impl Table for Locks {
    const NAME: &'static str = "locks";
    type Key = &'static str;
    type Value = &'static str;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    let mut counts = txn.table::<Counts>()?;
    for word in "to be or not to be".split(' ') {
        match counts.entry(word)? {
            Entry::Occupied(entry) => {
                let count = entry.get()?;
                entry.insert(count + 1)?;
            }
            Entry::Vacant(entry) => entry.insert(1)?,
        }
    }
    assert_eq!(counts.get("to")?, Some(2));
    let once = counts.retain(|_, count| *count > 1)?;
    println!("{once} words came once");

    let mut locks = txn.table::<Locks>()?;
    for worker in ["ada", "bob"] {
        match locks.compare_and_swap("printer", None, Some(&worker))? {
            Ok(()) => println!("{worker} has the printer"),
            Err(holder) => {
                let holder = holder.expect("somebody has it");
                println!("{worker} waits for {}", holder.view()?);
            }
        }
    }
    // Only who has the lock gives it back.
    assert!(
        locks
            .compare_and_swap("printer", Some(&"bob"), None)?
            .is_err()
    );
    assert!(
        locks
            .compare_and_swap("printer", Some(&"ada"), None)?
            .is_ok()
    );
    Ok(())
}
