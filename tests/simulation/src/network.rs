//! The network between the nodes: every message has a fate of its own, drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use folio_raft::NodeId;
use folio_raft::transport::{BoxFuture, Handler, Transport, TransportError};
use folio_store::storage::SplitMix64;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::world::{Machine, World};

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest way takes so many milliseconds.
    pub least: u64,
    /// And up to so many more.
    pub spread: u64,
    /// Of a thousand messages, so many are lost.
    pub lost: u64,
    /// Of a thousand messages, so many arrive twice.
    pub doubled: u64,
    /// Of a thousand messages, so many take up to a second more.
    pub late: u64,
}

impl Weather {
    /// A local network on a good day.
    pub const FAIR: Self = Self {
        least: 0,
        spread: 3,
        lost: 0,
        doubled: 0,
        late: 0,
    };
}

/// The network.
pub struct Network {
    world: Arc<World>,
    state: Mutex<State>,
}

struct State {
    random: SplitMix64,
    weather: Weather,
    /// From the first to the second nothing comes through.
    cut: BTreeSet<(NodeId, NodeId)>,
    served: BTreeMap<NodeId, Served>,
    messages: u64,
}

#[derive(Clone)]
struct Served {
    machine: Arc<Machine>,
    handler: Arc<dyn Handler>,
}

impl Network {
    /// A network without nodes.
    #[must_use]
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let random = world.source();
        Arc::new(Self {
            world,
            state: Mutex::new(State {
                random,
                weather: Weather::FAIR,
                cut: BTreeSet::new(),
                served: BTreeMap::new(),
                messages: 0,
            }),
        })
    }

    /// The way into the network of the node on `machine`.
    #[must_use]
    pub fn transport(self: &Arc<Self>, machine: Arc<Machine>) -> Arc<dyn Transport> {
        Arc::new(Port {
            network: self.clone(),
            machine,
        })
    }

    /// Changes how messages fare.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Cuts the way from one node to another.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.insert((from, to));
    }

    /// Mends all ways.
    pub fn mend(&self) {
        self.state.lock().cut.clear();
    }

    /// Takes a node off the network, with every answer that it still owes.
    pub fn unplug(&self, node: NodeId) {
        self.state.lock().served.remove(&node);
    }

    /// The messages sent so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.state.lock().messages
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.state.lock().cut.contains(&(from, to))
    }

    /// When the copies of a message arrive; none if it is lost.
    fn fates(&self) -> Vec<Duration> {
        let mut state = self.state.lock();
        state.messages += 1;
        let weather = state.weather;
        let random = &mut state.random;
        if random.below(1000) < weather.lost {
            return Vec::new();
        }
        let copies = 1 + u64::from(random.below(1000) < weather.doubled);
        let mut fate = || {
            let late = random.below(1000) < weather.late;
            let more = if late { random.below(1000) } else { 0 };
            Duration::from_millis(weather.least + random.below(weather.spread + 1) + more)
        };
        (0..copies).map(|_| fate()).collect()
    }

    /// What serves `node`, if it does.
    fn served(&self, node: NodeId) -> Option<Served> {
        self.state.lock().served.get(&node).cloned()
    }

    fn is_plugged(&self, machine: &Arc<Machine>) -> bool {
        self.served(machine.node)
            .is_some_and(|served| Arc::ptr_eq(&served.machine, machine))
    }

    /// One copy of a request on its way, and its answer on its way back.
    async fn deliver(self: Arc<Self>, message: Message) -> Option<Result<Vec<u8>, Down>> {
        let Message {
            from,
            to,
            number,
            after,
            request,
        } = message;
        sleep(after).await;
        if self.is_cut(from, to) {
            return None;
        }
        let Some(Served { machine, handler }) = self.served(to) else {
            // One that is down is told of now and then; mostly nobody answers.
            let told = self.state.lock().random.one_in(2);
            return told.then_some(Err(Down));
        };
        self.world.note(format_args!(
            "{from} > {to} #{number}, {} bytes",
            request.len()
        ));
        let handling = machine.spawn(async move { handler.handle(from, request).await });
        let answer = match handling.await {
            Ok(answer) => answer,
            Err(error) => {
                self.world.violate(format!("node {to} panicked: {error}"));
                return None;
            }
        };
        let after = *self.fates().first()?;
        let plugged = self.is_plugged(&machine);
        sleep(after).await;
        if !plugged || self.is_cut(to, from) {
            return None;
        }
        self.world.note(format_args!(
            "{from} < {to} #{number}, {} bytes",
            answer.len()
        ));
        Some(Ok(answer))
    }
}

struct Message {
    from: NodeId,
    to: NodeId,
    number: u64,
    after: Duration,
    request: Vec<u8>,
}

/// The node is not there.
struct Down;

/// One node's way into the network.
struct Port {
    network: Arc<Network>,
    machine: Arc<Machine>,
}

impl Transport for Port {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let reply = Arc::new(Mutex::new(Some(reply)));
            if self.network.is_plugged(&self.machine) {
                let fates = self.network.fates();
                let number = self.network.messages();
                for after in fates {
                    let message = Message {
                        from,
                        to,
                        number,
                        after,
                        request: request.clone(),
                    };
                    let (network, reply) = (self.network.clone(), reply.clone());
                    self.network.world.spawn(async move {
                        if let Some(outcome) = network.deliver(message).await
                            && let Some(reply) = reply.lock().take()
                        {
                            // The caller may have stopped waiting.
                            let _ = reply.send(outcome);
                        }
                    });
                }
            }
            // Kept: a message that is lost is not an answer.
            let outcome = timeout(deadline, answer).await;
            drop(reply);
            match outcome {
                Ok(Ok(Ok(answer))) => Ok(answer),
                Ok(Ok(Err(Down)) | Err(_)) => Err(TransportError::Unreachable {
                    node: to,
                    address: address.to_owned(),
                    reason: "it is down".into(),
                }),
                Err(_) => Err(TransportError::TimedOut {
                    node: to,
                    waited: deadline,
                }),
            }
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let served = Served {
            machine: self.machine.clone(),
            handler,
        };
        self.network.state.lock().served.insert(node, served);
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.network.is_plugged(&self.machine) {
                self.network.unplug(self.machine.node);
            }
        })
    }
}
