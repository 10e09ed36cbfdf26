//! What a subscriber of `tracing` sees of the engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
};

use folio_store::{CompactOptions, Database, Table, storage::MemoryStorage};
use tracing::{Event, Metadata, Subscriber, span};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = u64;
}

/// Notes the names of spans in the order in which they begin.
#[derive(Clone, Default)]
struct Names {
    names: Arc<Mutex<Vec<&'static str>>>,
    next: Arc<AtomicU64>,
}

impl Subscriber for Names {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.names.lock().unwrap().push(span.metadata().name());
        span::Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn opening_recovery_commits_flushes_and_compaction_are_spans() {
    let names = Names::default();
    let seen = |act: &dyn Fn()| {
        tracing::subscriber::with_default(names.clone(), act);
        std::mem::take(&mut *names.names.lock().unwrap())
    };
    let storage = Arc::new(MemoryStorage::new());
    Database::builder().create_on(storage.clone()).unwrap();
    let open = || Database::builder().open_on(storage.clone()).unwrap();
    assert_eq!(seen(&|| drop(open())), ["open", "recovery"]);
    let db = open();
    let insert = || {
        let txn = db.begin_write().unwrap();
        txn.table::<Rows>().unwrap().insert(1, 2).unwrap();
        txn.commit().unwrap();
    };
    assert_eq!(seen(&insert), ["commit", "flush"]);
    let compact = || {
        let options = CompactOptions::new();
        db.compact(options, |_, _| ControlFlow::Continue(()))
            .unwrap();
    };
    assert_eq!(seen(&compact)[0], "compact");
}
