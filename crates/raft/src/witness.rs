//! A member that only keeps the log.

use std::fmt::Debug;
use std::marker::PhantomData;

use folio_store::WriteTransaction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state_machine::{Applied, ApplyError, StateMachine, TableSet};

/// The state machine of a witness: a member that votes and stores the log, and holds no state.
///
/// `C` is the [`Command`](StateMachine::Command) of the cluster's real state machine, so that log
/// entries are the same. Two full replicas and a witness go on after the loss of any one of the three,
/// and the witness needs little disk: the part of the log that is not compacted.
///
/// ```no_run
/// # use folio_raft::{Config, ReplicatedDatabase, Witness};
/// # use folio_raft::transport::{NetworkConfig, TcpTransport};
/// # use folio_store::Database;
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// type Command = String;
///
/// let transport = TcpTransport::bind("10.0.0.3:7000", NetworkConfig::new("my cluster")).await?;
/// let witness = ReplicatedDatabase::start(
///     Config::default(),
///     3,
///     Database::builder().open_or_create("witness.folio")?,
///     Witness::<Command>::new(),
///     transport,
/// )
/// .await?;
/// # let _ = witness;
/// # Ok(())
/// # }
/// ```
///
/// It is added and removed like any member, and refuses to begin a cluster.
///
/// # What it does not do
///
/// - It answers neither reads nor writes: [`Error::Witness`](crate::Error::Witness).
/// - It leads only when nobody else can. A replica may lack entries that the leader and the witness had
///   acknowledged when the leader was lost; then the witness stands for election after three times
///   [`election_timeout_max`](crate::Config::election_timeout_max) without a leader, gives the replica
///   what it lacks, and hands over to it. Writes wait for both.
/// - It can give a replica only what is in its log, since it has no state to make a snapshot of. A replica
///   that is behind by more than [`log_entries_kept`](crate::Config::log_entries_kept) when the other one is
///   lost has to wait for that one. So a witness keeps more of the log than others need to: choose that
///   setting by how long a replica may be away.
/// - It protects no data. With a replica away, the other one has the only state.
///
/// A file is a witness's or a replica's. Started with a state machine, a witness's file becomes that of a
/// replica which rebuilds its state; the other way round is refused.
pub struct Witness<C>(PhantomData<fn() -> C>);

impl<C> Witness<C> {
    /// A witness for commands of this type.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<C> Default for Witness<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> StateMachine for Witness<C>
where
    C: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    type Command = C;
    type Response = ();

    const HOLDS_STATE: bool = false;

    fn tables(&self) -> TableSet {
        TableSet::new()
    }

    fn apply(&self, _: &WriteTransaction, _: Applied, _: &C) -> Result<(), ApplyError> {
        Err(ApplyError::Fatal(
            "a witness has nothing to apply to".into(),
        ))
    }
}
