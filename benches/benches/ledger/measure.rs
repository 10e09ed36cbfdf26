//! Measuring one size of a vault. What is compared takes turns within one run, and of the turns the median counts.

use std::{fs, path::Path, time::Duration};

use folio_ledger::{
    Ledger, LedgerView, command::Command, response::Response, transaction::Transaction,
};
use folio_proof::digest::count::hashes_of;
use folio_raft::Applied;
use folio_store::{Database, Durability, GroupSet};

use super::{
    Options,
    load::{Load, VAULT},
    time::Time,
    unproved::{Unproved, commitments},
};

/// Operations in a turn, at least.
const TURN: u64 = 20_000;
/// Operations in a turn, where each is a log entry.
const TURN_OF_SINGLES: u64 = 2_000;
const READS: u32 = 50_000;
const PROOFS: u32 = 5_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What one size of a vault costs.
pub struct Scale {
    pub items: u64,
    /// Operations a second while the vault was filled, checkpoints included.
    pub filled: f64,
    pub batches: Vec<Batch>,
    pub reads: Reads,
    pub proofs: Proofs,
    /// The rows and bytes that hold the commitments.
    pub commitments: (u64, u64),
    /// Bytes of the file.
    pub file: u64,
}

/// What transactions of one size cost, for each operation.
pub struct Batch {
    pub operations: u64,
    pub with_roots: Cost,
    pub without: Cost,
}

/// The medians over the turns, for each operation.
#[derive(Clone, Copy)]
pub struct Cost {
    pub apply: Duration,
    /// What it takes to make durable what a turn has changed.
    pub checkpoint: Duration,
    /// Pages written by that.
    pub pages: f64,
    /// Hashes that it computes.
    pub hashes: f64,
}

pub struct Reads {
    pub entity: Duration,
    pub relationship: Duration,
    /// For each entity of a page of a hundred.
    pub listed: Duration,
}

pub struct Proofs {
    pub build: Duration,
    pub verify: Duration,
    pub mean_bytes: f64,
    pub most_bytes: usize,
    pub counted: u32,
}

/// A ledger, as a node has it.
struct Proved {
    database: Database,
    index: u64,
}

impl Proved {
    /// Applies a command as a log entry of its own.
    fn apply(&mut self, command: Command) -> Outcome<Response> {
        self.index += 1;
        let at = Applied {
            index: self.index,
            term: 1,
            position: 0,
            time: self.index,
        };
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        let response = Ledger.apply_entry(&txn, at, std::slice::from_ref(&command))?;
        txn.commit()?;
        response.into_iter().next().ok_or("no answer".into())
    }

    fn commit(&mut self, transaction: Transaction) -> Outcome<()> {
        match self.apply(Command::submit(transaction))? {
            Response::Committed(_) => Ok(()),
            other => Err(format!("a transaction was answered with {other:?}").into()),
        }
    }
}

pub fn measure(options: &Options, scale: u64) -> Outcome<Scale> {
    let folder = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let (path, copy) = (folder.path().join("proved"), folder.path().join("unproved"));
    let mut load = Load::new(scale);
    let (filled, height) = fill(options, &path, scale, &mut load)?;
    fs::copy(&path, &copy)?;
    let mut proved = Proved {
        database: open(options, &path)?,
        index: height + 1,
    };
    let mut unproved = Unproved::on(open(options, &copy)?, height)?;
    // Every page has been read once and changed once before anything counts, if there are not too many of them.
    let warm_up = scale.clamp(TURN, 200_000);
    let time = options.time;
    let mut both = (&mut proved, &mut unproved);
    turn(time, &mut load, 1000, warm_up, &mut both, true)?;
    let mut batches = Vec::new();
    for &operations in &options.batches {
        batches.push(batch(options, operations, &mut load, &mut both)?);
    }
    let view = proved.database.begin_read()?;
    let vault = LedgerView::new(&view).vault(VAULT)?.ok_or("no vault")?;
    if (vault.entities, vault.relationships) != unproved.items()? {
        return Err("what is measured beside the ledger does other things".into());
    }
    Ok(Scale {
        items: load.items(),
        filled,
        batches,
        reads: reads(time, &proved.database, &mut load)?,
        proofs: proofs(time, &proved.database, &mut load)?,
        commitments: commitments(&proved.database)?,
        file: fs::metadata(&path)?.len(),
    })
}

fn open(options: &Options, path: &Path) -> folio_store::Result<Database> {
    let mut builder = Database::builder().cache_size(options.cache);
    builder = builder.durability(Durability::Immediate);
    builder.open_or_create(path)
}

/// Fills a vault; gives back the operations a second that took, and the height of its chain.
fn fill(options: &Options, path: &Path, scale: u64, load: &mut Load) -> Outcome<(f64, u64)> {
    let mut proved = Proved {
        database: open(options, path)?,
        index: 0,
    };
    proved.apply(Command::create_vault("measured"))?;
    let (done, took) = options.time.of(|| {
        while load.items() < scale {
            let operations = (scale - load.items()).min(1000);
            proved.commit(load.fill(operations))?;
            if proved.index.is_multiple_of(20) {
                proved.database.checkpoint(GroupSet::ALL)?;
            }
        }
        Outcome::Ok(proved.database.checkpoint(GroupSet::ALL)?)
    })?;
    done?;
    let filled = scale as f64 / took.as_secs_f64();
    let height = proved.index - 1;
    proved.database.close()?;
    Ok((filled, height))
}

