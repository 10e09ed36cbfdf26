//! How two nodes greet each other on a stream of bytes, before anything else is said there.
//!
//! ```text
//! hello:   magic "FOLIORPC", version u16, from u64, to u64, cluster name (u8 length and bytes)
//! answer:  status u8 (0 welcome, 1 version, 2 cluster, 3 node, 4 certificate);
//!          after 1: version u16
//! ```
//! Integers are little-endian. The hello names both ends, so a node that was given another's
//! address is refused instead of served.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::TransportError;
use super::wire::Proof;
use crate::types::NodeId;

const MAGIC: &[u8; 8] = b"FOLIORPC";
/// Of the greeting and of what follows it.
pub(super) const VERSION: u16 = 1;
/// How long a new connection may take to say hello.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const OTHER_CLUSTER: &str = "it belongs to another cluster";
pub(super) const OTHER_NODE: &str = "another node listens there";
pub(super) const OTHER_CERTIFICATE: &str = "this node's certificate is that of another node";

/// What a node is told that speaks `ours` to one that speaks `theirs`.
pub(super) fn other_version(theirs: u16, ours: impl std::fmt::Display) -> String {
    format!("it speaks version {theirs} of the protocol, and this node version {ours}")
}

/// The first byte that a client without TLS reads from a server with it.
const TLS_ALERT: u8 = 21;

/// The answer to a hello.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Welcome = 0,
    Version = 1,
    Cluster = 2,
    Node = 3,
    Certificate = 4,
}

/// Refuses a name that a hello has no room for.
pub(super) fn check_cluster(name: &str) -> Result<(), TransportError> {
    if name.len() > usize::from(u8::MAX) {
        return Err(TransportError::Serve(format!(
            "the cluster name has {} bytes, above the limit of {}",
            name.len(),
            u8::MAX
        )));
    }
    Ok(())
}

/// Says hello. The inner error is the peer's reason to refuse.
pub(super) async fn say(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    from: NodeId,
    to: NodeId,
    cluster: &str,
) -> io::Result<Result<(), String>> {
    stream.write_all(&encode(from, to, cluster)).await?;
    stream.flush().await?;
    let status = stream.read_u8().await?;
    let refusal = match status {
        _ if status == Status::Welcome as u8 => return Ok(Ok(())),
        _ if status == Status::Version as u8 => other_version(stream.read_u16_le().await?, VERSION),
        _ if status == Status::Cluster as u8 => OTHER_CLUSTER.to_owned(),
        _ if status == Status::Node as u8 => OTHER_NODE.to_owned(),
        _ if status == Status::Certificate as u8 => OTHER_CERTIFICATE.to_owned(),
        TLS_ALERT => "it expects TLS, and this node was not given any".to_owned(),
        _ => format!("with the unknown status {status}"),
    };
    Ok(Err(refusal))
}

/// Reads a hello to `node` and answers it. None: the peer was refused.
pub(super) async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    node: NodeId,
    cluster: &str,
    proof: &Proof,
) -> io::Result<Option<NodeId>> {
    let mut magic = [0u8; 8];
    stream.read_exact(&mut magic).await?;
    if &magic != MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a node of a Folio cluster",
        ));
    }
    let version = stream.read_u16_le().await?;
    if version != VERSION {
        stream.write_u8(Status::Version as u8).await?;
        stream.write_u16_le(VERSION).await?;
        stream.flush().await?;
        return Ok(None);
    }
    let from = stream.read_u64_le().await?;
    let to = stream.read_u64_le().await?;
    let mut theirs = vec![0u8; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut theirs).await?;
    let status = if theirs != cluster.as_bytes() {
        Status::Cluster
    } else if to != node {
        Status::Node
    } else if !proof.allows(from) {
        Status::Certificate
    } else {
        Status::Welcome
    };
    stream.write_u8(status as u8).await?;
    stream.flush().await?;
    Ok((status == Status::Welcome).then_some(from))
}

fn encode(from: NodeId, to: NodeId, cluster: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + cluster.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&from.to_le_bytes());
    bytes.extend_from_slice(&to.to_le_bytes());
    let length = u8::try_from(cluster.len()).expect("check_cluster refuses longer names");
    bytes.push(length);
    bytes.extend_from_slice(cluster.as_bytes());
    bytes
}
