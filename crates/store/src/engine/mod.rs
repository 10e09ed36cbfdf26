//! The state behind a `Database`, and who may touch which part of it.
//!
//! | part | held by |
//! |---|---|
//! | `gate` | the one write transaction |
//! | `savepoints` | whoever makes or ends a savepoint, in the place of the writer, while that becomes durable |
//! | `flusher` | the one flush, spill or write-back that is under way; held across I/O |
//! | `pending` | short: what commits hand to the next flush |
//! | `published` | shortest: the newest state, and the views that are open |
//! | `space` | short: which pages are free |
//!
//! Locks are taken in this order and never the other way round. Readers take `published` only, when a view opens and
//! closes.

mod commit;
mod discard;
mod durability;
mod elsewhere;
mod flush;
mod gate;
mod open;
mod pending;
mod savepoints;
mod scrub;
mod shrink;
mod spill;
mod verify;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{durability::Durability, flush::FlushKind, gate::Gate, pending::Pending};
pub(crate) use self::{
    flush::{Flusher, digest, verify_manifest},
    gate::{GateGuard, Patience},
    open::{GROWTH, OpenMode, OpenOptions, is_blank, pager, read_header},
    verify::{Pace, Pin, SystemClock, Walk},
};
pub use self::{
    scrub::{Scrub, ScrubOptions},
    verify::{Problem, VerifyOptions, VerifyReport},
};
use crate::{
    error::{Error, Result},
    file::Header,
    pager::Pager,
    space::{PageSet, SavepointRow, Space},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    tree::TreeRoot,
    types::Group,
};

/// The catalogs of all groups, in one state.
pub(crate) type Groups = [TreeRoot; Group::COUNT];

/// The open views of one state: see [`Database::readers`](crate::Database::readers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Reader {
    /// Who reads.
    pub place: ReaderPlace,
    /// The transaction that they show; none for verifications and backups, which read the file, and for readers elsewhere
    /// of whose commit this handle does not know it.
    pub transaction: Option<u64>,
    /// How many there are. Readers elsewhere of one commit count as one.
    pub count: u64,
    /// For how long there has been one of this state, without a break, or since a reader elsewhere was noticed. None of
    /// them is older.
    pub age: Duration,
    /// Pages that have been given up since and would be free without these views. A page that several states need is
    /// counted for each. Pages that wait for a flush are not counted.
    pub pages: u64,
}

/// Where a [`Reader`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReaderPlace {
    /// It is a view, a verification or a backup of this handle.
    Here,
    /// In another process, or another handle of this one, that has opened the file for reading.
    Elsewhere {
        /// The sequence number of the commit that it has pinned; none while it is about to choose one.
        commit: Option<u64>,
    },
}

/// What readers see.
pub(crate) struct Published {
    pub transaction: u64,
    pub groups: Groups,
    pub next_table: u32,
    pub views: pending::Views,
    /// Since when there have been views of each transaction without a break.
    pub since: std::collections::BTreeMap<u64, Instant>,
    /// Of the views, those that stand for readers elsewhere, by the commit that they have pinned or are about to.
    pub elsewhere: std::collections::BTreeMap<Option<u64>, elsewhere::Foreign>,
}

impl Published {
    fn add_view(&mut self, transaction: u64) {
        let count = self.views.entry(transaction).or_default();
        *count += 1;
        if *count == 1 {
            self.since.insert(transaction, Instant::now());
        }
    }

    fn close_view(&mut self, transaction: u64) {
        if let Some(count) = self.views.get_mut(&transaction) {
            *count -= 1;
            if *count == 0 {
                self.views.remove(&transaction);
                self.since.remove(&transaction);
            }
        }
    }
}

pub(crate) struct Engine {
    pub pager: Pager,
    pub space: Mutex<Space>,
    identity: [u8; 16],
    /// What the header says became of the file.
    marks: AtomicU64,
    published: Mutex<Published>,
    /// The savepoints that the newest durable slot lists, oldest first. If their list is damaged nothing is written.
    savepoints: Mutex<Result<Vec<SavepointRow>>>,
    pending: Mutex<Pending>,
    flusher: Mutex<Flusher>,
    durability: Durability,
    gate: Gate,
    /// The number of the next transaction or flush. Numbers of aborted ones are not used again.
    next_transaction: AtomicU64,
    /// Pages that the file does not hold, of commits and of the running transaction, before some are written early.
    unwritten_limit: usize,
    /// Pages written early that are remembered for a manifest; more are synced.
    unsynced_limit: usize,
    /// What commits do unless their transaction says otherwise.
    pub default_durability: crate::transaction::Durability,
    read_only: bool,
    closed: AtomicBool,
}

