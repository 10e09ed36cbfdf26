//! A queue that survives power loss, with jobs that come back if the worker does not finish them.

use folio_store::{Database, Table};

struct Waiting;
impl Table for Waiting {
    const NAME: &'static str = "waiting";
    type Key = u64;
    type Value = &'static str;
}

/// Jobs that somebody works on, and until when.
struct Taken;
impl Table for Taken {
    const NAME: &'static str = "taken";
    type Key = u64;
    type Value = (u64, &'static str);
}

fn push(db: &Database, job: &str) -> folio_store::Result<u64> {
    let txn = db.begin_write()?;
    let mut waiting = txn.table::<Waiting>()?;
    let last = waiting.last()?.map_or(0, |(number, _)| number);
    let taken = txn.table::<Taken>()?.last()?;
    let number = last.max(taken.map_or(0, |(number, _)| number)) + 1;
    waiting.insert(number, job)?;
    drop(waiting);
    txn.commit()?;
    Ok(number)
}

fn take(db: &Database, until: u64) -> folio_store::Result<Option<(u64, String)>> {
    let txn = db.begin_write()?;
    let job = txn.table::<Waiting>()?.pop_first()?;
    if let Some((number, job)) = &job {
        txn.table::<Taken>()?
            .insert(*number, (until, job.as_str()))?;
    }
    txn.commit()?;
    Ok(job)
}

/// Puts jobs back whose time is over.
fn put_back(db: &Database, now: u64) -> folio_store::Result<()> {
    let txn = db.begin_write()?;
    {
        let mut taken = txn.table::<Taken>()?;
        let mut waiting = txn.table::<Waiting>()?;
        for row in taken.extract_if::<u64, _>(.., |_, (until, _)| *until < now)? {
            let (number, (_, job)) = row?;
            waiting.insert(number, job.as_str())?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    push(&db, "bake")?;
    push(&db, "wash up")?;
    let (number, job) = take(&db, 10)?.expect("there are jobs");
    println!("took job {number}: {job}");
    put_back(&db, 11)?; // nobody finished it
    assert_eq!(take(&db, 30)?, Some((1, "bake".to_owned())));
    assert_eq!(take(&db, 30)?, Some((2, "wash up".to_owned())));
    assert_eq!(take(&db, 30)?, None);
    Ok(())
}
