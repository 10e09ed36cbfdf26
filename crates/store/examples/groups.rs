//! A log and the state that follows from it: only the log is written with every commit.

use folio_store::{Database, Durability, Group, Table};

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = (u64, i64);
}

/// Balances by account. They can be made again from the log.
struct Balances;
impl Table for Balances {
    const NAME: &'static str = "balances";
    const GROUP: Group = Group::new(2);
    type Key = u64;
    type Value = i64;
}

/// How much of the log the balances contain.
struct Applied;
impl Table for Applied {
    const NAME: &'static str = "applied";
    const GROUP: Group = Group::new(2);
    type Key = ();
    type Value = u64;
}

fn record(db: &Database, account: u64, cents: i64) -> folio_store::Result<()> {
    let txn = db.begin_write()?;
    let mut log = txn.table::<Log>()?;
    let next = log.last()?.map_or(0, |(number, _)| number + 1);
    log.insert(next, (account, cents))?;
    drop(log);
    txn.commit()?; // one sync, of the log alone
    apply(db)
}

/// Brings the balances up to the log: after each record, and after a crash.
fn apply(db: &Database) -> folio_store::Result<()> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Eventual);
    {
        let mut balances = txn.table::<Balances>()?;
        let mut applied = txn.table::<Applied>()?;
        let from = applied.get(())?.map_or(0, |number| number + 1);
        for row in txn.table::<Log>()?.range(from..)? {
            let (number, (account, cents)) = row?;
            let balance = balances.get(account)?.unwrap_or(0);
            balances.insert(account, balance + cents)?;
            applied.insert((), number)?;
        }
    }
    txn.commit()?; // no system call
    Ok(())
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bank.folio");
    let db = Database::create(&path)?;
    for number in 0..20 {
        record(&db, number % 3, 100)?;
    }
    db.checkpoint(Group::new(2).into())?; // from here on a crash need not replay these
    record(&db, 0, 7)?;
    drop(db);

    let db = Database::open(&path)?;
    apply(&db)?;
    let view = db.begin_read()?;
    assert_eq!(view.table::<Balances>()?.get(0)?, Some(707));
    println!("account 0 has 707 cents");
    Ok(())
}
