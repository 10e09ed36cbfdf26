//! Durable writes of three nodes in one process, with the storage traits that `folio-raft` was built with. To compare:
//!
//! ```sh
//! cargo bench -p folio-benches --bench raft
//! cargo bench -p folio-benches --bench raft --features storage-v2
//! ```

#![allow(
    missing_docs,
    reason = "criterion's macros make a public function without"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use folio_benches::{State, scattered};
use folio_raft::{
    Applied, ApplyError, Config, ReplicatedDatabase, Role, StateMachine, TableSet,
    transport::MemoryNetwork,
};
use folio_store::{Database, WriteTransaction};
use tokio::{runtime::Runtime, task::JoinSet};

const PATIENCE: Duration = Duration::from_secs(30);

/// Puts 150 bytes in a place that depends on the command.
struct Puts;

impl StateMachine for Puts {
    type Command = u64;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<State>()
    }

    fn apply(&self, txn: &WriteTransaction, _: Applied, key: &u64) -> Result<(), ApplyError> {
        txn.table::<State>()?
            .insert(scattered(*key), [5; 150].as_slice())?;
        Ok(())
    }
}

type Node = ReplicatedDatabase<Puts>;

async fn cluster(folder: &std::path::Path) -> Vec<Node> {
    let network = MemoryNetwork::new();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let database = Database::create(folder.join(format!("{id}.folio"))).expect("a new file");
        let started = Node::start(Config::default(), id, database, Puts, network.transport());
        nodes.push(started.await.expect("a new node"));
    }
    let members: BTreeMap<_, _> = (1..=3).map(|id| (id, format!("memory:{id}"))).collect();
    nodes[0].initialize(members).await.expect("a new cluster");
    let leads = nodes[0].wait_for("leadership", PATIENCE, |status| status.role == Role::Leader);
    leads.await.expect("it stood alone");
    nodes
}

/// `count` writes by `clients` at a time.
async fn write(leader: &Node, clients: u64, count: u64, next: Arc<std::sync::atomic::AtomicU64>) {
    let mut writers = JoinSet::new();
    for client in 0..clients {
        let (leader, next) = (leader.clone(), next.clone());
        let share = count / clients + u64::from(client < count % clients);
        writers.spawn(async move {
            for _ in 0..share {
                let key = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                leader.write(key).await.expect("it leads");
            }
        });
    }
    writers.join_all().await;
}

fn writes(criterion: &mut Criterion) {
    let traits = if cfg!(feature = "storage-v2") {
        "storage-v2"
    } else {
        "RaftStorage"
    };
    let runtime = Runtime::new().expect("threads");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodes = runtime.block_on(cluster(folder.path()));
    let next = Arc::default();
    let mut group = criterion.benchmark_group("durable writes of three nodes");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for clients in [1, 64] {
        group.bench_function(format!("{traits}, {clients} clients"), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                let next = Arc::clone(&next);
                runtime.block_on(write(&nodes[0], clients, count, next));
                began.elapsed()
            });
        });
    }
    group.finish();
    runtime.block_on(async {
        for node in &nodes {
            node.kill().await;
        }
    });
}

criterion_group!(benches, writes);
criterion_main!(benches);