impl Engine {
    pub fn take_number(&self) -> u64 {
        self.next_transaction.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a view of the newest state.
    pub fn open_view(&self) -> Result<(u64, Groups)> {
        self.check_open()?;
        // One lock for reading the roots and registering: in between, the writer could give the pages away.
        let mut published = self.published.lock();
        let transaction = published.transaction;
        published.add_view(transaction);
        Ok((transaction, published.groups))
    }

    pub fn close_view(&self, transaction: u64) {
        self.published.lock().close_view(transaction);
    }

    pub fn published_transaction(&self) -> u64 {
        self.published.lock().transaction
    }

    pub fn durable_transaction(&self, group: Group) -> u64 {
        self.durability.reached(group)
    }

    pub fn views(&self) -> u64 {
        self.published
            .lock()
            .views
            .values()
            .map(|&count| count as u64)
            .sum()
    }

    /// The bytes of the pages that can be taken before the disk is full, if the storage knows.
    pub fn room(&self) -> Result<Option<u64>> {
        let beyond = self.pager.storage.room();
        let beyond = beyond.map_err(|error| self.pager.io_error("ask for room for", error))?;
        let pages = self.space.lock().untaken();
        let page_size = self.pager.page_size as u64;
        Ok(beyond.map(|bytes| bytes.saturating_add(pages.saturating_mul(page_size))))
    }

    /// The open views, oldest first, with the pages that each keeps from being used again; then those elsewhere.
    pub fn readers(&self) -> Vec<Reader> {
        let beside = self.commits_beside();
        let pending = self.pending.lock();
        let published = self.published.lock();
        let elsewhere = published.views_elsewhere();
        let transaction = |view: u64| (view != verify::PIN).then_some(view);
        let here = published.views.iter().map(|(&view, &count)| Reader {
            place: ReaderPlace::Here,
            transaction: transaction(view),
            count: (count - elsewhere.get(&view).unwrap_or(&0)) as u64,
            age: published
                .since
                .get(&view)
                .map_or(Duration::ZERO, Instant::elapsed),
            pages: pending.kept_for(view),
        });
        let elsewhere = published.elsewhere.iter().map(|(&commit, foreign)| Reader {
            place: ReaderPlace::Elsewhere { commit },
            transaction: transaction(foreign.view),
            count: 1,
            age: foreign.since.elapsed(),
            pages: pending.kept_for(foreign.view),
        });
        let beside = beside.into_iter().map(|commit| Reader {
            place: ReaderPlace::Elsewhere { commit },
            transaction: None,
            count: 1,
            age: Duration::ZERO,
            pages: 0,
        });
        here.filter(|reader| reader.count > 0)
            .chain(elsewhere)
            .chain(beside)
            .collect()
    }

    /// Pages that open views keep from being used again.
    pub fn kept_pages(&self) -> u64 {
        let pending = self.pending.lock();
        pending.waiting.values().map(PageSet::len).sum()
    }

    /// What all checksums of the file begin with.
    pub fn identity(&self) -> &[u8; 16] {
        &self.identity
    }

    pub fn marks(&self) -> u64 {
        self.marks.load(Ordering::Relaxed)
    }

    /// Adds marks to the header, durably.
    pub fn mark(&self, marks: u64) -> Result<()> {
        self.check_writable()?;
        let flusher = self.flusher.lock();
        let header = Header {
            page_size: self.pager.page_size,
            identity: self.identity,
            features: flusher.features,
            marks: self.marks() | marks,
        };
        open::write_header(&self.pager, &header)
            .inspect_err(|failure| self.durability.latch(failure))?;
        self.marks.store(header.marks, Ordering::Relaxed);
        Ok(())
    }

    pub fn dirty_pages(&self) -> u64 {
        self.pending.lock().dirty_pages() as u64
    }

    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed {
                file: self.pager.file.clone(),
            });
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.read_only {
            return Err(Error::ReadOnly {
                file: self.pager.file.clone(),
            });
        }
        self.durability.check(&self.pager.file)
    }

    /// Takes the place of the one writer, waiting for it, and a transaction number. `None` if patience ends first.
    pub fn begin_write(
        self: &Arc<Self>,
        patience: Patience,
    ) -> Result<Option<(GateGuard, u64, Groups, u32)>> {
        self.check_writable()?;
        let Some(guard) = Gate::enter(self, patience) else {
            return Ok(None);
        };
        self.check_writable()?;
        let (groups, next_table) = {
            let published = self.published.lock();
            (published.groups, published.next_table)
        };
        Ok(Some((guard, self.take_number(), groups, next_table)))
    }
}

/// A share in an open database. When the last one goes, the database closes.
pub(crate) struct Handle {
    engine: Arc<Engine>,
    pub scrubs: scrub::Scrubs,
}

impl Handle {
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            scrubs: scrub::Scrubs::default(),
        })
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // They hold the engine: whoever opens the file after this must find it free.
        self.scrubs.end();
        if let Err(failure) = self.engine.close() {
            tracing::error!(error = %failure, "the database was dropped and could not be closed in order");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Database, Error, Group, TableDefinition};

    #[test]
    fn a_table_never_gets_the_number_of_a_catalog() {
        let db = Database::in_memory().expect("memory");
        let last = u32::MAX - Group::COUNT as u32;
        db.handle().engine().published.lock().next_table = last;
        let table = |name: &str| TableDefinition {
            name: name.into(),
            group: Group::DEFAULT,
            key_type: "u64".into(),
            value_type: "u64".into(),
        };
        let txn = db.begin_write().expect("open");
        txn.untyped(&table("last"))
            .map(drop)
            .expect("a number is left");
        let refused = txn.untyped(&table("one more")).map(drop);
        assert!(matches!(refused, Err(Error::Configuration(_))));
    }
}
