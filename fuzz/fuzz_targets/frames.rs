//! Messages from a peer, as they come out of a connection. Whatever the bytes, they are answered.
//!
//! Run with `cargo +nightly fuzz run frames`.
#![no_main]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use folio_ledger::Ledger;
use folio_raft::transport::{BoxFuture, Handler, Transport, TransportError};
use folio_raft::{Config, NodeId, ReplicatedDatabase};
use folio_store::Database;
use libfuzzer_sys::fuzz_target;

/// Keeps what a node serves, and reaches nobody.
#[derive(Default)]
struct Captured(Mutex<Option<Arc<dyn Handler>>>);

impl Transport for Captured {
    fn call<'a>(
        &'a self,
        _: NodeId,
        _: NodeId,
        _: &'a str,
        _: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        Box::pin(async { Err(TransportError::Serve("nobody is there".to_owned())) })
    }

    fn serve(&self, _: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        *self.0.lock().expect("whole") = Some(handler);
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    handler: Arc<dyn Handler>,
    _node: ReplicatedDatabase<Ledger>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = folio_fuzz::runtime();
        let transport = Arc::new(Captured::default());
        let database = Database::in_memory().expect("memory");
        let node = runtime.block_on(async {
            let node = ReplicatedDatabase::start(
                Config::default(),
                1,
                database,
                Ledger,
                transport.clone(),
            )
            .await
            .expect("started");
            // A leader with peers of which it hears nothing would stop to lead.
            node.initialize([(1, "here".to_owned())].into())
                .await
                .expect("new");
            node.wait_for_leader(Duration::from_secs(60))
                .await
                .expect("it leads");
            node
        });
        let handler = transport.0.lock().expect("whole").clone();
        World {
            runtime,
            handler: handler.expect("it serves"),
            _node: node,
        }
    })
}

/// The version of the messages, and those that mean nothing but by what is in them: append and vote are openraft's, which
/// trusts the members of its cluster.
const VERSION: u8 = 2;
const KINDS: [u8; 5] = [2, 3, 4, 5, 6];

fuzz_target!(|case: (Option<u8>, NodeId, Vec<u8>)| {
    let (kind, from, bytes) = case;
    let world = world();
    let request = match kind {
        Some(kind) => {
            let kind = KINDS[usize::from(kind) % KINDS.len()];
            [&[VERSION, kind], &bytes[..]].concat()
        }
        None if bytes.first() == Some(&VERSION) => return,
        None => bytes,
    };
    let answer = world.runtime.block_on(world.handler.handle(from, request));
    assert_eq!(answer.first(), Some(&VERSION), "there is an answer");
});
