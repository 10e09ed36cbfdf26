//! A Folio node: one member of a cluster, its HTTP API, and the offline tools for its file.
//!
//! [`Node`] opens the file, joins its peers and answers reads and writes in the process; [`api::router`] puts the
//! HTTP API in front of it; [`offline`] looks into a file that no node has open.

pub mod access;
mod address;
mod agreement;
pub mod api;
mod backups;
mod feeds;
mod invitation;
mod network;
mod node;
pub mod offline;
mod server;
#[cfg(feature = "otlp")]
mod traces;
pub mod verification;

pub use address::{MemberAddress, is_host_and_port};
pub use invitation::{Invitation, InvitationError, SignedInvitation};
pub use network::{AddressError, resolve};
pub use node::{DEFAULT_CACHE_BYTES, Node, NodeError, NodeOptions};
pub use server::{Limits, serve};
#[cfg(feature = "otlp")]
pub use traces::{Traces, TracesError};