fn batch(
    options: &Options,
    operations: u64,
    load: &mut Load,
    both: &mut (&mut Proved, &mut Unproved),
) -> Outcome<Batch> {
    let wanted = match operations {
        1 => TURN_OF_SINGLES,
        _ => TURN,
    };
    let mut with_roots = Vec::new();
    let mut without = Vec::new();
    for round in 0..options.rounds {
        let proved_first = round % 2 == 0;
        let (with, bare) = turn(options.time, load, operations, wanted, both, proved_first)?;
        with_roots.push(with);
        without.push(bare);
    }
    Ok(Batch {
        operations,
        with_roots: median(with_roots),
        without: median(without),
    })
}

/// Applies the same transactions to both and gives back what each took.
fn turn(
    time: Time,
    load: &mut Load,
    operations: u64,
    wanted: u64,
    (proved, unproved): &mut (&mut Proved, &mut Unproved),
    proved_first: bool,
) -> Outcome<(Cost, Cost)> {
    let entries = wanted.div_ceil(operations);
    let transactions: Vec<_> = (0..entries).map(|_| load.change(operations)).collect();
    let total = entries * operations;
    let with_roots = |proved: &mut Proved| {
        let database = proved.database.clone();
        let transactions = transactions.clone();
        timed(time, &database, total, move || {
            transactions
                .into_iter()
                .try_for_each(|transaction| proved.commit(transaction))
        })
    };
    let bare = |unproved: &mut Unproved| {
        let database = unproved.database().clone();
        timed(time, &database, total, || {
            Ok(transactions
                .iter()
                .try_for_each(|transaction| unproved.apply(transaction))?)
        })
    };
    if proved_first {
        let with = with_roots(proved)?;
        Ok((with, bare(unproved)?))
    } else {
        let without = bare(unproved)?;
        Ok((with_roots(proved)?, without))
    }
}

fn timed(
    time: Time,
    database: &Database,
    operations: u64,
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<Cost> {
    let (measured, hashes) = hashes_of(|| time.of(work));
    let (done, apply) = measured?;
    done?;
    let written = database.statistics().pages_written;
    let (done, checkpoint) = time.of(|| database.checkpoint(GroupSet::ALL))?;
    done?;
    Ok(Cost {
        apply: per(apply, operations),
        checkpoint: per(checkpoint, operations),
        pages: (database.statistics().pages_written - written) as f64 / operations as f64,
        hashes: hashes as f64 / operations as f64,
    })
}

fn per(time: Duration, times: u64) -> Duration {
    Duration::from_secs_f64(time.as_secs_f64() / times as f64)
}

fn median(costs: Vec<Cost>) -> Cost {
    fn middle<T: Copy>(costs: &[Cost], of: impl Fn(&Cost) -> T, by: impl Fn(&T) -> f64) -> T {
        let mut values: Vec<T> = costs.iter().map(of).collect();
        values.sort_by(|a, b| by(a).total_cmp(&by(b)));
        values[values.len() / 2]
    }
    Cost {
        apply: middle(&costs, |cost| cost.apply, Duration::as_secs_f64),
        checkpoint: middle(&costs, |cost| cost.checkpoint, Duration::as_secs_f64),
        pages: middle(&costs, |cost| cost.pages, |&pages| pages),
        hashes: middle(&costs, |cost| cost.hashes, |&hashes| hashes),
    }
}

fn reads(time: Time, database: &Database, load: &mut Load) -> Outcome<Reads> {
    let view = database.begin_read()?;
    let ledger = LedgerView::new(&view);
    let keys: Vec<_> = (0..READS).map(|_| load.some_key()).collect();
    let (done, entity) = time.of(|| {
        keys.iter().try_for_each(|key| {
            let found = ledger.entity(VAULT, key)?;
            found.map(drop).ok_or("an entity is missing".into())
        })
    })?;
    let done: Outcome<()> = done;
    done?;
    let relationships: Vec<_> = (0..READS).map(|_| load.some_relationship()).collect();
    let (done, relationship) = time.of(|| {
        relationships.iter().try_for_each(|relationship| {
            match ledger.relationship_exists(VAULT, relationship)? {
                true => Ok(()),
                false => Err("a relationship is missing".into()),
            }
        })
    })?;
    let done: Outcome<()> = done;
    done?;
    let (listed, listing) = time.of(|| {
        keys.iter().take(1000).try_fold(0, |listed, key| {
            let page = ledger.entities(VAULT, b"account:", Some(key), 100)?;
            Outcome::Ok(listed + page.items.len() as u64)
        })
    })?;
    Ok(Reads {
        entity: entity / READS,
        relationship: relationship / READS,
        listed: per(listing, listed?),
    })
}

fn proofs(time: Time, database: &Database, load: &mut Load) -> Outcome<Proofs> {
    let view = database.begin_read()?;
    let ledger = LedgerView::new(&view);
    let root = ledger.vault(VAULT)?.ok_or("no vault")?.state_root;
    let items: Vec<_> = (0..PROOFS).map(|_| load.some_item()).collect();
    let (proofs, build) = time.of(|| {
        let proofs = items.iter().map(|(key, _)| ledger.prove(VAULT, key));
        proofs.collect::<Result<Vec<_>, _>>()
    })?;
    let proofs = proofs?;
    let (done, verify) = time.of(|| {
        let mut proofs = proofs.iter().zip(&items);
        proofs.try_for_each(|(proof, (key, there))| match there {
            true => proof.verify_present(&root, key),
            false => proof.verify_absent(&root, key),
        })
    })?;
    done?;
    let sizes = proofs
        .iter()
        .map(|proof| Ok(postcard::to_allocvec(proof)?.len()))
        .collect::<Outcome<Vec<_>>>()?;
    Ok(Proofs {
        build: build / PROOFS,
        verify: verify / PROOFS,
        mean_bytes: sizes.iter().sum::<usize>() as f64 / f64::from(PROOFS),
        most_bytes: sizes.into_iter().max().unwrap_or(0),
        counted: PROOFS,
    })
}
