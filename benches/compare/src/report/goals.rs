//! What Folio is meant to reach, as ratios of throughput within one run.

/// What a load of Folio is compared with.
#[derive(Clone, Copy)]
pub enum Other {
    /// The best of these engines in the same load; those that did not run are left out.
    Best(&'static [&'static str]),
    /// Folio itself in another load.
    Itself(&'static str),
}

pub struct Goal {
    pub load: &'static str,
    pub other: Other,
    pub at_least: f64,
}

const fn goal(load: &'static str, other: Other, at_least: f64) -> Goal {
    Goal {
        load,
        other,
        at_least,
    }
}

/// The copy-on-write engines without a log.
const COPY_ON_WRITE: Other = Other::Best(&["redb", "lmdb"]);
/// Those that append to a write-ahead log.
const WRITE_AHEAD: Other = Other::Best(&["canopydb", "fjall", "rocksdb"]);
const CANOPY: Other = Other::Best(&["canopydb"]);
const CANOPY_AND_SQLITE: Other = Other::Best(&["canopydb", "sqlite"]);
const ROCKSDB: Other = Other::Best(&["rocksdb"]);
const LMDB: Other = Other::Best(&["lmdb"]);
const REDB: Other = Other::Best(&["redb"]);

pub const GOALS: &[Goal] = &[
    goal("log-1", COPY_ON_WRITE, 1.3),
    goal("log-1", WRITE_AHEAD, 0.95),
    goal("log-16", COPY_ON_WRITE, 1.3),
    goal("log-16", WRITE_AHEAD, 0.95),
    goal("log-256", COPY_ON_WRITE, 1.3),
    goal("log-256", WRITE_AHEAD, 0.95),
    goal("mixed", COPY_ON_WRITE, 1.8),
    goal("mixed", CANOPY_AND_SQLITE, 1.0),
    goal("mixed", ROCKSDB, 1.0 / 1.3),
    goal("mixed-atomic", COPY_ON_WRITE, 1.3),
    goal("purge", COPY_ON_WRITE, 1.3),
    goal("bulk-sorted", Other::Itself("bulk-random"), 3.0),
    goal("bulk-random", COPY_ON_WRITE, 1.5),
    goal("bulk-random", ROCKSDB, 0.5),
    goal("read-1", LMDB, 1.3),
    goal("read-1", REDB, 1.7),
    goal("read-2", LMDB, 1.3),
    goal("read-2", REDB, 1.7),
    goal("read-small-cache", CANOPY, 1.0),
    goal("scan-10", LMDB, 1.2),
    goal("scan-10", REDB, 1.0),
    goal("scan-all", LMDB, 1.2),
    goal("scan-all", REDB, 1.0),
    goal("insert-1", COPY_ON_WRITE, 1.3),
    goal("insert-1", CANOPY, 1.0),
    goal("insert-32", Other::Itself("insert-1"), 8.0),
    goal("insert-32", REDB, 8.0),
    goal("open", LMDB, 1.0),
    goal("delete-compact", LMDB, 1.5),
];
