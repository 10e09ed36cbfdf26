//! The sending side: openraft's network on a [`Transport`].

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, InstallSnapshotError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed,
    StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, Snapshot};

use super::link::{Link, LinkError};
use super::message::{Appended, Request, Response, encode};
use super::sender::{Interrupted, Terms, TransferError};
use crate::config::Config;
use crate::leadership::{Disclosed, Promises};
use crate::state_machine::StateMachine;
use crate::store::Flushing;
use crate::transport::TransportError;
use crate::types::{Node, NodeId, TypeConfig, Vote};

/// Makes a [`Peer`] for each member.
pub(crate) struct Peers<S> {
    pub link: Link,
    /// How long to leave a peer alone that could not be reached.
    pub retry_interval: Duration,
    pub disclosed: Arc<Disclosed>,
    pub promises: Arc<Promises>,
    pub flushing: Arc<Flushing>,
    pub machine: PhantomData<fn() -> S>,
}

impl<S> Clone for Peers<S> {
    fn clone(&self) -> Self {
        Self {
            link: self.link.clone(),
            retry_interval: self.retry_interval,
            disclosed: self.disclosed.clone(),
            promises: self.promises.clone(),
            flushing: self.flushing.clone(),
            machine: PhantomData,
        }
    }
}

impl<S: StateMachine> RaftNetworkFactory<TypeConfig<S>> for Peers<S> {
    type Network = Peer<S>;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> Peer<S> {
        Peer {
            link: self.link.clone(),
            target,
            address: node.addr.clone(),
            retry_interval: self.retry_interval,
            disclosed: self.disclosed.clone(),
            promises: self.promises.clone(),
            flushing: self.flushing.clone(),
            interrupted: Interrupted::default(),
            machine: PhantomData,
        }
    }
}

/// One member, as seen from this node.
pub(crate) struct Peer<S> {
    pub(super) link: Link,
    pub(super) target: NodeId,
    address: String,
    retry_interval: Duration,
    disclosed: Arc<Disclosed>,
    promises: Arc<Promises>,
    flushing: Arc<Flushing>,
    pub(super) interrupted: Interrupted,
    machine: PhantomData<fn() -> S>,
}

type RpcResult<T, E> = Result<T, RPCError<NodeId, Node, RaftError<NodeId, E>>>;

impl<S: StateMachine> Peer<S> {
    async fn call<E: std::error::Error>(
        &self,
        kind: RPCTypes,
        request: Request<S>,
        option: &RPCOption,
    ) -> RpcResult<Response, E> {
        let bytes = encode(&request).map_err(|e| self.failed(kind, LinkError::Encode(e)))?;
        if let Request::Append(append) = &request
            && bytes.len() > Config::MESSAGE_LIMIT
            && append.entries.len() > 1
        {
            let fewer = append.entries.len() as u64 / 2;
            return Err(PayloadTooLarge::new_entries_hint(fewer).into());
        }
        self.exchange(bytes, option.hard_ttl())
            .await
            .map_err(|error| self.failed(kind, error))
    }

    /// Sends an encoded request and gives the answer to it.
    pub(super) async fn exchange(
        &self,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Response, LinkError> {
        self.link
            .exchange(self.target, &self.address, request, deadline)
            .await
    }

    fn failed<E: std::error::Error>(
        &self,
        kind: RPCTypes,
        error: LinkError,
    ) -> RPCError<NodeId, Node, RaftError<NodeId, E>> {
        match error {
            LinkError::Transport(TransportError::TimedOut { waited, .. }) => Timeout {
                action: kind,
                id: self.link.node,
                target: self.target,
                timeout: waited,
            }
            .into(),
            error => Unreachable::new(&error).into(),
        }
    }

    fn unexpected<E: std::error::Error>(
        &self,
        response: Response,
    ) -> RPCError<NodeId, Node, RaftError<NodeId, E>> {
        other(format!("node {}: {}", self.target, response.unexpected()))
    }
}

/// An error after which the peer is left alone for a while. After any other, a timeout apart, openraft sends again at once, and
/// what fails at once would keep a processor busy.
fn other<E: std::error::Error>(reason: String) -> RPCError<NodeId, Node, RaftError<NodeId, E>> {
    Unreachable::from(AnyError::error(reason)).into()
}

impl<S: StateMachine> RaftNetwork<TypeConfig<S>> for Peer<S> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<S>>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<NodeId>, openraft::error::Infallible> {
        if let Some(committed) = rpc.leader_commit {
            // Entries in the same message wait with it, which delays no commit: a majority has them.
            if !self.flushing.reached(committed.index).await {
                return Err(other("the log of this node cannot be written".into()));
            }
            self.disclosed.note(committed.index);
        }
        let request = Request::Append(rpc);
        match self.call(RPCTypes::AppendEntries, request, &option).await? {
            Response::Append(Appended { response, promise }) => {
                self.promises.note(self.target, promise);
                Ok(response)
            }
            response => Err(self.unexpected(response)),
        }
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig<S>>,
        _: RPCOption,
    ) -> RpcResult<InstallSnapshotResponse<NodeId>, InstallSnapshotError> {
        // Only the provided `full_snapshot` calls it.
        Err(other("snapshots are not sent by this call".into()))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<NodeId>, openraft::error::Infallible> {
        match self
            .call(RPCTypes::Vote, Request::Vote(rpc), &option)
            .await?
        {
            Response::Vote(response) => Ok(response),
            response => Err(self.unexpected(response)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig<S>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig<S>, Fatal<NodeId>>> {
        let terms = Terms {
            vote,
            deadline: option.hard_ttl(),
            part: option.snapshot_chunk_size().unwrap_or(1 << 20),
        };
        let outcome = tokio::select! {
            biased;
            outcome = self.bring(terms, snapshot) => outcome,
            closed = cancel => return Err(closed.into()),
        };
        match outcome {
            Ok(()) => Ok(SnapshotResponse { vote }),
            Err(TransferError::Outvoted(higher)) => Ok(SnapshotResponse { vote: higher }),
            Err(TransferError::Link(LinkError::Transport(TransportError::TimedOut {
                waited,
                ..
            }))) => Err(Timeout {
                action: RPCTypes::InstallSnapshot,
                id: self.link.node,
                target: self.target,
                timeout: waited,
            }
            .into()),
            // openraft takes a failure of the store for the end of the node; whatever this is, it
            // concerns this transfer only.
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.retry_interval))
    }
}
