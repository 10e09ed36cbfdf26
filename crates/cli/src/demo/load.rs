//! Loading the purchases: every one a transaction, many at a time.
//!
//! The transactions of a customer depend on each other, since each is conditional on the version that the one before
//! left. So customers are dealt out to lanes: a lane is a client with a session of its own that sends one transaction
//! after the other, and repeats one until it is answered. Within a session a repeated transaction happens once, also
//! when its first answer was lost with the leader that gave it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use folio_ledger::command::Command;
use folio_ledger::response::{Outcome, Response};
use folio_raft::NodeId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::{Acknowledged, Cluster};
use super::data::{DataSet, Purchase};
use super::rows::{CustomerRow, transaction};
use crate::run::Failure;

/// How many transactions are on the way at a time.
const LANES: usize = 1024;

/// A load under way, shared by the lanes and by whoever stops the leader meanwhile.
pub struct Load {
    cluster: Arc<Cluster>,
    data: Arc<DataSet>,
    vault: u64,
    sent: AtomicU64,
    acknowledged: watch::Sender<u64>,
    outage: watch::Sender<Outage>,
    on_acknowledged: Box<dyn Fn() + Send + Sync>,
}

/// What is known of the failure of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// No leader is going to be stopped.
    NotPlanned,
    /// One is going to be.
    Planned,
    /// One was.
    Begun { node: NodeId, at: Instant },
    /// And another node has acknowledged a write since, that long after.
    Over { node: NodeId, lasted: Duration },
}

impl Load {
    /// Creates a vault for the purchases. `on_acknowledged` is called for each transaction that is acknowledged.
    pub async fn prepare(
        cluster: Arc<Cluster>,
        data: Arc<DataSet>,
        with_outage: bool,
        on_acknowledged: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Load>, Failure> {
        let vault = match cluster
            .write(&Command::create_vault("purchases"))
            .await?
            .response
        {
            Response::VaultCreated { vault, .. } => vault,
            other => return Err(unexpected("creating a vault", &other)),
        };
        Ok(Arc::new(Load {
            cluster,
            data,
            vault,
            sent: AtomicU64::new(0),
            acknowledged: watch::Sender::new(0),
            outage: watch::Sender::new(if with_outage {
                Outage::Planned
            } else {
                Outage::NotPlanned
            }),
            on_acknowledged: Box::new(on_acknowledged),
        }))
    }

    /// The vault with the purchases.
    pub fn vault(&self) -> u64 {
        self.vault
    }

    /// Loads all purchases.
    pub async fn run(self: &Arc<Self>) -> Result<(), Failure> {
        let mut lanes = JoinSet::new();
        for places in deal(&self.data.purchases, LANES) {
            lanes.spawn(self.clone().lane(places));
        }
        while let Some(ended) = lanes.join_next().await {
            ended.map_err(|error| {
                Failure::Error(format!("a client of the demo broke off: {error}"))
            })??;
        }
        Ok(())
    }

    /// Waits until this many transactions are acknowledged.
    pub async fn acknowledged(&self, count: u64) {
        // The sender lives as long as this value.
        let _ = self
            .acknowledged
            .subscribe()
            .wait_for(|acknowledged| *acknowledged >= count)
            .await;
    }

    /// Marks the moment at which the leader stops.
    pub fn outage_begins(&self, node: NodeId) {
        self.outage.send_replace(Outage::Begun {
            node,
            at: Instant::now(),
        });
    }

    /// Waits until another node has acknowledged a write, and returns the time that took.
    pub async fn outage_over(&self) -> Duration {
        let mut outage = self.outage.subscribe();
        loop {
            if let Outage::Over { lasted, .. } = *outage.borrow_and_update() {
                return lasted;
            }
            // The sender lives as long as this value.
            let _ = outage.changed().await;
        }
    }

    /// Sends the purchases at these places of the file, one after the other.
    async fn lane(self: Arc<Self>, places: Vec<usize>) -> Result<(), Failure> {
        let session = match self.cluster.write(&Command::open_session()).await?.response {
            Response::SessionOpened { session } => session,
            other => return Err(unexpected("opening a session", &other)),
        };
        let mut totals: HashMap<u64, CustomerRow> = HashMap::new();
        for (sequence, place) in (1..).zip(places) {
            self.hold_back_the_last().await;
            let purchase = &self.data.purchases[place];
            let customer = totals.entry(purchase.customer).or_default();
            let transaction = transaction(self.vault, place + 1, purchase, *customer);
            let command = Command::submit(transaction).in_session(session, sequence);
            let Acknowledged { response, by } = self.cluster.write(&command).await?;
            *customer = customer.with(purchase);
            expect_done(&response, customer.purchases)?;
            self.note_acknowledged(by);
        }
        Ok(())
    }

    /// Keeps the last transaction until the leader was stopped, so that there is one to be acknowledged after it, however
    /// few there are.
    async fn hold_back_the_last(&self) {
        let sent = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        if sent == self.data.totals.purchases {
            let _ = self
                .outage
                .subscribe()
                .wait_for(|outage| *outage != Outage::Planned)
                .await;
        }
    }

    fn note_acknowledged(&self, by: NodeId) {
        self.acknowledged.send_modify(|count| *count += 1);
        self.outage.send_if_modified(|outage| match *outage {
            Outage::Begun { node, at } if node != by => {
                *outage = Outage::Over {
                    node,
                    lasted: at.elapsed(),
                };
                true
            }
            _ => false,
        });
        (self.on_acknowledged)();
    }
}

/// Deals the customers out to lanes, so that lanes have equally much to do, and returns for each lane the places of its
/// purchases in ascending order.
fn deal(purchases: &[Purchase], lanes: usize) -> Vec<Vec<usize>> {
    let mut by_customer: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, purchase) in purchases.iter().enumerate() {
        by_customer
            .entry(purchase.customer)
            .or_default()
            .push(place);
    }
    let lane_count = lanes.min(by_customer.len());
    let mut customers: Vec<Vec<usize>> = by_customer.into_values().collect();
    customers.sort_by_key(|places| (Reverse(places.len()), places.first().copied()));
    let mut shortest: BinaryHeap<Reverse<(usize, usize)>> =
        (0..lane_count).map(|lane| Reverse((0, lane))).collect();
    let mut dealt = vec![Vec::new(); lane_count];
    for places in customers {
        let Some(Reverse((length, lane))) = shortest.pop() else {
            break;
        };
        shortest.push(Reverse((length + places.len(), lane)));
        dealt[lane].extend(places);
    }
    for places in &mut dealt {
        places.sort_unstable();
    }
    dealt
}

/// The purchase and the relationship were created, and the customer has this version now.
fn expect_done(response: &Response, version: u64) -> Result<(), Failure> {
    let customer = match version {
        1 => Outcome::EntityCreated,
        version => Outcome::EntityUpdated { version },
    };
    match response {
        Response::Committed(receipt)
            if receipt.outcomes
                == [
                    Outcome::EntityCreated,
                    customer,
                    Outcome::RelationshipCreated,
                ] =>
        {
            Ok(())
        }
        other => Err(unexpected("a purchase", other)),
    }
}

fn unexpected(what: &str, response: &Response) -> Failure {
    match response {
        Response::Rejected(rejection) => Failure::Error(format!("{what} was refused: {rejection}")),
        other => Failure::Error(format!("{what} was answered with {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchases(customers: &[u64]) -> Vec<Purchase> {
        let date = "1997-01-01".parse().expect("a date");
        customers
            .iter()
            .map(|&customer| Purchase {
                date,
                customer,
                discs: 1,
                cents: 1,
            })
            .collect()
    }

    #[test]
    fn a_customer_is_in_one_lane_and_in_the_order_of_the_file() {
        let purchases = purchases(&[1, 2, 1, 3, 1, 2, 4, 4, 1]);
        let lanes = deal(&purchases, 2);
        let mut all: Vec<usize> = lanes.concat();
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        for lane in &lanes {
            assert!(lane.is_sorted());
        }
        for customer in 1..=4 {
            let its = |lane: &&Vec<usize>| {
                lane.iter()
                    .any(|&place| purchases[place].customer == customer)
            };
            assert_eq!(lanes.iter().filter(its).count(), 1);
        }
        assert_eq!(lanes.iter().map(Vec::len).max(), Some(5));
    }

    #[test]
    fn there_are_no_more_lanes_than_customers() {
        assert_eq!(deal(&purchases(&[7, 7, 7]), 100), [[0, 1, 2]]);
    }
}
